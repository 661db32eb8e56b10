"""What servers of Redis and Valkey answer when they can't or won't do as they are told, and what the stores make of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from keyvalue.errors import StoreConnectionError, StoreRefusedError, ValueTooLargeError
from keyvalue.stores import _resp
from keyvalue.testing._suite import at_once
from keyvalue.wrappers.retry import RetryWrapper
from tests.conftest import skip_or_fail
from tests.proxy import Proxy, open_proxy
from tests.runtimes import Runtime
from tests.servers import await_answer
from tests.servers.redis import private_server, valkey_server
from tests.servers.registry import SERVERS
from tests.stores.hooks import SECRET, Hooks, address, assert_raised, hooks_of

pytestmark = pytest.mark.backends("redis", "valkey")
Make = Callable[..., Any]


@pytest.fixture
def own_url(backend: str) -> Iterator[str]:
    """The URL of a server of the test's own."""
    if why := SERVERS[backend].absent():
        skip_or_fail(backend, why)
    slow = ("--loading-process-events-interval-bytes", "1024", "--key-load-delay", "200")  # microseconds a key
    with private_server(*slow, "--enable-debug-command", "yes", program=_program(backend)) as url:
        yield url


@pytest.fixture
def server(own_url: str) -> Iterator[Any]:
    """A client of that server."""
    with redis.Redis.from_url(own_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def make_own(backend: str, own_url: str, runtime: Runtime) -> Make:
    """Make stores over that server."""
    return lambda **options: runtime.adapt(hooks_of(backend).kind(**address(own_url), **options))


def _program(backend: str) -> str | None:
    return "redis-server" if backend == "redis" else valkey_server()


def _raises(word: str, call: Callable[[], object]) -> bool:
    try:
        call()
    except redis.RedisError as error:
        return isinstance(error, redis.BusyLoadingError) if word == "LOADING" else str(error).startswith(word)
    return False


# States of a server


@contextmanager
def _without_replicas(server: Any) -> Generator[None, None, None]:
    server.config_set("min-replicas-to-write", 1)
    yield


@contextmanager
def _full(server: Any) -> Generator[None, None, None]:
    server.config_set("maxmemory", 1)
    yield


@contextmanager
def _unable_to_save(server: Any) -> Generator[None, None, None]:
    (Path(server.config_get("dir")["dir"]) / "dump.rdb" / "in the way").mkdir(parents=True)
    server.config_set("save", "1000 1")
    server.bgsave()
    await_answer(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed save")
    try:
        yield
    finally:
        server.config_set("save", "")  # or it would not end


@contextmanager
def _in_another_thread(server: Any, word: str, call: Callable[[], object], end: Callable[[], object]) -> Generator[None, None, None]:
    def run() -> None:
        with suppress(redis.RedisError):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    await_answer(lambda: _raises(word, server.ping), word)
    try:
        yield
    finally:
        end()
        thread.join()


def _busy(server: Any) -> Any:
    server.config_set("busy-reply-threshold", 10)
    return _in_another_thread(server, "BUSY", lambda: server.eval("while true do end", 0), server.script_kill)


def _loading(server: Any) -> Any:
    server.mset({f"other:{number}": "x" * 100 for number in range(20_000)})
    return _in_another_thread(server, "LOADING", lambda: server.execute_command("DEBUG RELOAD"), lambda: server.shutdown(nosave=True))


STATES: dict[str, tuple[Callable[[Any], Any], type[Exception], str, bool]] = {
    "no replicas": (_without_replicas, StoreConnectionError, "too few replicas", True),
    "unable to save": (_unable_to_save, StoreConnectionError, "can't save to its disk", True),
    "busy": (_busy, StoreConnectionError, "busy with a script", False),
    "loading": (_loading, StoreConnectionError, "still loading", False),
    "full": (_full, StoreRefusedError, "raise its maxmemory", True),
}
"""States: how a server gets there, what a write raises, a pattern of what that says, and whether reading goes on."""


@pytest.mark.parametrize("state", STATES)
async def test_what_a_server_answers_is_told(make_own: Make, server: Any, state: str) -> None:
    enter, error, advice, reads = STATES[state]
    before, value = make_own(), {"password": SECRET}
    await before.put("k", {"a": 1})
    with enter(server):
        for kv in (before, make_own()):  # the second one opens here
            if reads:
                assert await kv.get_many(["k", "l"]) == [{"a": 1}, None]
            else:
                await assert_raised(error, advice, lambda kv=kv: kv.get("k"), lambda kv=kv: kv.get_many(["k", "l"]))
            calls = [partial(kv.put, "k", value, ttl=50), partial(kv.put_many, ["k", "l"], [value, {}]), partial(kv.put, "::k", value)]
            await assert_raised(error, advice, *calls, partial(kv.put_many, ["k", "l"], [value, {}], ttl=50))


async def test_rights_to_read_and_write_are_enough(make_own: Make, server: Any, backend: str) -> None:
    needed = ["+get", "+mget", "+set", "+getdel", *(["+info"] if backend == "valkey" else [])]  # glide looks for the primary by INFO
    server.acl_setuser("narrow", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], commands=needed)

    kv = make_own(username="narrow", password=SECRET)
    await kv.setup()
    await kv.put("k", {"a": 1}, ttl=50)
    assert await kv.get_many(["k", "l"]) == [{"a": 1}, None]
    assert await kv.delete("k") is True
    await assert_raised(StoreRefusedError, "check the user's rights", kv.keys)
    await assert_raised(StoreRefusedError, "credentials", make_own(username="narrow", password=SECRET + "x").setup)


READERS: dict[str, tuple[str, int]] = {
    "scripts, but no sizes": ("+eval", 100),
    "sizes, but no scripts": ("+strlen", 10),
    "neither": ("+ping", 100),
    "both": ("+eval +strlen", 0),
}
"""What who reads may do beyond that, and how many MGETs it may take to list 1,000 small entries at most."""


@pytest.mark.parametrize("rights", READERS)
async def test_who_may_read_can_list(make_own: Make, server: Any, backend: str, rights: str) -> None:
    more, most = READERS[rights]
    needed = ["+get", "+mget", "+set", "+mset", "+getdel", "+scan", "+del", *(["+info"] if backend == "valkey" else []), *more.split()]
    server.acl_setuser("narrow", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], commands=needed)
    kv, keys = make_own(username="narrow", password=SECRET), [f"k{number}" for number in range(1000)]
    await kv.put_many(keys, [{"a": 1}] * 1000)
    await kv.put("large", {"x": "x" * 2**20})
    server.lpush("default_collection::list", "x")
    server.config_resetstat()
    assert sorted(await kv.keys()) == [*sorted(keys), "large"]
    commands = {name.removeprefix("cmdstat_"): figures for name, figures in server.info("commandstats").items()}
    assert commands.get("mget", {"calls": 0})["calls"] <= most
    # What was refused once is not asked for with each page.
    refused = sum(commands.get(name, {}).get("rejected_calls", 0) for name in ("eval", "strlen"))
    assert refused < 1000
    assert await kv.destroy() is True
    assert await kv.get("k1") is None
    assert server.keys() == ["default_collection::list"]


