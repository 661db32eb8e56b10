"""Compression: what is stored, what survives it, and what is refused."""

from __future__ import annotations

import base64
import gzip
import json
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import pytest

from keyvalue.errors import DeserializationError, EntryTooLargeError
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers import compression
from keyvalue.wrappers.compression import CompressionWrapper
from tests.runtimes import Runtime

needs_zstd = pytest.mark.skipif(find_spec("zstandard") is None, reason="zstandard is not installed")
each_algorithm = pytest.mark.parametrize("algorithm", ["gzip", pytest.param("zstd", marks=needs_zstd)])
BIG = {"text": "la" * 5000}


def envelope(json_text: bytes, **changes: Any) -> dict[str, Any]:
    data = base64.b64encode(gzip.compress(json_text)).decode()
    return {"__compressed_data__": data, "__compression_algorithm__": "gzip", "__compression_version__": 1, **changes}


def pack(data: bytes) -> dict[str, Any]:
    return envelope(b"", __compressed_data__=base64.b64encode(data).decode())


@each_algorithm
async def test_large_values_are_compressed(algorithm: Any, runtime: Runtime) -> None:
    memory = MemoryStore()
    kv = runtime.adapt(CompressionWrapper(memory, algorithm=algorithm))
    await kv.put("big", BIG, ttl=60)
    await kv.put("small", {"a": 1})
    stored = await memory.get("big") or {}
    assert stored.keys() == {"__compressed_data__", "__compression_algorithm__", "__compression_version__"}
    assert len(json.dumps(stored)) < 500
    assert await memory.get("small") == {"a": 1}
    assert await CompressionWrapper(memory).get_many(["big", "small"]) == [BIG, {"a": 1}], "whichever wrote it"


async def test_what_does_not_shrink_stays_as_it_is() -> None:
    memory = MemoryStore()
    noise = {"noise": base64.b85encode(random.Random(1).randbytes(44)).decode()}
    await CompressionWrapper(memory, 0).put("k", noise)
    assert await memory.get("k") == noise


@pytest.mark.parametrize("least", [0, 1024, 10**9])
async def test_values_that_look_compressed_survive(least: int) -> None:
    kv = CompressionWrapper(CompressionWrapper(MemoryStore(), least), least)
    for value in (
        {"__compressed_data__": "x"},
        {"__compressed_data__": {"a": 1}, "b": 2},
        envelope(b'{"admin":true}'),
        envelope(b'{"admin":true}', __compression_version__=2),
        envelope(b"nothing", __compressed_data__="!!"),
    ):
        await kv.put("k", value)
        assert await kv.get("k") == value


@pytest.mark.parametrize("row", [{"a": 1}, {"__compressed_data__": "x"}, envelope(b"{}", more=1)], ids=len)
async def test_rows_of_other_forms_are_returned_as_they_are(row: dict[str, Any]) -> None:
    assert await CompressionWrapper(MemoryStore(seed={"c": {"k": row}})).get("k", collection="c") == row


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (envelope(b"[1]"), "not a JSON object"),
        (envelope(b"{"), "not JSON"),
        (envelope(b"{}", __compression_version__=2), "newer version"),
        (envelope(b"{}", __compression_version__=True), "newer version"),
        (envelope(b"{}", __compression_algorithm__="lzma"), "newer version"),
        (envelope(b"{}", __compressed_data__="!"), "base64"),
        (pack(b"{}"), "damaged"),
        pytest.param({**pack(b"{}"), "__compression_algorithm__": "zstd"}, "damaged", marks=needs_zstd),
        (pack(gzip.compress(b"{}")[:-3]), "damaged"),
        (pack(gzip.compress(b"{}") + b"more"), "damaged"),
        (envelope(b'{"a":"%s"}' % (b"x" * 2000)), "larger than max_size"),
    ],
)
async def test_damaged_and_bloated_rows_are_errors(row: dict[str, Any], why: str) -> None:
    with pytest.raises(DeserializationError, match=why):
        await CompressionWrapper(MemoryStore(seed={"c": {"k": row}}), max_size=1000).get("k", collection="c")


@each_algorithm
async def test_a_damaged_bit_is_no_other_value(algorithm: Any) -> None:
    memory = MemoryStore()
    kv = CompressionWrapper(memory, 0, algorithm=algorithm)
    value = {"hash": random.Random(1).randbytes(500).hex()}
    await kv.put("k", value)
    row = await memory.get("k") or {}
    data = base64.b64decode(row["__compressed_data__"])
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 1 << position % 8
        await memory.put("k", {**row, "__compressed_data__": base64.b64encode(bad).decode()})
        with suppress(DeserializationError):
            assert await kv.get("k") == value


@each_algorithm
async def test_small_rows_of_large_values_are_decompressed_off_the_loop(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decompressed: Callable[..., bytes] = compression._decompress  # pyright: ignore[reportPrivateUsage] # where it runs is what counts

    def note(*args: Any) -> bytes:
        text = decompressed(*args)
        if threading.current_thread() is threading.main_thread():
            sizes.append(len(text))
        return text

    monkeypatch.setattr(compression, "_decompress", note)
    kv = CompressionWrapper(MemoryStore(), algorithm=algorithm)
    values: list[dict[str, Any]] = [BIG, {"x": "x" * 2**20}]
    await kv.put_many(["small", "large"], values)
    assert await kv.get_many(["small", "large"]) == values
    assert sizes == [len(json.dumps(BIG, separators=(",", ":")))], "the small one needs no thread"


@each_algorithm
async def test_output_is_bounded(algorithm: Any) -> None:
    memory, value = MemoryStore(), {"x": "x" * 16 * 2**20}
    await CompressionWrapper(memory, algorithm=algorithm, max_size=20 * 2**20).put("k", value)
    for kv in (CompressionWrapper(memory), CompressionWrapper(memory, max_size=1000)):
        with pytest.raises(DeserializationError, match="larger than max_size"):
            await kv.get("k")
        with pytest.raises(EntryTooLargeError):
            await kv.put("k", value)
