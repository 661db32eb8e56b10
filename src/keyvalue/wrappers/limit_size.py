"""A wrapper that keeps values within limits of size."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, SupportsFloat

from keyvalue._core import arguments, clock, codec, constructor
from keyvalue._core.envelope import BIG, compute, encode_item, to_json
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.errors import EntryTooLargeError, EntryTooSmallError
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["LimitSizeWrapper"]

_LOGGER = logging.getLogger("keyvalue.limit_size")


class LimitSizeWrapper(BaseWrapper):
    """Refuses or drops values that are too large or too small.

    The size of a value is `len(json.dumps(value))`: ASCII, with a space after each comma and colon, whatever a store makes of it. A dropped
    value is not stored, and the key's earlier entry is deleted, so that no stale value answers. In bulk, what is dropped is deleted and all
    else put, in a call each; a value that raises keeps all of them from being put. Drops are counted in `dropped` and logged to
    `keyvalue.limit_size`, without the value.

    Place: above compression and encryption, to limit what callers put; below them, to limit what is stored.

    Args:
        key_value: What to wrap.
        min_size: Smaller values are refused or dropped. Default None, no limit.
        max_size: Larger values are refused or dropped. Default None, no limit.
        raise_on_too_small: Whether a value that is too small raises, instead of being dropped. Default False.
        raise_on_too_large: Whether a value that is too large raises, instead of being dropped. Default True.

    Attributes:
        dropped: How many values were dropped.

    Raises:
        EntryTooLargeError: On a put: the value is too large.
        EntryTooSmallError: On a put: the value is too small.
        SerializationError: On a put: the value is not JSON.
        ValueError: A size is negative, or `min_size` is more than `max_size`.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        *,
        min_size: int | None = None,
        max_size: int | None = None,
        raise_on_too_small: bool = False,
        raise_on_too_large: bool = True,
    ) -> None:
        if (min_size or 0) < 0 or (max_size or 0) < 0:
            raise ValueError("min_size and max_size must not be negative")
        if min_size is not None and max_size is not None and min_size > max_size:
            raise ValueError(f"min_size is {min_size} and must not be more than max_size, which is {max_size}")
        self.min_size = min_size
        self.max_size = max_size
        self.raise_on_too_small = raise_on_too_small
        self.raise_on_too_large = raise_on_too_large
        self.dropped: int = 0
        super().__init__(key_value)

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        arguments.check_mapping(value)
        if await self._fits(value, arguments.check_name(key, "key"), collection):
            await super().put(key, value, collection=collection, ttl=ttl)
        else:
            arguments.expiry_from_ttl(ttl, clock.now())
            await super().delete(key, collection=collection)

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        keys = arguments.check_names(keys)
        arguments.check_mappings(values, len(keys))
        arguments.expiry_from_ttl(ttl, clock.now())
        fitting: dict[str, Mapping[str, Any]] = {}
        dropped: dict[str, None] = {}
        for key, index in {key: index for index, key in enumerate(keys)}.items():
            if await encode_item(index, values[index], self._fits(values[index], key, collection)):
                fitting[key] = values[index]
            else:
                dropped[key] = None
        if dropped:
            await super().delete_many(list(dropped), collection=collection)
        if fitting or not dropped:
            await super().put_many(list(fitting), list(fitting.values()), collection=collection, ttl=ttl)

    def _surely_fits(self, size: int) -> bool:
        # As ASCII with spaces, no byte of a compact text takes more than three (those of é take six together), and hardly any none.
        return (self.max_size is None or 3 * size <= self.max_size) and (self.min_size is None or size >= 2 * self.min_size)

    async def _fits(self, value: Mapping[str, Any], key: str, collection: str | None) -> bool:
        text = await to_json(value)
        if self._surely_fits(len(text)):
            return True
        size = await _measure(value, text)
        if self.min_size is not None and size < self.min_size:
            if self.raise_on_too_small:
                raise EntryTooSmallError(size, self.min_size, collection, key, limit="the min_size of this LimitSizeWrapper")
        elif self.max_size is not None and size > self.max_size:
            if self.raise_on_too_large:
                raise EntryTooLargeError(size, self.max_size, collection, key, limit="the max_size of this LimitSizeWrapper")
        else:
            return True
        self.dropped += 1
        _LOGGER.warning("A value of size %d was dropped; collection: %r, key: %r", size, collection, key)
        return False


async def _measure(value: Mapping[str, Any], text: bytes) -> int:
    """Return `len(json.dumps(value))` of a value that is this JSON text."""
    if len(text) <= BIG:  # in a worker thread, the value could change meanwhile
        with suppress(TypeError, ValueError):  # a mapping that is no dict, or an integer of more digits than Python writes
            return len(json.dumps(value))
    return await compute(lambda: _measure_text(text), len(text))


def _measure_text(text: bytes) -> int:
    try:
        return len(json.dumps(codec.decode(text)))
    except ValueError:
        return len(text)
