"""The embedded stores under fire: kills, a full disk, many threads and tasks, and large values."""

from __future__ import annotations

import functools
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from keyvalue._core import codec
from keyvalue.testing._suite import at_once
from tests import backends
from tests.budget import scale
from tests.children import FULL, child, fill_the_disk, put_until_step, write_until_killed
from tests.runtimes import Runtime
from tests.stores.files import open_facade
from tests.stores.hooks import assert_one_is_told

KILLS = scale(10, 50)
ALWAYS_WHOLE = ("disk", "multi-disk", "filetree", "rocksdb")
"""The backends that have the old entry or the new one, whatever happens."""


# Kills


def receive_rest(receiver: Any) -> list[Any]:
    """Return what a process has sent, and not been received, by its end."""
    said: list[Any] = []
    with suppress(EOFError):
        while True:
            said.append(receiver.recv())
    return said


@pytest.mark.backends(*ALWAYS_WHOLE)
@pytest.mark.parametrize("new", [False, True], ids=["in use", "while it is made"])
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_a_kill(backend: str, tmp_path: Path, new: bool) -> None:
    dice = random.Random(7)
    acknowledged: dict[str, tuple[int, int, int]] = {}
    for seed in range(KILLS):
        where = tmp_path / (str(seed) if new else "same")
        where.mkdir(exist_ok=True)
        if new:
            acknowledged = {}
        with child(write_until_killed, backend, where, seed) as (process, receiver):
            said = [receiver.recv() for _ in range(1 if new else dice.randrange(1, 60))]
            time.sleep(dice.random() * (0.03 if new else 0.005))
            process.kill()
            process.join()
            said += receive_rest(receiver)
        attempted: dict[str, tuple[int, int, int]] = {}
        for what, key, entry in said:
            if what == "did":
                acknowledged[key] = attempted.pop(key)
            else:
                attempted[key] = entry
        with open_facade(backend, where) as kv:
            for key in {*acknowledged, *attempted, *kv.keys("c")}:
                value = kv.get(key, collection="c")
                found = None if value is None else (value["seed"], value["number"], len(value["text"]))
                # The put that the kill interrupted may be there or not, but never half.
                assert found in {acknowledged.get(key), attempted.get(key, acknowledged.get(key))}, key
                if found is not None:
                    acknowledged[key] = found
            kv.put("again", {"a": 1}, collection="d")
            assert kv.keys("d") == ["again"]
    assert new or acknowledged


@pytest.mark.backends("disk", "multi-disk", "filetree")
@pytest.mark.parametrize("old", [None, {"text": "o" * 50_000}], ids=["new", "over"])
def test_a_kill_at_any_step_of_a_put_leaves_the_old_entry_or_the_new(backend: str, tmp_path: Path, old: dict[str, Any] | None) -> None:
    new = {"text": "n" * 50_000}
    step, is_done = 0, False
    while not is_done:
        step += 1
        where = tmp_path / str(step)
        where.mkdir()
        if old is not None:
            with open_facade(backend, where) as kv:
                kv.put("k", old)
        with child(put_until_step, backend, where, new, step) as (process, receiver):
            is_done = receive_rest(receiver) == ["done"]
            process.join()
        with open_facade(backend, where) as kv:
            found = kv.get("k")
            assert found in ((new,) if is_done else (old, new)), step
            assert kv.keys() == ([] if found is None else ["k"])
            kv.put("k", {"again": True})
            assert kv.get("k") == {"again": True}
        assert process.exitcode == (0 if is_done else -signal.SIGKILL)
    assert step > 3


# A full disk


@pytest.mark.backends(*ALWAYS_WHOLE)
def test_a_full_disk_is_an_error_and_loses_nothing(backend: str, tmp_path: Path) -> None:
    with child(fill_the_disk, backend, tmp_path) as (process, receiver):
        failures = receiver.recv()
        process.join()
        assert process.exitcode == 0
    assert len(failures) == 6
    assert all("the disk is full" in failure or "File too large" in failure for failure in failures)
    old = [f"old{number}" for number in range(50)]
    with open_facade(backend, tmp_path) as kv:
        assert sorted(kv.keys()) == ["after", *sorted(old)]
        assert kv.get_many(old) == [{"text": "x" * 1000}] * 50
        kv.put("old0", {"again": True})
        assert kv.get("old0") == {"again": True}
    left = [path for path in tmp_path.rglob("*") if path.suffix == ".val" or path.parent.name == "~drafts"]
    # diskcache leaves the file that it could not finish.
    assert {path.stat().st_size for path in left} <= ({FULL} if "disk" in backend else set())