# What is too large


async def test_a_value_larger_than_the_server_takes(runtime: Runtime, make_own: Make, server: Any) -> None:
    server.config_set("proto-max-bulk-len", 2**20)
    kv, large = make_own(), {"password": SECRET, "x": "x" * 2**21}
    calls = {
        "k": partial(kv.put, "k", large),
        "l": partial(kv.put, "l", large, ttl=50),
        "::m": partial(kv.put, "::m", large),
        "n": partial(kv.put_many, ["a", "n", "b"], [{}, large, {}]),
        "o": partial(kv.put_many, ["a", "o", "b"], [{}, large, {"x": "x" * 2**19}], ttl=50),
    }
    for key, call in calls.items():
        (error,) = await assert_raised(ValueTooLargeError, "larger than the backend takes", call)
        assert error.extra_info.pop("size") > 2**21
        assert error.extra_info == {"max_size": 2**20, "collection": "default_collection", "key": key}
        assert error.__cause__ is not None
        assert await runtime.eventually(lambda key=key: kv.get(key)) is None
    largest = {"x": "x" * (2**20 - 300)}
    await runtime.eventually(lambda: kv.put("k", largest))
    assert await kv.get("k") == largest


@pytest.mark.backends("redis-cluster", "valkey-cluster")
async def test_a_value_larger_than_a_cluster_takes(runtime: Runtime, kv: Any, raw: Any) -> None:
    usual = raw.config_get("proto-max-bulk-len", target_nodes=raw.RANDOM)["proto-max-bulk-len"]
    raw.config_set("proto-max-bulk-len", 2**20, target_nodes=raw.PRIMARIES)
    try:
        large = {"password": SECRET, "x": "x" * 2**21}
        for call in (partial(kv.put, "k", large), partial(kv.put_many, ["a", "k", "b"], [{}, large, {}])):
            (error,) = await assert_raised(ValueTooLargeError, "larger than the backend takes", call)
            assert (error.extra_info["max_size"], error.extra_info["key"]) == (2**20, "k")
            assert await runtime.eventually(lambda: kv.get("k")) is None
    finally:
        raw.config_set("proto-max-bulk-len", usual, target_nodes=raw.PRIMARIES)


