"""Time, moved by hand."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from keyvalue._core import clock as clock_module

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Clock"]


class Clock:
    """The clock that all stores ask, moved by hand between entering and leaving it.

    ```
    with Clock() as clock:
        kv.put("k", {"a": 1}, ttl=10)
        clock.advance(10)
        assert kv.get("k") is None
    ```

    It replaces `keyvalue.stores.base.clock`. Anything with a clock of its own, such as a server, does not notice.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._real = clock_module.now

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._real() + self._ahead

    def freeze(self) -> None:
        """Stop the clock: from now on only `advance` moves it."""
        moment = self.now()
        self._real = lambda: moment
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Move the clock.

        Args:
            seconds: How far; a negative number moves it back.
        """
        self._ahead += seconds

    def __enter__(self) -> Self:
        self._before = clock_module.now
        clock_module.now = self.now
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        clock_module.now = self._before