# Many at a time


async def use_at_random(kv: Any, seed: int, calls: int) -> None:
    """Make random calls; an answer must be what was written for its key."""
    dice = random.Random(seed)
    for _ in range(calls):
        keys = [f"key{dice.randrange(30)}" for _ in range(3)]
        values = [{"key": key, "times": times, "text": key * times} for key in keys for times in [dice.choice([0, 1, 10, 1000])]]
        collection = f"c{dice.randrange(3)}"
        call = dice.choice(["get", "get", "ttl", "get_many", "put", "put", "put_many", "delete"])
        if call == "put":
            await kv.put(keys[0], values[0], collection=collection)
        elif call == "put_many":
            await kv.put_many(keys, values, collection=collection)
        elif call == "get_many":
            found = zip(keys, await kv.get_many(keys, collection=collection), strict=True)
            assert all(value is None or is_for(key, value) for key, value in found)
        else:
            answer = await getattr(kv, call)(keys[0], collection=collection)
            value = answer[0] if call == "ttl" else answer
            assert call == "delete" or value is None or is_for(keys[0], value)


def is_for(key: str, value: dict[str, Any]) -> bool:
    return value["key"] == key and value["text"] == key * value["times"]


@pytest.mark.backends(*backends.EMBEDDED)
@pytest.mark.timeout(600)
async def test_many_callers_get_what_was_written_for_their_key(kv: Any, backend: str, runtime: Runtime) -> None:
    callers = 50 if runtime.is_loop else 8
    calls = scale(1000, 20_000)
    if backend.startswith("filetree"):  # each of its puts waits for the disk
        calls //= 4
    await at_once(runtime, [functools.partial(use_at_random, kv, seed, calls // callers) for seed in range(callers)])


@pytest.mark.backends(*backends.EMBEDDED)
async def test_of_many_that_delete_at_once_one_is_told_so(make: Any, backend: str, runtime: Runtime) -> None:  # H-50
    stores = [make() for _ in range(2 if backend in backends.SHARED else 1)]
    await assert_one_is_told(runtime, stores * 2, "k", scale(20, 100), "delete", "delete_many")


# Large values

TEXT = "x" * scale(3_000_000, 30_000_000)


class Odd(str):
    """A text that only the slow path takes."""

    __slots__ = ()


@pytest.mark.backends(*backends.FILES, "memory")
@pytest.mark.runtimes("asyncio")
async def test_large_values_are_encoded_and_decoded_off_the_loop(kv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmarks/stalls.py` measures what that is good for."""
    threads: dict[str, set[int]] = {"dumps": set(), "loads": set()}

    def note(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = getattr(orjson, name)(*args, **options)
            if len(result if name == "dumps" else args[0]) > 2**20:
                threads[name].add(threading.get_ident())
            return result

        return call

    monkeypatch.setattr(codec, "orjson", SimpleNamespace(**{**vars(orjson), "dumps": note("dumps"), "loads": note("loads")}))
    for text in (TEXT, Odd(TEXT)):
        await kv.put("k", {"text": text})
        await kv.put_many(["l", "m"], [{"text": text}, {}])
        assert await kv.get("k") == {"text": TEXT}
        assert await kv.get_many(["l", "m"]) == [{"text": TEXT}, {}]
        assert await kv.ttl("k") == ({"text": TEXT}, None)
        assert sorted(await kv.keys()) == ["k", "l", "m"]
        await kv.cull()
        assert await kv.delete("k") is True
        assert await kv.destroy() is True
        for seen in threads.values():
            assert seen
            assert threading.get_ident() not in seen
            seen.clear()
