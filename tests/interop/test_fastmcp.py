"""FastMCP with our stores where it asks for an `AsyncKeyValue`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any, SupportsFloat
from urllib.parse import parse_qs, urljoin, urlsplit

import fastmcp
import httpx2
import pytest
from cryptography.fernet import Fernet
from fastmcp import Client, Context, FastMCP
from fastmcp.client.auth import OAuth
from fastmcp.client.auth import oauth as oauth_client
from fastmcp.exceptions import ToolError
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.oauth_proxy import proxy as oauth_proxy
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.dependencies import get_session
from fastmcp.server.event_store import EventStore
from fastmcp.server.middleware import caching
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.sessions import SessionId, SessionProvider
from key_value.aio.adapters import pydantic as old_pydantic_adapter
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore
from key_value.aio.wrappers.encryption import FernetEncryptionWrapper as OldFernetEncryptionWrapper
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull
from pydantic import AnyHttpUrl, BaseModel

from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.filetree import FileTreeStore, FileTreeV1CollectionSanitizationStrategy, FileTreeV1KeySanitizationStrategy
from keyvalue.wrappers.encryption import FernetEncryptionWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.statistics import GetStatistics, KVStoreCollectionStatistics, PutStatistics, StatisticsWrapper
from tests.interop.fake_identity_provider import CLIENT_ID, CLIENT_SECRET, SCOPE, FakeIdentityProvider
from tests.interop.serving import serve
from tests.servers import free_port

pytestmark = pytest.mark.backends("filetree", "redis")  # the default of its own, and one that a loop awaits

Make = Callable[[], Any]


async def test_responses_are_served_from_the_store(make_raw: Make) -> None:
    called: list[int] = []

    def server(store: AsyncKeyValue) -> FastMCP:
        mcp: FastMCP = FastMCP("adds", middleware=[ResponseCachingMiddleware(cache_storage=store)])

        @mcp.tool
        def double(n: int) -> str:
            called.append(n)
            return f"twice {n} is {2 * n}"

        return mcp

    async with make_raw() as store, Client(server(store)) as client:
        assert (await client.call_tool("double", {"n": 4})).data == "twice 4 is 8"
        assert (await client.call_tool("double", {"n": 4})).data == "twice 4 is 8"
        assert called == [4]
        assert await store.keys("tools/list") != []
    async with make_raw() as store, Client(server(store)) as client:
        (key,) = await store.keys("tools/call")
        row, seconds = await store.ttl(key, collection="tools/call")
        assert 3000 < seconds <= 3600
        changed = json.loads(json.dumps(row).replace("twice 4 is 8", "changed in the store"))
        await store.put(key, changed, collection="tools/call", ttl=seconds)
        assert (await client.call_tool("double", {"n": 4})).data == "changed in the store"
        assert called == [4]
        assert await store.delete(key, collection="tools/call")
        assert (await client.call_tool("double", {"n": 4})).data == "twice 4 is 8"
        assert called == [4, 4]


def counter(store: AsyncKeyValue) -> FastMCP:
    mcp: FastMCP = FastMCP("counts", session_state_store=store)
    mcp.add_provider(SessionProvider())

    @mcp.tool
    async def count(session_id: SessionId) -> int:
        session = await get_session(session_id)
        calls = (await session.get("calls") or 0) + 1
        await session.set("calls", calls)
        return calls

    return mcp


async def test_sessions_outlive_a_restart_of_the_server(make_raw: Make) -> None:
    async with make_raw() as store, Client(counter(store)) as client:
        session = (await client.call_tool("create_session")).data
        other = (await client.call_tool("create_session")).data
        assert (await client.call_tool("count", {"session_id": session})).data == 1
        assert (await client.call_tool("count", {"session_id": session})).data == 2
    async with make_raw() as store, Client(counter(store)) as client:
        assert (await client.call_tool("count", {"session_id": session})).data == 3
        assert (await client.call_tool("count", {"session_id": other})).data == 1
        assert len(await store.keys("fastmcp_state")) == 2
        await client.call_tool("end_session", {"session_id": session})
        with pytest.raises(ToolError):
            await client.call_tool("count", {"session_id": session})
        assert len(await store.keys("fastmcp_state")) == 1


async def test_events_are_replayed(make_raw: Make) -> None:
    async with make_raw() as store:
        mcp: FastMCP = FastMCP("reports")

        @mcp.tool
        async def work(context: Context) -> str:
            for step in range(3):
                await context.report_progress(step, 3, f"step {step}")
            return "done"

        app = mcp.http_app(event_store=EventStore(storage=store))
        headers = {"Accept": "application/json, text/event-stream"}
        async with serve(app, free_port()) as url, httpx2.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
            hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
            rpc = partial(dict, jsonrpc="2.0")
            reply = await client.post("/mcp", json=rpc(method="initialize", params=hello, id=1))
            reply.raise_for_status()
            client.headers["Mcp-Session-Id"] = reply.headers["mcp-session-id"]
            client.headers["MCP-Protocol-Version"] = "2025-11-25"
            await client.post("/mcp", json=rpc(method="notifications/initialized"))
            call = {"name": "work", "arguments": {}, "_meta": {"progressToken": "t"}}
            reply = await client.post("/mcp", json=rpc(method="tools/call", params=call, id=2))
            seen = events(reply.text)
            assert [event["params"]["message"] for _, event in seen if "params" in event] == ["step 0", "step 1", "step 2"]
            assert seen[-1][1]["result"]["content"][0]["text"] == "done"
            # As if the connection had been lost after the first of them.
            missed: list[tuple[str, Any]] = []
            async with client.stream("GET", "/mcp", headers={"Last-Event-ID": seen[0][0]}) as stream:
                text = ""
                async for chunk in stream.aiter_text():
                    text += chunk
                    missed = events(text)
                    if len(missed) >= len(seen) - 1:
                        break
            assert missed == seen[1:]
        assert {*await store.keys("fastmcp_events")} >= {identifier for identifier, _ in seen}

    async with make_raw() as store:  # and by a new server
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message.event_id)

        assert await EventStore(storage=store).replay_events_after(seen[0][0], send)
        assert sent == [identifier for identifier, _ in seen[1:]]


def events(text: str) -> list[tuple[str, Any]]:
    """Return the identifiers and messages of those events of a stream that have both and are complete."""
    found: list[tuple[str, Any]] = []
    for block in re.split(r"\r?\n\r?\n", text)[:-1]:
        fields = {name: value for name, _, value in (line.partition(": ") for line in block.splitlines())}
        if fields.get("id") and fields.get("data"):
            found.append((fields["id"], json.loads(fields["data"])))
    return found


class Browser(OAuth):
    """The client's side of an authorization, with a user who consents to everything."""

    authorizations = 0

    async def redirect_handler(self, authorization_url: str) -> None:
        self.authorizations += 1
        async with httpx2.AsyncClient(timeout=20) as browser:
            url, reply = authorization_url, await browser.get(authorization_url)
            while True:
                if reply.is_redirect:
                    url = urljoin(url, reply.headers["location"])
                    if url.startswith(f"http://localhost:{self.redirect_port}/"):
                        break
                    reply = await browser.get(url)
                else:  # FastMCP's page of consent
                    assert reply.status_code == 200, reply.text
                    form = {name: re.search(rf'name="{name}" value="([^"]*)"', reply.text) for name in ("txn_id", "csrf_token")}
                    fields = {name: unescape(match[1]) for name, match in form.items() if match}
                    reply = await browser.post(url, data={**fields, "action": "approve"}, headers={"Origin": urljoin(url, "/")[:-1]})
        query = parse_qs(urlsplit(url).query)
        iss = query.get("iss", [None])[0]
        self._answer = AuthorizationCodeResult(code=query["code"][0], state=query["state"][0], iss=iss)

    async def callback_handler(self) -> AuthorizationCodeResult:
        return self._answer


