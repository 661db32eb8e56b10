"""The adapters in `examples/`, as they are written there, with the real frameworks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import httpx2
import hypercorn.config
import hypercorn.trio
import pytest
import requests_cache
from litestar import Litestar, Request, get
from litestar.config.response_cache import ResponseCacheConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.testing import AsyncTestClient
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from examples.litestar_store import KeyValueStore
from examples.requests_cache_backend import KeyValueCache
from examples.starlette_sessions import make_app
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.null import NullStore
from keyvalue.testing import Clock
from tests.interop.serving import serve
from tests.servers import free_port

pytestmark = pytest.mark.backends("disk", "redis")  # one that threads call, and one that a loop awaits


async def test_the_litestar_store(make_raw: Callable[[], Any], clock: Clock) -> None:
    async with make_raw() as kv:
        store, other = KeyValueStore(kv), KeyValueStore(kv, collection="other")
        await store.set("k", b"\x00\xff", expires_in=100)
        await store.set("text", "é")
        await other.set("k", b"other")
        assert await store.get("k") == b"\x00\xff"
        assert await store.get("text") == "é".encode()
        assert await store.get("missing") is None
        assert (await store.exists("k"), await store.exists("missing")) == (True, False)
        assert await store.expires_in("k") in (99, 100)
        assert await store.expires_in("text") is None
        clock.advance(60)
        assert await store.get("k", renew_for=100) == b"\x00\xff"
        assert await store.get("text", renew_for=100) == "é".encode()
        assert await store.expires_in("text") is None
        clock.advance(60)
        assert await store.get("k") == b"\x00\xff"
        clock.advance(60)
        assert await store.get("k") is None
        await store.delete("text")
        await store.delete("text")
        assert not await store.exists("text")
        await store.set("text", "again")
        await store.delete_all()
        assert not await store.exists("text")
        assert await other.get("k") == b"other"


@pytest.mark.backends("memory")
async def test_a_litestar_store_that_can_not_delete_all_says_so() -> None:
    with pytest.raises(TypeError, match="NullStore"):
        await KeyValueStore(NullStore()).delete_all()


async def test_sessions_and_cached_responses_of_litestar(make_raw: Callable[[], Any]) -> None:
    calls: list[str] = []

    @get("/visit")
    async def visit(request: Request[Any, Any, Any]) -> dict[str, int]:
        visits = request.session.get("visits", 0) + 1
        request.set_session({"visits": visits})
        return {"visits": visits}

    @get("/slow", cache=60)
    async def slow() -> str:
        calls.append("slow")
        return f"call {len(calls)}"

    def application(kv: Any) -> Litestar:
        return Litestar(
            route_handlers=[visit, slow],
            stores={"sessions": KeyValueStore(kv, collection="sessions"), "responses": KeyValueStore(kv, collection="responses")},
            middleware=[ServerSideSessionConfig().middleware],
            response_cache_config=ResponseCacheConfig(store="responses"),
        )

    async with make_raw() as kv:
        async with AsyncTestClient(application(kv)) as client:
            assert [(await client.get("/visit")).json()["visits"] for _ in range(2)] == [1, 2]
            assert [(await client.get("/slow")).text for _ in range(2)] == ["call 1", "call 1"]
            cookies = dict(client.cookies)
        async with AsyncTestClient(application(kv)) as client:  # a new application on the same store
            client.cookies.update(cookies)
            assert (await client.get("/visit")).json() == {"visits": 3}
            assert (await client.get("/slow")).text == "call 1"
        assert len(await kv.keys("sessions")) == 1
        assert len(await kv.keys("responses")) == 1


@asynccontextmanager
async def serve_on_trio(app: Starlette) -> AsyncGenerator[str, None]:
    """Serve an application with hypercorn on trio; the caller must be on trio too."""
    config = hypercorn.config.Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    ended = anyio.Event()
    async with anyio.create_task_group() as group:
        (url,) = await group.start(partial(hypercorn.trio.serve, app, config, shutdown_trigger=ended.wait, mode="asgi"))  # pyright: ignore[reportArgumentType]
        yield url
        ended.set()


def test_starlette_sessions_on_trio(make_raw: Callable[[], Any], clock: Clock) -> None:
    async def main() -> None:
        kv = make_raw()
        async with kv:
            async with serve_on_trio(make_app(kv, https_only=False)) as url, httpx2.AsyncClient(base_url=url, timeout=20) as client:
                assert [(await client.get("/")).json()["visits"] for _ in range(3)] == [1, 2, 3]
                (name,) = await kv.keys("sessions")
                assert client.cookies["session"] == name
                async with httpx2.AsyncClient(base_url=url, cookies={"session": "forged"}, timeout=20) as stranger:
                    reply = await stranger.get("/")
                    assert reply.json() == {"visits": 1}
                    assert reply.cookies["session"] not in ("forged", name)
            async with serve_on_trio(make_app(kv, https_only=False)) as url:  # restarted
                cookies = {"session": name}
                async with httpx2.AsyncClient(base_url=url, cookies=cookies, timeout=20) as client:
                    assert (await client.get("/")).json() == {"visits": 4}
                    assert (await client.get("/leave")).json() == {"visits": 0}
                    assert name not in await kv.keys("sessions")
                async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
                    assert (await client.get("/")).json() == {"visits": 1}
                    clock.advance(15 * 24 * 3600)
                    assert (await client.get("/")).json() == {"visits": 1}

    anyio.run(main, backend="trio")


async def test_the_requests_cache_backend(make_raw: Callable[[], Any], clock: Clock) -> None:
    calls: list[str] = []

    async def data(request: StarletteRequest) -> Response:
        calls.append(request.url.path)
        return Response(b"\x00\xff" + str(len(calls)).encode(), headers={"X-Call": str(len(calls))})

    async def old(_: StarletteRequest) -> Response:
        calls.append("old")
        return RedirectResponse("/data")

    async def text(_: StarletteRequest) -> Response:
        calls.append("text")
        return PlainTextResponse("é")

    def synchronous(url: str) -> None:
        kv: Any = BlockingKeyValue(make_raw())
        with kv, requests_cache.CachedSession(backend=KeyValueCache(kv), expire_after=60) as session:
            first, second = session.get(f"{url}/data"), session.get(f"{url}/data")
            assert (getattr(first, "from_cache", None), getattr(second, "from_cache", None)) == (False, True)
            assert first.content == second.content == b"\x00\xff1"
            assert second.headers["X-Call"] == "1"
            assert session.get(f"{url}/text").text == "é"
            redirected = [session.get(f"{url}/old") for _ in range(2)]
            assert [response.content for response in redirected] == [b"\x00\xff1"] * 2
            assert calls == ["/data", "text", "old"]
            key: str = session.cache.create_key(first.request)
            # It is the store that answers.
            row = kv.get(key, collection="http_cache-responses")
            assert 3000 < (kv.ttl(key, collection="http_cache-responses")[1] or 0) <= 3660
            row["value"]["_content"] = "Y2hhbmdlZA=="  # "changed"
            kv.put(key, row, collection="http_cache-responses", ttl=3660)
            assert session.get(f"{url}/data").content == b"changed"
            assert len(session.cache.responses) == 3  # a redirected request has an entry of its own
            assert session.cache.contains(url=f"{url}/data")
            session.cache.delete(urls=[f"{url}/data"])
            assert session.get(f"{url}/data").content == b"\x00\xff4"
            clock.advance(3700)  # the store forgets what requests-cache would not use any more either
            assert len(session.cache.responses) == 0
            session.get(f"{url}/text")
            session.cache.clear()
            assert (len(session.cache.responses), len(session.cache.redirects)) == (0, 0)

    app = Starlette(routes=[Route("/data", data), Route("/old", old), Route("/text", text)])
    async with serve(app, free_port()) as url:
        await anyio.to_thread.run_sync(synchronous, url)


@pytest.mark.backends("memory")
def test_a_requests_cache_that_can_not_list_says_so() -> None:
    with BlockingKeyValue(NullStore()) as kv, pytest.raises(TypeError, match="list its keys"):
        KeyValueCache(kv)
