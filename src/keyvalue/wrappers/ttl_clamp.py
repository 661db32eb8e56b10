"""A wrapper that keeps times to live within limits."""

from __future__ import annotations

from math import inf
from typing import SupportsFloat

from keyvalue._core import arguments, clock, constructor
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["TTLClampWrapper"]


class TTLClampWrapper(BaseWrapper):
    """Raises times to live below a minimum to it, and lowers those above a maximum to that.

    Place: anywhere. Below a cache it does not see the cache's own times to live.

    Args:
        key_value: What to wrap.
        min_ttl: The least seconds; 0 for no minimum.
        max_ttl: The most seconds; infinity for no maximum.
        missing_ttl: Seconds for what is put without a time to live, clamped too. None, the default, lets it stay for ever.

    Raises:
        InvalidTTLError: One of them, or on a put the caller's, is not a time to live.
        ValueError: `min_ttl` is more than `max_ttl`.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self, key_value: AsyncKeyValue, min_ttl: SupportsFloat, max_ttl: SupportsFloat, missing_ttl: SupportsFloat | None = None
    ) -> None:
        self.min_ttl: float = constructor.check_ttl(min_ttl, "min_ttl", or_else=0)
        self.max_ttl: float = constructor.check_ttl(max_ttl, "max_ttl", or_else=inf)
        if self.min_ttl > self.max_ttl:
            raise ValueError(f"min_ttl is {self.min_ttl} and must not be more than max_ttl, which is {self.max_ttl}")
        self.missing_ttl: float | None = None
        if missing_ttl is not None:
            self.missing_ttl = self._clamp(constructor.check_ttl(missing_ttl, "missing_ttl"))
        super().__init__(key_value)

    def _encode_ttl(self, ttl: SupportsFloat | None) -> SupportsFloat | None:
        if ttl is None:
            return self.missing_ttl
        arguments.expiry_from_ttl(ttl, clock.now())
        return self._clamp(ttl)

    def _clamp(self, ttl: SupportsFloat) -> float:
        return max(self.min_ttl, min(float(ttl), self.max_ttl))