def make_protected(provider_url: str, url: str, store: Any | None) -> Any:
    """Make a server that lets in whom the identity provider lets in."""
    verifier = IntrospectionTokenVerifier(
        introspection_url=f"{provider_url}/introspect", client_id=CLIENT_ID, client_secret=CLIENT_SECRET, required_scopes=[SCOPE]
    )
    proxy = OAuthProxy(
        upstream_authorization_endpoint=f"{provider_url}/authorize",
        upstream_token_endpoint=f"{provider_url}/token",
        upstream_client_id=CLIENT_ID,
        upstream_client_secret=CLIENT_SECRET,
        token_verifier=verifier,
        base_url=url,
        client_storage=store,
    )
    mcp: FastMCP = FastMCP("protected", auth=proxy)

    @mcp.tool
    def greet() -> str:
        return "hello"

    return mcp.http_app()


async def authorizations(provider_url: str, port: int, store: Any | None, tokens: Any) -> int:
    """Serve, greet as a new client with the tokens of a store, and return how often its user was asked."""
    url = f"http://127.0.0.1:{port}"
    browser = Browser(token_storage=tokens)
    async with serve(make_protected(provider_url, url, store), port), Client(f"{url}/mcp", auth=browser) as client:
        assert (await client.call_tool("greet")).data == "hello"
    return browser.authorizations


STORED_BY_THE_PROXY = {"mcp-upstream-tokens", "mcp-oauth-proxy-clients", "mcp-jti-mappings", "mcp-refresh-tokens"}


async def test_an_authorization_outlives_restarts(make_raw: Make) -> None:
    provider, port = FakeIdentityProvider(), free_port()
    async with serve(provider.app, free_port()) as provider_url:
        async with make_raw() as store:
            assert await authorizations(provider_url, port, store, store) == 1
            assert {*await store.collections()} >= STORED_BY_THE_PROXY
        # Both the server and the client are new, and nobody is asked again.
        async with make_raw() as store:
            assert await authorizations(provider_url, port, store, store) == 0
            (tokens,) = await store.keys("mcp-upstream-tokens")
            assert (await store.get(tokens, collection="mcp-upstream-tokens"))["access_token"] in provider.tokens
            # What is no longer in the store is no longer known.
            await store.destroy_collection("mcp-jti-mappings")
            await store.destroy_collection("mcp-refresh-tokens")
            assert await authorizations(provider_url, port, store, store) == 1


