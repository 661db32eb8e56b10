"""A wrapper that compresses large values."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from keyvalue._core import constructor
from keyvalue._core.entry import unreadable
from keyvalue._core.envelope import BIG, compute, from_base64, from_json, to_base64, to_json
from keyvalue._core.extras import needs
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.errors import EntryTooLargeError
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["CompressionWrapper"]

_DATA, _ALGORITHM, _VERSION = "__compressed_data__", "__compression_algorithm__", "__compression_version__"
_ENVELOPE = {_DATA, _ALGORITHM, _VERSION}


class CompressionWrapper(BaseWrapper):
    """Compresses values from a certain size on, if that makes them smaller.

    Place: above `FernetEncryptionWrapper` and its like, because ciphertext can't be compressed.

    Stored: `{"__compressed_data__": <base64>, "__compression_algorithm__": "gzip" or "zstd", "__compression_version__": 1}`, in which the
    data is the value's JSON text, with a checksum. A value that has a key `__compressed_data__` itself is always stored so, whatever its
    size. A row of any other form is returned as it is.

    Args:
        key_value: What to wrap.
        min_size_to_compress: Bytes of JSON in UTF-8. Default 1024.
        algorithm: "gzip" at level 1, which py-key-value-aio reads too, or "zstd" at level 3, which needs
            `pip install 'keyvalue[wrappers-compression]'`. Both are read, whichever is written. Default "gzip".
        max_size: Bytes of JSON that are written or read at most, so that a small row can't fill the memory. Default 16 MiB, of which the
            worst, such as `[{},{},…]`, takes 0.5 GiB as Python objects.

    Raises:
        EntryTooLargeError: On a put: the value is larger than this wrapper's `max_size`.
        SerializationError: On a put: the value is not JSON.
        DeserializationError: On a read: the row can't be decompressed, or is larger than `max_size` when it is.
        ImportError: zstd is asked for and not installed.
        ValueError: The algorithm is unknown, or a size is negative.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        min_size_to_compress: int = 1024,
        *,
        algorithm: Literal["gzip", "zstd"] = "gzip",
        max_size: int = 16 * 2**20,
    ) -> None:
        if algorithm not in ("gzip", "zstd"):
            raise ValueError('The algorithm must be "gzip" or "zstd"')
        if min_size_to_compress < 0 or max_size < 0:
            raise ValueError("min_size_to_compress and max_size must not be negative")
        if algorithm == "zstd":
            _import_zstandard()
        self.min_size_to_compress = min_size_to_compress
        self.algorithm = algorithm
        self.max_size = max_size
        super().__init__(key_value)

    async def _encode_value(self, value: Mapping[str, Any], key: str, collection: str | None) -> Mapping[str, Any]:
        json = await to_json(value)
        if len(json) > self.max_size:
            raise EntryTooLargeError(len(json), self.max_size, collection, key, limit="the max_size of this CompressionWrapper")
        looks_compressed = _DATA in value
        if len(json) < self.min_size_to_compress and not looks_compressed:
            return value
        data = await compute(lambda: to_base64(_compress(json, self.algorithm)), len(json))
        if len(data) >= len(json) and not looks_compressed:
            return value
        return {_DATA: data, _ALGORITHM: self.algorithm, _VERSION: 1}

    async def _decode_value(self, value: dict[str, Any], key: str, collection: str | None) -> dict[str, Any] | None:
        if value.keys() != _ENVELOPE:
            return value
        data, algorithm = value[_DATA], value[_ALGORITHM]
        try:
            if value[_VERSION] != 1 or type(value[_VERSION]) is not int or algorithm not in ("gzip", "zstd") or type(data) is not str:
                raise ValueError("its version or algorithm of compression is unknown; a newer version of this library may read it")
            return await from_json(await self._decompress(data, algorithm))
        except ValueError as error:
            reason = str(error) if type(error) in (ValueError, _TooLargeError) else "its compressed data is not JSON"
        raise unreadable(collection or DEFAULT_COLLECTION, key, reason)

    async def _decompress(self, data: str, algorithm: str) -> bytes:
        # What is small may become large. Only trying tells: what a row says of itself may be a lie.
        if len(data) <= BIG < self.max_size:
            with suppress(_TooLargeError):
                return _decompress(from_base64(data), algorithm, BIG)
        return await compute(lambda: _decompress(from_base64(data), algorithm, self.max_size), self.max_size)


class _TooLargeError(ValueError):
    """Decompressing yields more than was allowed."""


def _compress(json: bytes, algorithm: str) -> bytes:
    if algorithm == "gzip":
        return gzip.compress(json, 1, mtime=0)
    return _import_zstandard().ZstdCompressor(write_checksum=True).compress(json)


def _decompress(data: bytes, algorithm: str, max_size: int) -> bytes:
    try:
        json, complete = _gunzip(data, max_size + 1) if algorithm == "gzip" else _unzstd(data, max_size + 1)
    except ImportError as error:
        raise ValueError(str(error)) from None
    if len(json) > max_size:
        raise _TooLargeError(f"it is larger than max_size, {max_size} bytes, when it is decompressed")
    if not complete:
        raise ValueError("its compressed data is damaged")
    return json


def _gunzip(data: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = zlib.decompressobj(wbits=31)  # gzip's format, with its checksum
    try:
        json = decompressor.decompress(data, limit)
    except zlib.error:
        return b"", False
    return json, decompressor.eof and not decompressor.unused_data


def _unzstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    zstandard = _import_zstandard()
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            json = reader.read(limit)
        return json, zstandard.get_frame_parameters(data).content_size == len(json)
    except zstandard.ZstdError:
        return b"", False


def _import_zstandard() -> Any:
    with needs("wrappers-compression"):
        import zstandard  # noqa: PLC0415 # gzip does without
    return zstandard
