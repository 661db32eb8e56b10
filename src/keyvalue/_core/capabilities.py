"""Optional methods that an object has only if the objects beneath it have them.

`isinstance(x, AsyncEnumerateKeysProtocol)` looks a method up on the class (from Python 3.12 on, without running any code of `x`). So an
object needs a class with just the optional methods that it has: `add_capability_mixins` creates one from its own class and a mixin for
each capability. Methods bound on the instance would work too, but would make each object part of a reference cycle.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from keyvalue._core.documented import add_methods
from keyvalue._core.misuse import CAPABILITIES, Lacking
from keyvalue._core.wording import describe
from keyvalue.protocols import key_value as key_value_protocols
from keyvalue.protocols.key_value import (
    AsyncCullProtocol,
    AsyncDestroyCollectionProtocol,
    AsyncDestroyStoreProtocol,
    AsyncEnumerateCollectionsProtocol,
    AsyncEnumerateKeysProtocol,
    AsyncKeyValue,
)

__all__ = ["ALL", "add_capability_mixins", "capabilities_of", "create_with_mixins", "require_async", "split_by_capability"]

K = TypeVar("K", bound=AsyncKeyValue)

PROTOCOLS: Mapping[str, type[Any]] = {
    "keys": AsyncEnumerateKeysProtocol,
    "collections": AsyncEnumerateCollectionsProtocol,
    "destroy": AsyncDestroyStoreProtocol,
    "destroy_collection": AsyncDestroyCollectionProtocol,
    "cull": AsyncCullProtocol,
}
ALL = frozenset(PROTOCOLS)


def capabilities_of(key_value: object) -> frozenset[str]:
    """Return the names of the optional methods that an asynchronous object has."""
    return frozenset(name for name, protocol in PROTOCOLS.items() if isinstance(key_value, protocol))


def create_with_mixins(kind: type[K], capabilities: Iterable[str], mixins: Mapping[str, type[Any]]) -> K:
    """Create an instance, not yet initialised, of a class with the mixins of its capabilities; see `add_capability_mixins`."""
    # If the caller chose a class created here, keep it: Python calls __init__ only on an instance of the class that was called.
    return object.__new__(kind if "_without_mixins" in vars(kind) else _with_mixins(kind, capabilities, mixins))


def add_capability_mixins(instance: object, capabilities: Iterable[str], mixins: Mapping[str, type[Any]]) -> None:
    """Give an instance the mixins of its capabilities, and no others.

    Args:
        instance: Its class must not define the methods itself; those of mixins are replaced.
        capabilities: Names of optional methods.
        mixins: A class for each name, with that method.
    """
    kind = _with_mixins(vars(type(instance)).get("_without_mixins", type(instance)), capabilities, mixins)
    if kind is not type(instance):
        instance.__class__ = kind


def _with_mixins(base: type[K], capabilities: Iterable[str], mixins: Mapping[str, type[Any]]) -> type[K]:
    chosen = tuple(mixins[name] for name in sorted(capabilities))
    return _create_class(base, chosen if len(chosen) == len(mixins) else (*chosen, Lacking))


class _Silent:
    """The first base of classes created here: it skips the `__init_subclass__` of the others, which is for classes that authors write."""

    def __init_subclass__(cls) -> None:
        pass


@lru_cache(256)
def _create_class(base: type[Any], mixins: tuple[type[Any], ...]) -> type[Any]:
    # `runs_inline` is not inherited, so it must be repeated, as must the class's own description.
    own = {name: vars(base)[name] for name in ("__doc__", "__module__", "__qualname__", "runs_inline") if name in vars(base)}
    # A mixin has the base of its protocol, so it must not stand behind a method that the class sets to None.
    lacked = [mixin for mixin in mixins if not hasattr(base, mixin.__name__)]
    return type(base.__name__, (_Silent, base, *lacked), {**own, "_without_mixins": base})


def split_by_capability(kind: type[Any], prefix: str) -> Mapping[str, type[Any]]:
    """Return a mixin for each optional method of a class: its method, with the docstring of the protocol.

    Args:
        kind: A class with all the optional methods.
        prefix: What the names of the protocols start with: "Async" or "".
    """
    protocols = {name: getattr(key_value_protocols, prefix + protocol) for name, (_, protocol) in CAPABILITIES.items()}
    documented = {name: add_methods(type(protocol.__name__, (), {}), protocol) for name, protocol in protocols.items()}
    return {name: type(name, (base,), {name: vars(kind)[name]}) for name, base in documented.items()}


def require_async(key_value: K, owner: str, argument: str = "") -> K:
    """Check that an object is an asynchronous store, wrapper or the like.

    Args:
        key_value: The object.
        owner: The class that takes it, for the message.
        argument: The name of its argument, if it takes several such objects.

    Raises:
        TypeError: It lacks some of the eight methods, or is synchronous.
    """
    if isinstance(key_value, type) or not isinstance(key_value, AsyncKeyValue):
        place = argument and f" as {argument}"
        raise TypeError(f"{owner} takes an AsyncKeyValue{place}, an object with its eight methods, not {describe(key_value)}")
    if not _is_async(key_value.get):
        raise TypeError(
            f"{owner} takes an asynchronous key-value store, but {type(key_value).__name__}.get is synchronous; "
            "write it with `async def`, or give what is beneath if it is a blocking façade"
        )
    return key_value


def _is_async(method: Any) -> bool:
    method = inspect.unwrap(method)  # a decorator's own function does not tell
    if inspect.iscoroutinefunction(method) or not (inspect.isfunction(method) or inspect.ismethod(method)):
        return True
    # A plain function may be annotated to return an awaitable.
    returns = str(inspect.signature(method).return_annotation)
    return any(word in returns for word in ("Awaitable", "Coroutine", "Future"))
