"""What all stores over a network have in common and the contract can't look at: theme by theme, on each backend.

`tests/stores/hooks` says what is a backend's own. To add a backend, write its hooks and name it in the lists below.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreSetupError
from keyvalue.testing import Clock
from keyvalue.testing._runtime import Awaited, step
from keyvalue.testing._suite import assert_collections, assert_keys, at_once, has_capability
from tests.budget import scale
from tests.proxy import Proxy
from tests.runtimes import Runtime
from tests.said import collect_texts
from tests.servers import await_answer
from tests.stores.hooks import NEVER, SECRET, Hooks, assert_one_is_told, assert_raised, use

TIMED = ("redis", "valkey", "memcached", "mongodb", "dynamodb", "elasticsearch", "vault")
"""Backends of which a call has a time limit."""
SINGLE = (*TIMED, "keyring")
CLUSTERS = ("redis-cluster", "valkey-cluster")
ASYNCHRONOUS = ("redis", "redis-cluster", "valkey", "valkey-cluster", "mongodb", "dynamodb", "elasticsearch")
"""Those whose asynchronous client can be given, and belongs to a loop then."""
SYNCHRONOUS = (*ASYNCHRONOUS, "memcached", "vault")
"""Those whose synchronous client can be given."""
EXPIRING = ("redis", "valkey", "memcached", "mongodb", "dynamodb")
"""Those with an expiry of the server's own."""

pytestmark = pytest.mark.backends(*SINGLE)


def calls_on(kv: Any) -> Mapping[str, Callable[[], Awaitable[Any]]]:
    """Return a call of each operation that the store has, by its name."""
    value = {"password": SECRET}
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "get": lambda: kv.get("k"),
        "ttl": lambda: kv.ttl("k"),
        "get_many": lambda: kv.get_many(["k", "l"], collection="a::b"),
        "put": lambda: kv.put("k", value, collection="a::"),
        "put_many": lambda: kv.put_many(["k", "l"], [value, {}], ttl=5),
        "delete": lambda: kv.delete("k"),
        "delete_many": lambda: kv.delete_many(["k", "l"]),
        "keys": lambda: kv.keys("c"),
        "collections": lambda: kv.collections(),
        "destroy": lambda: kv.destroy(),
        "cull": lambda: kv.cull(),
    }
    return {operation: call for operation, call in calls.items() if operation not in OPTIONAL or has_capability(kv, operation)}


OPTIONAL = ("keys", "collections", "destroy", "cull")


# The constructor


def test_arguments_that_are_refused(hooks: Hooks) -> None:
    for arguments, error, message in hooks.refused():
        with pytest.raises(error, match=message) as caught:
            hooks.kind(**arguments)
        assert SECRET not in "".join(collect_texts(caught.value))
    for arguments in hooks.accepted():
        assert SECRET not in repr(hooks.kind(**arguments))


def test_a_client_of_a_wrong_type(hooks: Hooks) -> None:
    for client in hooks.wrong_clients():
        with pytest.raises(TypeError, match=hooks.client_types):
            hooks.given(client)


@pytest.mark.runtimes("asyncio")  # where blocking calls are errors
async def test_the_constructor_connects_to_nothing(hooks: Hooks, proxy: Proxy, runtime: Runtime) -> None:
    for store in (hooks.store(proxy.url), hooks.impatient(proxy.url), hooks.with_secret(proxy.url)):
        assert SECRET not in repr(store)
        assert not hooks.tells_host or f"{type(store).__name__}({urlsplit(proxy.url).netloc})" == repr(store)
    await runtime.sleep(0.01)
    assert proxy.accepted == 0


# Faults


