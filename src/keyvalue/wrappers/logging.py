"""A wrapper that logs calls."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from keyvalue._core import constructor, wording
from keyvalue._core.operation import Operation
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["LoggingWrapper"]

T = TypeVar("T")

_OF_THE_STORE = frozenset({"collections", "destroy", "cull"})  # they name no collection, and mean none


class LoggingWrapper(BaseWrapper):
    """Logs the start and the end of each call: the method, collection and keys as given, and then the milliseconds and hits or the error.

    A call that fails is logged at level ERROR (or at `log_level`, if that is higher), with the error's type only: a message may hold names.
    Nothing is formatted for a level that is off.

    Place: where you want to look; outermost it shows what callers do, next to the store what is left of it.

    Args:
        key_value: What to wrap.
        logger: Where to log. Default: the logger `"key_value.logging"`.
        log_level: The level. Default `logging.INFO`.
        log_values: Whether values are logged too. They may be secrets. Default False.
        structured_logs: Whether messages are JSON objects, as py-key-value-aio writes them: `status`, `action`, `collection`, `keys`,
            `value` if values are logged, and all else in `extra`. Default False.

    Raises:
        TypeError: `logger` is not a logger, or `log_level` not an int.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        logger: logging.Logger | None = None,
        log_level: int = logging.INFO,
        log_values: bool = False,
        structured_logs: bool = False,
    ) -> None:
        if not isinstance(log_level, int):
            raise TypeError(f"log_level must be an int, such as logging.INFO, not {wording.describe(log_level)}")
        if logger is not None and not hasattr(logger, "isEnabledFor"):
            raise TypeError(f"logger must be a logging.Logger, such as logging.getLogger(__name__), not {wording.describe(logger)}")
        self.logger: logging.Logger = logger or logging.getLogger("key_value.logging")
        self.log_level = log_level
        self.log_values = log_values
        self.structured_logs = structured_logs
        super().__init__(key_value)

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[T]]) -> T:
        is_on = self.logger.isEnabledFor(self.log_level)
        if is_on:
            self._log(self.log_level, "start", operation, _describe_put(operation))
        start = time.perf_counter()
        try:
            result = await call(self.key_value)
        except BaseException as error:
            level = max(self.log_level, logging.ERROR) if isinstance(error, Exception) else self.log_level
            if self.logger.isEnabledFor(level):
                self._log(level, "error", operation, {"ms": _milliseconds_since(start), "error": type(error).__name__})
            raise
        if is_on:
            self._log(self.log_level, "finish", operation, {"ms": _milliseconds_since(start), **_summarize(operation, result)})
        return result

    def _log(self, level: int, state: str, operation: Operation, facts: dict[str, Any]) -> None:
        action = operation.name.upper()
        place = {} if operation.name in _OF_THE_STORE else {"collection": operation.collection}
        value = facts.pop("value", None)
        shown = {"value": value} if self.log_values and value is not None else {}
        keys = operation.keys[0] if operation.name in ("get", "ttl", "put", "delete") else list(operation.keys)
        if self.structured_logs:
            head = {"status": state, "action": action, **place, "keys": keys}
            extra = {"extra": facts} if facts else {}
            try:
                text = json.dumps({**head, **shown, **extra}, default=_show)
            except Exception:  # noqa: BLE001 # a log must not fail the call
                safe = {name: {inner: _show(fact) for inner, fact in part.items()} for name, part in extra.items()}
                text = json.dumps({**head, **{name: _show(fact) for name, fact in shown.items()}, **safe})
            self.logger.log(level, "%s", text)
        else:
            text = "".join(f" {name}={_show(value)}" for name, value in {**place, "keys": keys, **shown, **facts}.items())
            self.logger.log(level, "%s %s%s", state.capitalize(), action, text)


def _show(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 # a caller's `__repr__` may raise anything
        return f"<{type(value).__name__} that can't be shown>"


def _milliseconds_since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)


def _describe_put(operation: Operation) -> dict[str, Any]:
    if not operation.values:
        return {}
    return {"ttl": operation.ttl, "value": operation.values[0] if operation.name == "put" else operation.values}


def _summarize(operation: Operation, result: Any) -> dict[str, Any]:
    found: Sequence[Any] | None = None
    if operation.name == "get":
        return {"hit": result is not None, "value": result}
    if operation.name == "ttl":
        return {"hit": result[0] is not None, "ttl": result[1], "value": result[0]}
    if operation.name == "get_many":
        found = result
    if operation.name == "ttl_many":
        found = [value for value, _ in result]
    if found is not None:
        hits = sum(value is not None for value in found)
        return {"hits": hits, "misses": len(found) - hits, "value": found}
    if operation.name in ("keys", "collections"):
        return {"count": len(result)}
    if operation.name in ("delete", "delete_many"):
        return {"deleted": result}
    return _describe_put(operation) if result is None else {"result": result}
