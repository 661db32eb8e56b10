"""How a driver that awaits calls the client of its store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Use(Protocol):
    """Calls a function of the client; see `BaseStore._use`."""

    def __call__(self, function: Callable[[Any], Any], *, repeatable: bool = False) -> Awaitable[Any]: ...