async def reach(hooks: Hooks, runtime: Runtime, call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call on a server that is back."""
    return await (call() if hooks.reconnects_at_once else runtime.eventually(call))


Causes = type[Exception] | tuple[type[Exception], ...]


async def assert_raised_by_all(kv: Any, url: str, error: type[Exception], message: str, causes: Causes, *operations: str) -> list[Any]:
    """Fail if not all calls, or those of some operations, raise an error that tells the server (if there is a URL) and nothing secret."""
    calls = {operation: call for operation, call in calls_on(kv).items() if operation in (operations or calls_on(kv))}
    errors = await assert_raised(error, message, *calls.values())
    for operation, raised in zip(calls, errors, strict=True):
        assert isinstance(raised.__cause__, causes), raised.__cause__
        host = {"host": urlsplit(url).netloc} if url else {}
        assert raised.extra_info == {**host, "operation": operation}
    return errors


async def assert_unreachable(hooks: Hooks, kv: Any, url: str, message: str, *operations: str) -> None:
    url = url if hooks.tells_host else ""
    await assert_raised_by_all(kv, url, StoreConnectionError, message, hooks.causes, *operations)


async def test_a_server_that_is_not_there(hooks: Hooks, proxy: Proxy, runtime: Runtime) -> None:
    with proxy.refusing():
        await assert_unreachable(hooks, runtime.adapt(hooks.with_secret(proxy.url)), proxy.url, hooks.unreachable)


async def test_a_server_that_comes_and_goes(hooks: Hooks, proxy: Proxy, runtime: Runtime) -> None:
    kv = runtime.adapt(hooks.impatient(proxy.url))
    with proxy.refusing(), pytest.raises(StoreConnectionError):
        await kv.put("k", {})
    for turn in range(2):
        await reach(hooks, runtime, lambda turn=turn: kv.put("k", {"turn": turn}))
        if runtime.is_loop:  # so that there are several connections, all soon dead
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(kv.get, "k")
        proxy.drop()
        assert await reach(hooks, runtime, lambda: kv.get_many(["k", "l"])) == [{"turn": turn}, None]
        proxy.drop()
        if runtime.is_loop:
            await anyio.sleep(0.01)  # in which the loop sees that connections have ended: a put on one of them is not sent again
        await reach(hooks, runtime, lambda turn=turn: kv.put_many(["k", "m"], [{"dropped": turn}, {}], ttl=50))
        assert await reach(hooks, runtime, lambda: kv.get("k")) == {"dropped": turn}
        with proxy.refusing():
            await assert_unreachable(hooks, kv, proxy.url, hooks.lost or hooks.unreachable, "get", "put", "put_many", "delete")


@pytest.mark.backends(*TIMED)
async def test_a_server_that_hangs(hooks: Hooks, proxy: Proxy, runtime: Runtime) -> None:
    kv = runtime.adapt(hooks.store(proxy.url, timeout=0.3))
    await runtime.eventually(lambda: kv.put("k", {"a": 1}))
    with proxy.hanging():
        for call in (lambda: kv.get("k"), lambda: kv.put("l", {}), lambda: kv.put("l", {}, collection="a::")):
            started = time.monotonic()
            with pytest.raises(StoreConnectionError, match=hooks.silent) as caught:
                await call()
            assert caught.value.__cause__ is not None
            assert time.monotonic() - started < 4.5  # some clients' own default is 5 seconds
    assert await runtime.eventually(lambda: kv.get("k")) == {"a": 1}
    await runtime.eventually(lambda: kv.put("k", {"a": 2}))
    assert await runtime.eventually(lambda: kv.get_many(["k", "missing"])) == [{"a": 2}, None]


@pytest.mark.backends("mongodb", "dynamodb", "elasticsearch", "vault")
@pytest.mark.runtimes("asyncio", "direct")
async def test_replies_that_drip_are_given_up(hooks: Hooks, proxy: Proxy, runtime: Runtime) -> None:
    kv, value = runtime.adapt(hooks.store(proxy.url, timeout=0.3)), {"x": "x" * 2000}
    await runtime.eventually(lambda: kv.put("k", value))
    await runtime.eventually(lambda: kv.get("k"))
    for call in (lambda: kv.get("k"), lambda: kv.put("k", value), kv.keys):
        before = proxy.accepted
        proxy.drip = 0.05  # even the headers alone take longer
        started = time.monotonic()
        (error,) = await assert_raised(StoreConnectionError, hooks.silent, call)
        assert isinstance(error.__cause__, Exception)
        assert time.monotonic() - started < 4.5
        proxy.drip = 0.0
        assert await runtime.eventually(lambda: kv.get("k")) == value
        assert proxy.accepted > before  # what was left of the reply is no other call's


@pytest.mark.backends(*TIMED)
async def test_first_calls_on_a_server_that_never_answers(hooks: Hooks, proxy: Proxy) -> None:
    kv: Any = hooks.store(proxy.url, timeout=1.0)
    failures: list[StoreConnectionError] = []

    async def call() -> None:
        with pytest.raises(StoreConnectionError) as caught:
            await kv.get("k")
        failures.append(caught.value)

    with proxy.hanging(), anyio.fail_after(15):  # trying one after the other, they would take 20 seconds
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(call)
    assert len(set(map(id, failures))) == 20
    await kv.close()


async def test_an_answer_that_is_lost(hooks: Hooks, proxy: Proxy, runtime: Runtime) -> None:
    kv = runtime.adapt(hooks.impatient(proxy.url))
    await kv.put("k", {"a": 0})

    async def lose_answer(call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call whose answer is lost, and return what it says nevertheless, or None if it fails."""
        proxy.cuts = 1
        try:
            return await call()
        except StoreConnectionError:
            return None
        finally:
            assert proxy.cuts == 0

    async def put(turn: int) -> str:
        await kv.put("k", {"a": turn})
        return "done"

    for turn, (proxy.cut_after, proxy.resets) in enumerate(((0, False), (7, False), (0, True)), 1):
        # Not sent again: it would undo what another client has put meanwhile.
        assert await lose_answer(partial(put, turn)) in ([None] if hooks.loses_puts and proxy.cut_after == 0 else ["done", None])
        expected: Any
        for call, expected in {partial(kv.get, "k"): {"a": turn}, partial(kv.get_many, ["k", "l"]): [{"a": turn}, None]}.items():
            assert await reach(hooks, runtime, call) == expected
            assert await lose_answer(call) in ([expected] if hooks.asks_again else [expected, None])
        for delete in (lambda: kv.delete("k"), lambda: kv.delete_many(["k"])):
            # It was deleted: asked again, the server would say that it was not there.
            assert await lose_answer(delete) in (True, None)
            await reach(hooks, runtime, lambda: kv.put("k", {"again": True}))
            assert await kv.get("k") == {"again": True}


@pytest.mark.backends(*TIMED)
async def test_many_large_values(hooks: Hooks, url: str, runtime: Runtime) -> None:
    kv = runtime.adapt(hooks.store(url))
    count, size = hooks.large
    values = {f"k{number}": {"n": number, "text": str(number % 10) * size} for number in range(count)}
    await kv.put_many(list(values), list(values.values()))
    assert await kv.get_many(list(values)) == list(values.values())
    await assert_keys(kv, values)
    if has_capability(kv, "destroy"):
        assert await kv.destroy_collection("default_collection") is True
        await assert_keys(kv, [])
    else:
        assert await kv.delete_many(list(values)) == count


# Given clients


@pytest.mark.backends(*SYNCHRONOUS)
async def test_given_synchronous_clients_work_everywhere_and_stay_open(hooks: Hooks, url: str, runtime: Runtime) -> None:
    for opening in hooks.sync_clients(url).values():
        with opening as client:
            for _ in range(2):
                kv = runtime.adapt(hooks.given(client))
                await use(kv)
                await kv.close()
                await kv.close()
                hooks.assert_open(client)


@pytest.mark.backends(*ASYNCHRONOUS)
async def test_given_asynchronous_clients_work_on_their_loop_and_stay_open(hooks: Hooks, url: str) -> None:
    for opening in hooks.async_clients(url).values():
        async with opening as client:
            for _ in range(2):
                kv: Any = hooks.given(client)
                await use(kv)
                await kv.close()
                await anyio.sleep(0.01)  # in which a task that closes it would do so
                await hooks.assert_open_async(client)


@pytest.mark.backends(*ASYNCHRONOUS)
async def test_an_asynchronous_client_is_refused_elsewhere(hooks: Hooks, url: str) -> None:
    async def assert_refused(store: Any) -> None:
        message = r"belongs to an asyncio event loop.*Pass a synchronous client"
        await assert_raised(StoreSetupError, message, lambda: store.get("k"), lambda: store.put("k", {}))

    async with next(iter(hooks.async_clients(url).values())) as client:
        kv: Any = hooks.given(client)
        await kv.put("k", {})
        facade: Any = BlockingKeyValue(kv)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(anyio.run, assert_refused, kv).result()
            pool.submit(anyio.run, assert_refused, kv, backend="trio").result()
            pool.submit(anyio.run, assert_refused, hooks.given(client), backend="trio").result()  # from the first call on
            pool.submit(step, assert_refused(Awaited(facade))).result()
        assert await kv.get("k") == {}
        await anyio.to_thread.run_sync(facade.close)


# Expiry


@pytest.mark.backends(*EXPIRING)
async def test_the_servers_expiry_is_never_before_the_entrys(hooks: Hooks, url: str, runtime: Runtime) -> None:  # H-21, H-22
    kv = runtime.adapt(hooks.store(url))
    await kv.put("stays", {})
    for ttl in hooks.ttls:
        spans = {"stays": (NEVER, NEVER)}
        for keys in ("a", "bc", "d"):
            before = time.time()
            await (kv.put_many(list(keys), [{}] * len(keys), ttl=ttl) if keys != "a" else kv.put(keys, {}, ttl=ttl))
            spans.update(dict.fromkeys(keys, (before + ttl - hooks.early, time.time() + ttl + hooks.late)))
        expiries = hooks.expiries(url)
        now = time.time()
        assert {key for key, (earliest, _) in spans.items() if earliest > now} <= set(expiries) <= set(spans)
        wrong = {key: expiry - time.time() for key, expiry in expiries.items() if not spans[key][0] <= expiry <= spans[key][1]}
        assert wrong == {}, ttl


@pytest.mark.backends(*(name for name in EXPIRING if name != "mongodb"))  # whose date is the entry's own
async def test_the_document_decides_on_expiry(hooks: Hooks, url: str, runtime: Runtime, clock: Clock) -> None:
    kv = runtime.adapt(hooks.store(url))
    await kv.put("k", {}, ttl=50)
    hooks.postpone(url, "k")
    clock.advance(50)
    assert await kv.get("k") is None
    await assert_keys(kv, [])
    if has_capability(kv, "cull"):
        await kv.cull()
    else:
        assert await kv.delete("k") is False
    assert hooks.contents(url) == {}


async def test_expiry_in_real_time(hooks: Hooks, url: str) -> None:
    kv: Any = hooks.store(url)
    await kv.put("stays", {})
    ttl = hooks.real_ttl
    while not await _is_seen_to_the_end(hooks, kv, ttl):
        ttl *= 2
        assert ttl < 60 * hooks.real_ttl, "this machine is too busy for a test in real time"
    if hooks.reclaims:
        await anyio.to_thread.run_sync(await_answer, lambda: len(hooks.contents(url)) == 1, "the end of what has expired")
    await kv.close()


async def _is_seen_to_the_end(hooks: Hooks, kv: Any, ttl: float) -> bool:
    """Put entries and read them until they have expired; return whether each was also read in the last half of its time."""
    deadlines: dict[str, tuple[float, float]] = {}  # it is somewhere between the two
    for number in range(hooks.offsets):
        before = time.time()
        await (kv.put(f"k{number}", {}, ttl=ttl) if number % 2 == 0 else kv.put_many([f"k{number}"], [{}], ttl=ttl))
        deadlines[f"k{number}"] = before + ttl, time.time() + ttl
        await anyio.sleep(1 / hooks.offsets if hooks.offsets > 1 else 0)
    seen: set[str] = set()
    before = 0.0
    while before < max(latest for _, latest in deadlines.values()):
        before = time.time()
        found = [
            {key for key, value in zip(deadlines, await kv.get_many(list(deadlines)), strict=True) if value == {}},
            {key for key in deadlines if (await kv.ttl(key))[0] == {}},
            set(await kv.keys()) - {"stays"} if has_capability(kv, "keys") else None,
        ]
        after = time.time()
        for there in found:
            if there is not None:
                assert {key for key, (earliest, _) in deadlines.items() if after < earliest} <= there
                assert there <= {key for key, (_, latest) in deadlines.items() if before < latest}
        seen |= {key for key, (earliest, _) in deadlines.items() if earliest - ttl / 2 < after < earliest}
        await anyio.sleep(0.02)
    assert await kv.get("stays") == {}
    return len(seen) == len(deadlines)


# What else lies there


@pytest.mark.backends(*SINGLE, *CLUSTERS)
async def test_what_others_wrote_survives_and_is_not_listed(hooks: Hooks, url: str, runtime: Runtime) -> None:  # H-27
    kv = runtime.adapt(hooks.store(url))
    await kv.setup()
    hooks.plant_foreign(url)
    theirs = hooks.contents(url)
    assert theirs
    keys = ["k", "l", *(key for key in hooks.bad_keys if key != "bad")]
    for _ in range(2):
        for collection in ("a", "b", "c", "a::b"):
            await kv.put_many(keys, [{}] * len(keys), collection=collection, ttl=50)
            await kv.put("k", {"in": collection}, collection=collection)
            assert await kv.get("k", collection=collection) == {"in": collection}
    await assert_keys(kv, keys, "a")
    await assert_collections(kv, ["a", "b", "c", "a::b"])
    assert await kv.delete("k", collection="a::b") is True
    assert await kv.delete("k", collection="a::b") is False
    await kv.put("k", {}, collection="a::b")
    if has_capability(kv, "destroy"):
        await kv.cull()
        assert await kv.destroy_collection("a") is True
        assert await kv.destroy_collection("a") is False
        assert await kv.destroy() is True
        assert await kv.collections() == []
    else:
        for collection in ("a", "b", "c", "a::b"):
            assert await kv.delete_many(keys, collection=collection) == len(keys)
    for collection, key in hooks.misnamed:
        assert await kv.get(key, collection=collection) is None
        assert await kv.get_many([key, "k"], collection=collection) == [None, None]
        assert await kv.ttl(key, collection=collection) == (None, None)
    assert hooks.contents(url) == theirs
    for collection, key in hooks.misnamed:
        assert await kv.delete(key, collection=collection) is False
        assert await kv.delete_many([key, "k"], collection=collection) == 0
    await kv.put("k", {"again": True}, collection="a")
    assert await kv.get("k", collection="a") == {"again": True}


async def test_a_damaged_row_is_an_error_for_its_own_key_alone(hooks: Hooks, url: str, runtime: Runtime) -> None:  # H-37
    kv = runtime.adapt(hooks.store(url))
    for bad in hooks.bad_keys:
        for name, damaged in hooks.damaged.items():
            await kv.put_many(["good", bad], [{"a": 1}, {}], collection="c")
            hooks.damage(url, bad, damaged)
            reads = [partial(kv.get, bad), partial(kv.ttl, bad), partial(kv.get_many, ["good", bad])]
            for error in await assert_raised(DeserializationError, "overwrite", *[partial(read, collection="c") for read in reads]):
                assert error.extra_info == {"collection": "c", "key": bad}, name
            assert await kv.get("good", collection="c") == {"a": 1}
            await assert_keys(kv, ["good", bad] if hooks.lists_damaged else ["good"], "c")
            if has_capability(kv, "cull"):
                await kv.cull()
            assert await kv.delete(bad, collection="c") is True, name
            assert await kv.delete(bad, collection="c") is False, name
            await kv.put(bad, {}, collection="c")
            hooks.damage(url, bad, damaged)
            await kv.put(bad, {"a": 2}, collection="c")
            assert await kv.get(bad, collection="c") == {"a": 2}, name
            assert await kv.delete(bad, collection="c") is True, name


# Several at a time


async def test_first_puts_at_once_lose_nothing(hooks: Hooks, url: str, runtime: Runtime) -> None:
    stores = [runtime.adapt(hooks.fresh(url)) for _ in range(2)]
    values = {f"k{number}": {"n": number} for number in range(20)}
    await at_once(runtime, [partial(kv.put, key, values[key]) for kv, key in zip(stores * 10, values, strict=True)])
    for kv in stores:
        assert await kv.get_many(list(values)) == list(values.values())


async def test_of_many_that_delete_at_once_one_is_told_so(hooks: Hooks, url: str, runtime: Runtime) -> None:
    methods = ["delete", "delete_many"] if hooks.counts_bulk else ["delete"]
    with hooks.for_deletes(url) as there:
        stores = [runtime.adapt(hooks.store(there)) for _ in range(2)]
        for key in ("k", ":k", *hooks.bad_keys[1:]):
            await assert_one_is_told(runtime, stores * 5, key, scale(5, 20), *methods)
        if hooks.leaves_graves:
            await stores[0].destroy()
    assert hooks.contents(url) == {}