@pytest.mark.filterwarnings("ignore:Using in-memory token storage")
async def test_its_default_token_store_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """FastMCP fills a file tree with the predecessor's store; a server with ours on the same files goes on from there."""
    made: list[tuple[OldFernetEncryptionWrapper, Fernet]] = []
    pairs: set[tuple[str, str]] = set()

    class Noting(OldFernetEncryptionWrapper):
        def __init__(self, key_value: Any, *, fernet: Fernet, raise_on_decryption_error: bool) -> None:
            super().__init__(key_value, fernet=fernet, raise_on_decryption_error=raise_on_decryption_error)
            made.append((self, fernet))

        async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
            pairs.add((str(collection), key))
            await super().put(key, value, collection=collection, ttl=ttl)

    monkeypatch.setattr(fastmcp.settings, "home", tmp_path)
    monkeypatch.setattr(oauth_proxy, "FernetEncryptionWrapper", Noting)
    provider, port, tokens = FakeIdentityProvider(), free_port(), OldMemoryStore()
    async with serve(provider.app, free_port()) as provider_url:
        assert await authorizations(provider_url, port, None, tokens) == 1
        theirs, fernet = made[0]
        (directory,) = (tmp_path / "oauth-proxy").iterdir()
        files = FileTreeStore(
            data_directory=directory,
            key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(directory),
            collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(directory),
        )
        ours: Any = FernetEncryptionWrapper(files, fernet=fernet, raise_on_decryption_error=False)
        found: set[str] = set()
        for collection, key in pairs:
            value = await ours.get(key, collection=collection)
            assert value == await theirs.get(key, collection=collection)
            if value is not None:  # what serves once is gone by now
                found.add(collection)
                assert "__encrypted_data__" in ((await files.get(key, collection=collection)) or {})
        assert found >= STORED_BY_THE_PROXY
        assert {*await ours.collections()} >= STORED_BY_THE_PROXY
        assert await authorizations(provider_url, port, ours, tokens) == 0
        await files.close()


# What FastMCP does with the adapters and wrappers that it imports, once the imports are of this library.


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_pydantic_adapter, "PydanticAdapter", PydanticAdapter)  # the server imports it when it is first used
    for module in (oauth_client, caching):
        monkeypatch.setattr(module, "PydanticAdapter", PydanticAdapter)
    monkeypatch.setattr(caching, "StatisticsWrapper", StatisticsWrapper)
    monkeypatch.setattr(caching, "LimitSizeWrapper", LimitSizeWrapper)


@pytest.mark.usefixtures("moved")
async def test_a_client_is_stored_with_a_url_of_another_class(make_raw: Make) -> None:
    client = OAuthClientInformationFull(client_id="a", redirect_uris=[AnyHttpUrl("http://localhost:8000/callback")])
    async with make_raw() as store:
        adapter = oauth_client.TokenStorageAdapter(store, server_url="http://localhost")
        await adapter.set_client_info(client)
        found = await adapter.get_client_info()
        assert found is not None
        assert found.model_dump(mode="json") == client.model_dump(mode="json")


class Note(BaseModel):
    text: str
    on: date


@pytest.mark.usefixtures("moved")
async def test_state_may_be_a_model_and_not_an_object(make_raw: Make) -> None:
    async with make_raw() as store:
        mcp: FastMCP = FastMCP("notes", session_state_store=store)

        @mcp.tool
        async def note(context: Context) -> Any:
            for value in (object(), {1, 2}, float("nan")):
                with pytest.raises(TypeError, match="not serializable"):
                    await context.set_state("k", value)
            await context.set_state("note", Note(text="a", on=date(2026, 1, 1)))
            return await context.get_state("note")

        async with Client(mcp) as client:
            assert (await client.call_tool("note")).structured_content == {"text": "a", "on": "2026-01-01"}


@pytest.mark.usefixtures("moved")
async def test_figures_of_its_cache_can_be_compared(make_raw: Make) -> None:
    async with make_raw() as store:
        middleware = ResponseCachingMiddleware(cache_storage=store)
        mcp: FastMCP = FastMCP("adds", middleware=[middleware])
        mcp.tool(lambda n: n + 1, name="add")
        async with Client(mcp) as client:
            for _ in range(2):
                await client.call_tool("add", {"n": 1})
        found: Any = middleware._stats.statistics.collections["tools/call"]  # pyright: ignore[reportPrivateUsage] # `statistics()` takes its own classes
        assert found == KVStoreCollectionStatistics(get=GetStatistics(count=2, hit=1, miss=1), put=PutStatistics(count=1))