async def test_a_value_beyond_the_usual_limit_is_sent_if_the_server_says_that_it_takes_more(
    make_own: Make, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_resp, "_USUAL_LIMIT", 2**20)
    kv, large = make_own(), {"password": SECRET, "x": "x" * 2**21}
    await kv.put("k", large)
    server.acl_setuser("default", enabled=True, commands=["-config"])
    (error,) = await assert_raised(ValueTooLargeError, "larger than the backend takes", partial(kv.put_many, ["l", "m"], [{}, large]))
    assert (error.extra_info["max_size"], error.extra_info["key"]) == (2**20, "m")
    assert await kv.get_many(["k", "l", "m"]) == [large, None, None]


@pytest.mark.backends("redis")
async def test_a_server_that_is_gone_is_not_asked_what_it_takes(
    hooks: Hooks, proxy: Proxy, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_resp, "_PAUSES", (0.0, 5.0))
    kv = runtime.adapt(hooks.store(proxy.url))
    await kv.put("k", {})
    with proxy.refusing():
        started = time.monotonic()
        await assert_raised(StoreConnectionError, "could not reach", partial(kv.put, "k", {"password": SECRET, "x": "x" * 2**20}))
        assert time.monotonic() - started < 4
    assert await kv.get("k") == {}


# Primaries that come and go


async def test_a_primary_that_was_demoted_is_left(backend: str, own_url: str, server: Any, runtime: Runtime) -> None:
    hooks = hooks_of(backend)
    hurried = ("--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0")
    async with AsyncExitStack() as stack:
        other_url = stack.enter_context(private_server(*hurried, program=_program(backend)))
        proxy = stack.enter_context(open_proxy(own_url))
        if runtime.name == "asyncio":
            clients = [await stack.enter_async_context(client) for client in hooks.async_clients(proxy.url).values()]
        else:
            clients = [stack.enter_context(client) for client in hooks.sync_clients(proxy.url).values()]
        stores = [hooks.kind(**address(proxy.url)), *map(hooks.given, clients)]
        kvs = [runtime.adapt(RetryWrapper(store, max_retries=6)) for store in stores]
        for kv in kvs:
            await at_once(runtime, [partial(kv.put, f"k{number}", {}) for number in range(5)])
        server.execute_command("REPLICAOF", *address(other_url).values())
        proxy.lead_to(other_url)
        for kv in kvs:
            for number in range(5):
                await kv.put(f"k{number}", {"a": number}, ttl=50)
                await kv.put_many(["l", f"m{number}"], [{}, {"a": number}], ttl=50)
                assert await kv.delete("l") is True
                assert await kv.get_many([f"k{number}", "l"]) == [{"a": number}, None]
        with redis.Redis.from_url(other_url) as other:
            assert other.exists("default_collection::k0", "default_collection::m4") == 2
