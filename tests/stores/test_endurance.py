"""The embedded stores under fire: kills, a full disk, many threads and tasks, and values of 30 MB.

`KEYVALUE_TEST_EXAMPLES`, which shortens the property tests, shortens these too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from keyvalue._core import codec
from keyvalue.blocking import BlockingKeyValue
from tests import backends

SHORT = "KEYVALUE_TEST_EXAMPLES" in os.environ
KILLS = 5 if SHORT else 50
OPERATIONS = 2_000 if SHORT else 20_000

on_files = pytest.mark.backends(*backends.FILES)


def child(code: str, backend: str, where: Path) -> subprocess.Popen[str]:
    """Start a process that has a facade over the backend as `kv`."""
    program = f"""
import random, sys
from pathlib import Path
from keyvalue.blocking import BlockingKeyValue
from tests.makers import MAKERS
kv = BlockingKeyValue(MAKERS[{backend!r}](Path({str(where)!r}), ""))
{code}
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root, env=environment)


# Kills

WRITER = """
import os
dice = random.Random({seed})
for number in range(10**9):
    key = f"k{{dice.randrange(20)}}"
    size = dice.choice([10, 1000, 100_000])
    os.write(1, f"put {{key}} {{number}} {{size}}\\n".encode())
    kv.put(key, {{"seed": {seed}, "number": number, "text": "x" * size}}, collection="c")
    os.write(1, f"did {{key}} {{number}} {{size}}\\n".encode())
"""


