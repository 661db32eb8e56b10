"""What the hooks of a store must return, and errors that tell their author what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import wraps
from typing import Any, cast

from keyvalue._core import wording
from keyvalue._core.entry import Entry

__all__ = ["NO_CALL", "check_entries", "check_init", "check_outcomes", "explain_get", "hook_error", "not_awaitable"]

NO_CALL: Any = object()
"""In place of what a hook returned, before it is called."""

_ENTRY_TYPES = frozenset({Entry, type(None)})
_GET_RETURNS = "must return a sequence with an Entry or None for each key"
_RETURNS = {
    "_put": "None, or for each entry None or the error to raise",
    "_delete": "for each key whether it held an entry, or the error to raise",
}


def hook_error(store: object, hook: str, problem: str) -> RuntimeError:
    """Return the error to raise for a hook that does something wrong."""
    return RuntimeError(f"{type(store).__name__}.{hook} {problem}")


def not_awaitable(store: object, hook: str, returned: object) -> RuntimeError:
    """Return the error to raise for a hook that is no coroutine."""
    return hook_error(store, hook, f"returned {wording.describe(returned)}, which can't be awaited; write it with `async def`")


def explain_get(store: object, call: object, error: Exception) -> None:
    """Raise an error that says what is wrong with `_get`, if an error comes from the very function that awaits it.

    Args:
        store: The store.
        call: What `_get` returned; `NO_CALL` before it is called.
        error: The error.
    """
    if call is NO_CALL or error.__traceback__ is None or error.__traceback__.tb_next is not None:
        return
    if not inspect.isawaitable(call):
        raise not_awaitable(store, "_get", call) from None
    if isinstance(error, AttributeError) or "unpack" in str(error) or "len()" in str(error):
        raise hook_error(store, "_get", _GET_RETURNS) from error


def check_entries(store: object, found: Sequence[object], count: int, wanted: int) -> None:
    """Check what `_get` returned for some keys.

    Args:
        store: The store.
        found: What it returned.
        count: How many items that has.
        wanted: How many keys there are.
    """
    if count != wanted:
        raise hook_error(store, "_get", f"returned {count} entries for {wanted} keys; it must return one for each, or None")
    if not _ENTRY_TYPES.issuperset(map(type, found)) and not all(entry is None or isinstance(entry, Entry) for entry in found):
        raise hook_error(store, "_get", _GET_RETURNS)


def check_outcomes(store: object, hook: str, outcomes: object, count: int) -> Sequence[object]:
    """Return what `_put` or `_delete` returned for some keys, checked."""
    # Lists are most of what comes, and quickly told from others.
    found = cast("Sequence[object]", outcomes) if type(outcomes) is list or isinstance(outcomes, Sequence) else ()
    if len(found) != count:
        returned = wording.describe(outcomes)  # pyright: ignore[reportUnknownArgumentType] # it may be anything
        raise hook_error(store, hook, f"returned {returned} for {count} keys; it must return {_RETURNS[hook]}")
    return found


def check_init(kind: type[Any]) -> None:
    """Have a class's own constructor, unless it calls another, make sure that the one of `BaseStore` was called too."""
    init: Any = vars(kind).get("__init__")
    code = getattr(inspect.unwrap(init), "__code__", None) if inspect.isfunction(init) else None
    if code is None or "__init__" in code.co_names:
        return

    @wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if "_opened" not in vars(self) and type(self).__init__ is checked:
            raise RuntimeError(f"{type(self).__name__}.__init__ must call super().__init__(default_collection=…)")

    kind.__init__ = checked