@on_files
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_a_kill(backend: str, tmp_path: Path) -> None:
    dice = random.Random(7)
    acknowledged: dict[str, tuple[int, int, int]] = {}
    for seed in range(KILLS):
        process = child(WRITER.format(seed=seed), backend, tmp_path)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(dice.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        lines = [first, *process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
        attempted: dict[str, tuple[int, int, int]] = {}
        for line in lines:
            what, key, number, size = line.split()
            entry = seed, int(number), int(size)
            if what == "did":
                acknowledged[key] = entry
                attempted.pop(key, None)
            else:
                attempted[key] = entry
        with BlockingKeyValue(backends.MAKERS[backend](tmp_path, "")) as kv:
            facade: Any = kv
            for key in {*acknowledged, *attempted, *facade.keys("c")}:
                value = kv.get(key, collection="c")
                found = None if value is None else (value["seed"], value["number"], len(value["text"]))
                # The put that the kill interrupted may be there or not, but never half.
                assert found in {acknowledged.get(key), attempted.get(key, acknowledged.get(key))}, key
                if found is not None:
                    acknowledged[key] = found
    assert acknowledged


@on_files
def test_a_kill_while_it_is_made_leaves_what_can_be_opened(backend: str, tmp_path: Path) -> None:
    dice = random.Random(3)
    for seed in range(KILLS):
        where = tmp_path / str(seed)
        where.mkdir()
        process = child(WRITER.format(seed=seed), backend, where)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with BlockingKeyValue(backends.MAKERS[backend](where, "")) as kv:
            facade: Any = kv
            facade.keys("c")
            kv.put("k", {"a": 1}, collection="c")
            assert "k" in facade.keys("c")


# A full disk


@on_files
def test_a_full_disk_is_an_error_and_loses_nothing(backend: str, tmp_path: Path) -> None:
    """The limit on the size of a file stands for a full disk: writing fails in the same way, in the middle of a file."""
    code = f"""
import json, resource, signal
from keyvalue.errors import StoreRefusedError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for number in range(50):
    kv.put(f"old{{number}}", {{"text": "x" * 1000}})
resource.setrlimit(resource.RLIMIT_FSIZE, ({2**20}, resource.RLIM_INFINITY))
failures = 0
for number in range(5):
    try:
        kv.put(f"new{{number}}", {{"text": "x" * 3_000_000}})
        kv.put(f"old{{number}}", {{"text": "x" * 3_000_000}})
    except StoreRefusedError as error:
        failures += 1
        message = str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([failures, message]))
"""
    process = child(code, backend, tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    failures, message = json.loads(output)
    assert failures == 5
    assert "disk full" in message or "File too large" in message
    with BlockingKeyValue(backends.MAKERS[backend](tmp_path, "")) as kv:
        facade: Any = kv
        assert kv.get_many([f"old{number}" for number in range(50)]) == [{"text": "x" * 1000}] * 50
        assert sorted(facade.keys()) == sorted(f"old{number}" for number in range(50))
        kv.put("old0", {"again": True})
        assert kv.get("old0") == {"again": True}


# Many at a time


class Work:
    """Random calls, whose answers must be what was written for the key."""

    def __init__(self, kv: Any) -> None:
        self.kv = kv
        self.wrong: list[Any] = []

    def check(self, key: str, value: Any) -> None:
        if value is not None and (value["key"] != key or value["text"] != key * value["times"]):
            self.wrong.append((key, value))

    def call(self, dice: random.Random) -> tuple[str, tuple[Any, ...], Callable[[Any], None]]:
        keys = [f"key{dice.randrange(30)}" for _ in range(3)]
        key = keys[0]

        def value(key: str) -> dict[str, Any]:
            times = dice.choice([0, 1, 10, 1000])
            return {"key": key, "times": times, "text": key * times}

        def check_many(values: Any) -> None:
            for one, found in zip(keys, values, strict=True):
                self.check(one, found)

        return dice.choice(
            [
                ("get", (key,), lambda found: self.check(key, found)),
                ("get", (key,), lambda found: self.check(key, found)),
                ("ttl", (key,), lambda found: self.check(key, found[0])),
                ("get_many", (keys,), check_many),
                ("put", (key, value(key)), lambda _: None),
                ("put", (key, value(key)), lambda _: None),
                ("put_many", (keys, [value(key) for key in keys]), lambda _: None),
                ("delete", (key,), lambda _: None),
            ]
        )


@pytest.mark.backends(*backends.EMBEDDED)
@pytest.mark.timeout(600)
def test_eight_threads_on_one_facade(backend: str, tmp_path: Path) -> None:
    with BlockingKeyValue(backends.MAKERS[backend](tmp_path, "")) as kv:
        work = Work(kv)
        failed: list[BaseException] = []
        durable = backend.startswith("filetree")  # each of its puts waits for the disk

        def run(seed: int) -> None:
            dice = random.Random(seed)
            try:
                for _ in range(OPERATIONS // 8 // (4 if durable and SHORT else 1)):
                    name, arguments, check = work.call(dice)
                    check(getattr(kv, name)(*arguments, collection=f"c{dice.randrange(3)}"))
            except BaseException as error:  # noqa: BLE001 # raised below
                failed.append(error)

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert work.wrong == []


@pytest.mark.backends(*backends.EMBEDDED)
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_fifty_tasks(backend: str, loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with backends.MAKERS[backend](tmp_path, "") as kv:  # type: ignore[attr-defined]
            work = Work(kv)

            async def run(seed: int) -> None:
                dice = random.Random(seed)
                for _ in range(20 if SHORT else 60):
                    name, arguments, check = work.call(dice)
                    check(await getattr(kv, name)(*arguments, collection=f"c{dice.randrange(3)}"))

            async with anyio.create_task_group() as group:
                for seed in range(50):
                    group.start_soon(run, seed)
            assert work.wrong == []

    anyio.run(main, backend=loop)


# Large values

TEXT = "x" * 30_000_000


class Codec:
    """orjson, noting which threads it is called in for what is large."""

    JSONDecodeError = orjson.JSONDecodeError

    def __init__(self) -> None:
        self.threads: dict[str, set[int]] = {"dumps": set(), "loads": set()}

    def __getattr__(self, name: str) -> Any:
        return getattr(orjson, name)

    def dumps(self, value: Any, **options: Any) -> bytes:
        result = orjson.dumps(value, **options)
        if len(result) > 2**20:
            self.threads["dumps"].add(threading.get_ident())
        return result

    def loads(self, text: bytes) -> Any:
        if len(text) > 2**20:
            self.threads["loads"].add(threading.get_ident())
        return orjson.loads(text)


class Odd(str):
    """A text that only the slow path takes."""

    __slots__ = ()


@pytest.mark.backends(*backends.FILES, "memory")
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("text", [TEXT, Odd(TEXT)], ids=["str", "subclass"])
def test_large_values_are_encoded_and_decoded_off_the_loop(
    backend: str, loop: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`benchmarks/stalls.py` measures what that is good for."""
    noting = Codec()
    monkeypatch.setattr(codec, "orjson", noting)

    async def main() -> None:
        async with backends.MAKERS[backend](tmp_path, "") as kv:  # type: ignore[attr-defined]
            await kv.put("k", {"text": text})
            await kv.put_many(["l", "m"], [{"text": text}, {}])
            assert await kv.get("k") == {"text": TEXT}
            assert await kv.get_many(["l", "m"]) == [{"text": TEXT}, {}]
            assert await kv.ttl("k") == ({"text": TEXT}, None)
            assert sorted(await kv.keys()) == ["k", "l", "m"]
            await kv.cull()
            assert await kv.delete("k") is True
            assert await kv.destroy() is True

    anyio.run(main, backend=loop)
    assert noting.threads["dumps"]
    assert noting.threads["loads"]
    assert threading.get_ident() not in noting.threads["dumps"] | noting.threads["loads"]
