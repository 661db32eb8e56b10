"""What is ElasticsearchStore's own: how it connects, where and in which form it keeps what, and what happens to its indices."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import pytest
from elasticsearch import AsyncElasticsearch, Elasticsearch, OrjsonSerializer

from keyvalue._core import sanitization
from keyvalue._core.entry import Entry
from keyvalue._core.flat import Change
from keyvalue.errors import (
    DeserializationError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
    ValueTooLargeError,
)
from keyvalue.stores import elasticsearch as module
from keyvalue.stores._elasticsearch import MAPPING
from keyvalue.stores.elasticsearch import ElasticsearchStore
from keyvalue.testing import Clock
from tests.runtimes import Runtime
from tests.servers import free_port

SECRET = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it


@pytest.fixture
def url(empty_server: Callable[[str], str]) -> str:
    return empty_server("elasticsearch")


@pytest.fixture
def raw(url: str) -> Generator[Elasticsearch, None, None]:
    """A client to look behind the store's back."""
    with Elasticsearch(url) as client:
        yield client


@pytest.fixture
def kv(runtime: Runtime, url: str) -> Any:
    return runtime.adapt(ElasticsearchStore(url=url, index_prefix="kv"))


def names(raw: Any) -> set[str]:
    raw.indices.refresh(index="*")
    return {f"{hit['_index']}/{hit['_id']}" for hit in raw.search(index="*", size=1000)["hits"]["hits"]}


def indices(raw: Any) -> set[str]:
    return set(raw.indices.get(index="*"))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# Connecting


@pytest.mark.parametrize("address", ["localhost", "localhost:9200", "ftp://localhost:9200", f"http://u:{SECRET}@host:port", "http://"])
def test_a_url_that_can_not_be_parsed(address: str) -> None:
    with pytest.raises(ValueError, match="can't parse the URL") as caught:
        ElasticsearchStore(url=address, index="kv")
    assert SECRET not in f"{caught.value} {caught.value.__context__}"


@pytest.mark.parametrize("given", [{}, {"url": "http://localhost:9200", "elasticsearch_client": Elasticsearch("http://localhost:9200")}])
def test_either_a_client_or_a_url(given: Any) -> None:
    with pytest.raises(ValueError, match="exactly one of: elasticsearch_client, url"):
        ElasticsearchStore(index="kv", **given)


@pytest.mark.parametrize("given", [{}, {"index": "a", "index_prefix": "b"}, {"index": ""}])
def test_either_index_or_index_prefix(given: Any) -> None:
    with pytest.raises(ValueError, match="exactly one of: index_prefix, index"):
        ElasticsearchStore(url="http://localhost:9200", **given)


@pytest.mark.parametrize("prefix", ["-a", "_a", "+a", "a b", "a/b", "a*", "a,b", "a:b", "a#", "x" * 190, "é" * 95])
def test_a_prefix_that_no_index_can_have(prefix: str) -> None:
    with pytest.raises(ValueError, match=r'index_prefix: .* \\ / \* \? " < > \| , # : or a space'):
        ElasticsearchStore(url="http://localhost:9200", index_prefix=prefix)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_is_none(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be a positive number"):
        ElasticsearchStore(url="http://localhost:9200", index="kv", timeout=timeout)


@pytest.mark.parametrize("client", ["http://localhost", object(), Elasticsearch])
def test_a_client_of_a_wrong_type(client: Any) -> None:
    with (
        pytest.warns(UserWarning, match="elasticsearch_client should be"),
        pytest.raises(TypeError, match="an Elasticsearch or an AsyncElasticsearch"),
    ):
        ElasticsearchStore(elasticsearch_client=client, index="kv")


def test_a_key_for_a_client_that_has_its_own() -> None:
    with Elasticsearch("http://localhost:9200") as client, pytest.raises(ValueError, match="api_key with a url"):
        ElasticsearchStore(elasticsearch_client=client, api_key="x", index="kv")


def test_the_constructor_connects_to_nothing() -> None:
    ElasticsearchStore(url=f"http://127.0.0.1:{free_port()}", index="kv")
    ElasticsearchStore(url="https://somewhere", api_key="x", index="kv")


async def test_a_server_that_is_not_there(runtime: Runtime) -> None:
    kv = runtime.adapt(ElasticsearchStore(url=f"http://u:{SECRET}@127.0.0.1:{free_port()}", index="kv"))
    for call in (lambda: kv.get("k"), lambda: kv.put("k", {}), lambda: kv.delete_many(["k", "l"]), lambda: kv.keys()):
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match="is it running") as caught:
            await call()
        assert time.monotonic() - started < 20
        assert SECRET not in f"{caught.value} {caught.value.__cause__!r}"


class Answer(BaseHTTPRequestHandler):
    """Answers every request in the same way, but for the first ones, and keeps what it was told."""

    status = 200
    product = "Elasticsearch"
    text = "{}"
    told: list[str | None]
    before: tuple[tuple[int, str], ...] = ()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        number = len(self.told)
        self.told.append(self.headers.get("authorization"))
        status, text = self.before[number] if number < len(self.before) else (self.status, self.text)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if self.product:
            self.send_header("x-elastic-product", self.product)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815 # names of the standard library

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # likewise
        pass


@contextmanager
def answering(**how: Any) -> Generator[tuple[str, list[str | None]], None, None]:
    """A server that answers in one way; its URL, and the credentials that it is sent. The tests' own node knows no credentials."""
    told: list[str | None] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Answer,), {**how, "told": told})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", told
        server.shutdown()
        thread.join()


ERROR = json.dumps({"error": {"type": "some_exception", "reason": "some reason", "root_cause": []}, "status": 0})
ANSWERS: list[tuple[dict[str, Any], type[KeyValueStoreError], str]] = [
    ({"status": 401, "text": ERROR}, StoreRefusedError, "check user and password or api_key"),
    ({"status": 403, "text": ERROR}, StoreRefusedError, "check the user's rights"),
    ({"status": 400, "text": ERROR}, StoreRefusedError, "refused the request"),
    ({"status": 413, "text": ERROR}, StoreRefusedError, "refused the request"),
    ({"status": 408, "text": ERROR}, StoreConnectionError, "not available"),
    ({"status": 429, "text": ERROR}, StoreConnectionError, "too much to do"),
    ({"status": 500, "text": ERROR}, StoreConnectionError, "not available"),
    ({"status": 503, "text": ERROR}, StoreConnectionError, "not available"),
    ({"product": ""}, StoreRefusedError, "not Elasticsearch"),
    ({"text": "<html>"}, StoreRefusedError, "can't be understood"),
]


@pytest.mark.parametrize("number", range(len(ANSWERS)))
async def test_what_the_server_refuses_and_what_is_worth_another_try(runtime: Runtime, number: int) -> None:
    how, error, message = ANSWERS[number]
    with answering(**how) as (url, told):
        kv = runtime.adapt(ElasticsearchStore(url=url, api_key=SECRET, index="kv"))
        for call in (lambda: kv.get("k"), lambda: kv.get_many(["k", "l"]), lambda: kv.keys()):
            with pytest.raises(error, match=message) as caught:
                await call()
            assert SECRET not in f"{caught.value} {caught.value.__cause__!r}"
    assert told == [f"ApiKey {SECRET}"] * 3


async def test_credentials_of_the_url(runtime: Runtime) -> None:
    with answering(status=401, text=ERROR) as (url, told):
        kv = runtime.adapt(ElasticsearchStore(url=url.replace("//", "//user:p%40ss@"), index="kv"))
        with pytest.raises(StoreRefusedError):
            await kv.get("k")
    assert told == ["Basic dXNlcjpwQHNz"]


NO_SHARD = json.dumps({"error": {"type": "no_shard_available_action_exception", "reason": "x", "root_cause": []}, "status": 503})
NO_SHARDS = json.dumps({"error": {"type": "search_phase_execution_exception", "reason": "all shards failed"}, "status": 503})
NO_DOCUMENT = json.dumps({"docs": [{"error": {"type": "no_shard_available_action_exception"}}]})


async def test_reads_wait_for_an_index_that_is_being_made(runtime: Runtime) -> None:
    read = [(200, NO_DOCUMENT)] * 2 + [(200, '{"docs": [{"found": false}]}')]
    listed = [(200, "{}"), (503, NO_SHARD), (200, '{"id": "x"}'), (503, NO_SHARDS), (200, '{"hits": {"hits": []}}'), (200, "{}")]
    with answering(before=(*read, *read, *listed), status=400) as (url, told):
        kv = runtime.adapt(ElasticsearchStore(url=url, index="kv"))
        assert await kv.get("k") is None
        assert await kv.delete("k") is False
        assert await kv.keys() == []
    assert len(told) == 12


async def test_reads_do_not_wait_for_ever(runtime: Runtime) -> None:
    for how in ({"text": NO_DOCUMENT}, {"status": 503, "text": NO_SHARD}):
        with answering(**how) as (url, told):
            kv = runtime.adapt(ElasticsearchStore(url=url, index="kv", timeout=0.2))
            with pytest.raises(StoreConnectionError, match="not available"):
                await kv.get("k")
        assert 1 < len(told) < 8


# Given clients


async def use(kv: Any) -> None:
    value = {"n": 2**70, "m": [2**64 + 1], "é": "😀", "x": 0.1, "d": "1" * 30}
    await kv.put("é/😀", value, collection="Foo")
    await kv.put_many(["k", "l"], [{"large": "x" * 40_000}, {}], ttl=50)
    assert await kv.get("é/😀", collection="Foo") == value
    assert await kv.get_many(["k", "missing"]) == [{"large": "x" * 40_000}, None]
    assert 40 < (await kv.ttl("l"))[1] <= 50
    assert sorted(await kv.keys()) == ["k", "l"]
    assert sorted(await kv.collections()) == ["Foo", "default_collection"]
    assert await kv.delete("é/😀", collection="Foo") is True
    await kv.cull()
    assert await kv.destroy_collection("default_collection") is True
    assert await kv.destroy() is True
    assert await kv.keys() == []


@pytest.mark.parametrize("options", [{}, {"http_compress": True}, {"serializer": OrjsonSerializer()}])
async def test_a_given_synchronous_client_works_everywhere_and_stays_open(runtime: Runtime, url: str, options: Any) -> None:  # H-58
    with Elasticsearch(url, **options) as client:
        before = dict(client.transport.serializers.serializers)
        for _ in range(2):
            kv = runtime.adapt(ElasticsearchStore(elasticsearch_client=client, index_prefix="kv"))
            await use(kv)
            await kv.close()
        assert client.ping() is True
        assert client.transport.serializers.serializers == before


@pytest.mark.parametrize("options", [{}, {"http_compress": True}, {"serializer": OrjsonSerializer()}])
async def test_a_given_asynchronous_client_works_on_its_loop_and_stays_open(url: str, options: Any) -> None:
    async with AsyncElasticsearch(url, **options) as client:
        for _ in range(2):
            async with ElasticsearchStore(elasticsearch_client=client, index="kv") as kv:
                await use(kv)
        assert await client.ping() is True


def test_an_asynchronous_client_is_refused_on_trio(url: str) -> None:
    async def main() -> None:
        store = ElasticsearchStore(elasticsearch_client=AsyncElasticsearch(url), index="kv")
        with pytest.raises(StoreSetupError, match="Pass a synchronous client"):
            await store.get("k")

    anyio.run(main, backend="trio")


# Where and how


async def test_the_layout(kv: Any, raw: Any) -> None:
    await kv.put("Key/1", {"b": 1, "a": {"c": [1, None]}}, collection="users", ttl=50)
    document = raw.get(index="kv-users", id="Key/1")["_source"]
    assert {key: document[key] for key in ("version", "collection", "key", "value")} == {
        "version": 1,
        "collection": "users",
        "key": "Key/1",
        "value": {"flattened": {"b": 1, "a": {"c": [1, None]}}},
    }
    assert document["created_at"] < document["expires_at"]
    mapping = raw.indices.get_mapping(index="kv-users")["kv-users"]["mappings"]["properties"]
    assert {name: field.get("type") for name, field in mapping.items()} == {
        "version": "integer",
        "collection": "keyword",
        "key": "keyword",
        "created_at": "date",
        "expires_at": "date",
        "value": None,
    }
    assert mapping["value"]["properties"] == {"flattened": {"type": "flattened"}, "json": {"type": "object", "enabled": False}}
    raw.indices.refresh(index="kv-users")
    assert raw.count(index="kv-users", query={"term": {"value.flattened.a.c": "1"}})["count"] == 1


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else 1


def in_lists(levels: int) -> Any:
    return [in_lists(levels - 1)] if levels else 1


FORMS: list[tuple[dict[str, Any], str]] = [
    ({"a": "x" * 32_698}, "flattened"),
    ({"a": "x" * 32_800}, "json"),
    ({"a": "é" * 16_500}, "json"),
    ({"a": {"b": "x" * 32_690}}, "flattened"),
    ({"a" * 10_000: {"b" * 10_000: "x" * 10_000}}, "flattened"),
    ({"a" * 10_000: {"b" * 10_000: "x" * 13_000}}, "json"),
    ({"many": ["x" * 1000] * 100}, "flattened"),
    (nested(20), "flattened"),
    (nested(21), "json"),
    ({"a": nested(19), "b": {str(number): {} for number in range(30)}}, "flattened"),
    ({"a": in_lists(100)}, "flattened"),
    ({"": {"": [""]}, ".": {"..": 1}, "a.b": 2, "a": {"b": 3}}, "flattened"),
    ({"nul": "a\0b"}, "json"),
    ({"nul\0": 1}, "json"),
    ({"n": 10**800}, "flattened"),
    ({"n": 10**1000}, "json"),
    ({"x": [1, "1", 1.5, True, None, {}, []]}, "flattened"),
]


@pytest.mark.parametrize("number", range(len(FORMS)))
async def test_what_a_flattened_field_can_not_hold_is_kept_as_text(kv: Any, raw: Any, number: int) -> None:
    value, form = FORMS[number]
    await kv.put("k", {"old": True}, collection="c")
    await kv.put("k", value, collection="c")
    assert await kv.get("k", collection="c") == value
    held = raw.get(index="kv-c", id="k")["_source"]["value"]
    assert list(held) == [form]
    await kv.put_many(["k", "l"], [{"a": 1}, value], collection="c")
    assert await kv.get_many(["k", "l"], collection="c") == [{"a": 1}, value]


async def test_large_values(kv: Any) -> None:
    values = [{"text": str(number) * 3_000_000} for number in range(5)]
    await kv.put_many(list("abcde"), values)
    assert await kv.get_many(list("abcde")) == values
    await kv.put("a", {"text": "é" * 5_000_000})
    assert await kv.get("a") == {"text": "é" * 5_000_000}


async def test_a_value_that_is_too_large_leaves_the_old_one(kv: Any) -> None:
    await kv.put("k", {"old": True})
    value = {"password": SECRET, "large": "x" * module._LARGEST}  # pyright: ignore[reportPrivateUsage]
    for call in (lambda: kv.put("k", value), lambda: kv.put_many(["l", "k"], [{}, value])):
        with pytest.raises(ValueTooLargeError) as caught:
            await call()
        assert SECRET not in str(caught.value)
    assert await kv.get_many(["k", "l"]) == [{"old": True}, None]


async def test_where_names_go(kv: Any, raw: Any) -> None:  # H-10
    places = {
        ("foo", "k"): "kv-foo/k",
        ("Foo", "k"): f"kv-~{sha256('Foo')}/k",
        ("FOO", "K"): f"kv-~{sha256('FOO')}/K",
        ("a b", "k"): f"kv-~{sha256('a b')}/k",
        ("é~.", "k"): "kv-é~./k",
        ("x" * 252, "k"): f"kv-{'x' * 252}/k",
        ("x" * 253, "k"): f"kv-~{sha256('x' * 253)}/k",
        (f"~{sha256('Foo')}", "k"): f"kv-~{sha256('~' + sha256('Foo'))}/k",
        ("c", "é" * 256): f"kv-c/{'é' * 256}",
        ("c", "é" * 256 + "x"): f"kv-c/~{sha256('é' * 256 + 'x')}",
        ("c", f"~{sha256('k')}"): f"kv-c/~{sha256('~' + sha256('k'))}",
        ("c", ".."): "kv-c/..",
    }
    for collection, key in places:
        await kv.put(key, {"of": [collection, key]}, collection=collection)
    for collection, key in places:
        assert await kv.get(key, collection=collection) == {"of": [collection, key]}
    assert names(raw) == set(places.values())
    assert sorted(await kv.collections()) == sorted({collection for collection, _ in places})
    for collection, key in places:
        assert await kv.delete(key, collection=collection) is True
    assert names(raw) == set()


async def test_names_beyond_what_is_indexed(kv: Any, raw: Any) -> None:
    long = "😀" * 10_000
    properties: Any = {**MAPPING["properties"], "collection": {"type": "keyword"}, "key": {"type": "keyword"}}
    raw.indices.create(index="kv-c", mappings={"properties": properties})
    for collection in ("c", "d", long):
        await kv.put(long, {"in": collection[:1]}, collection=collection)
        await kv.put_many([long + "x", "k"], [{}, {}], collection=collection)
        assert await kv.get(long, collection=collection) == {"in": collection[:1]}
        assert sorted(await kv.keys(collection)) == sorted(["k", long, long + "x"])
    assert sorted(await kv.collections()) == sorted(["c", "d", long])
    assert await kv.delete(long, collection=long) is True
    assert await kv.destroy() is True
    assert names(raw) == set()


async def test_a_bulk_request_counts_the_names(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    async with ElasticsearchStore(url=url, index="kv") as kv:
        send = kv._send  # pyright: ignore[reportPrivateUsage]

        async def weighed(method: str, path: str, body: bytes | None = None, *args: Any, **kwargs: Any) -> Any:
            sizes.append(len(body or b""))
            return await send(method, path, body, *args, **kwargs)

        monkeypatch.setattr(kv, "_send", weighed)
        await kv.put_many([f"{number}{'😀' * 30_000}" for number in range(200)], [{}] * 200, collection="c")
    assert 9_000_000 < max(sizes) < 11_000_000


@pytest.mark.parametrize("letter", ["\ua7cb", "\u1c8a", "\ua7da", "\U00010d50", "\U00010d70", "\ua7dc"])
async def test_letters_that_came_late(kv: Any, raw: Any, letter: str) -> None:
    for collection in (f"c{letter}", f"c{letter.lower()}", f"c{letter.upper()}"):
        await kv.put("k", {"of": collection}, collection=collection)
        assert await kv.get("k", collection=collection) == {"of": collection}
        assert await kv.keys(collection) == ["k"]
        assert f"kv-~{sha256(collection)}/k" in names(raw)
        assert await kv.delete("k", collection=collection) is True


async def test_an_index_of_a_late_letter_is_still_read(kv: Any, raw: Any) -> None:
    await kv.put("l", {}, collection="😀")
    raw.index(index="kv-😀", id="k", document={"version": 1, "collection": "😀", "key": "k", "value": {"flattened": {"old": 1}}})
    assert await kv.get("k", collection="😀") == {"old": 1}
    assert sorted(await kv.keys("😀")) == ["k", "l"]
    await kv.put("k", {"new": 1}, collection="😀")
    assert await kv.get("k", collection="😀") == {"new": 1}
    assert names(raw) == {f"kv-~{sha256('😀')}/k", f"kv-~{sha256('😀')}/l"}


class Worst:
    """Gives everything the same name."""

    def sanitize(self, value: str) -> str:
        return "same"


@pytest.mark.parametrize("which", ["key", "collection", "both"])
async def test_strategies_that_mix_names_up(runtime: Runtime, url: str, raw: Any, which: str) -> None:
    strategies: dict[str, Any] = {f"{what}_sanitization_strategy": Worst() for what in ("key", "collection") if which in (what, "both")}
    kv = runtime.adapt(ElasticsearchStore(url=url, index="kv", **strategies))
    pairs = [(collection, key) for collection in ("a", "b") for key in ("k", "l", "same")]
    for turn in range(2):
        for collection, key in pairs:
            await kv.put(key, {"of": [collection, key, turn]}, collection=collection)
        for collection, key in pairs:
            assert await kv.get(key, collection=collection) == {"of": [collection, key, turn]}
    assert len(names(raw)) == len(pairs)
    assert sorted(await kv.keys("b")) == ["k", "l", "same"]
    assert await kv.destroy_collection("a") is True
    assert await kv.delete_many(["k", "missing"], collection="b") == 1
    assert sorted(await kv.keys("b")) == ["l", "same"]
    assert await kv.destroy() is True
    assert names(raw) == set()


async def test_ids_by_the_strategy_that_hashes_take_one_request(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(ElasticsearchStore(url=url, index="kv", key_sanitization_strategy=sanitization.AlwaysHashStrategy()))
    await kv.put_many(["k", "x" * 1000], [{"a": 1}, {}], collection="c")
    assert names(raw) == {f"kv-c/{sha256('k')}", f"kv-c/{sha256('x' * 1000)}"}
    assert await kv.get("k", collection="c") == {"a": 1}
    assert sorted(await kv.keys("c")) == ["k", "x" * 1000]


# Indices


async def test_reads_create_nothing(kv: Any, raw: Any) -> None:
    assert await kv.get("k") is None
    assert await kv.get_many(["k", "l"], collection="Foo") == [None, None]
    assert await kv.ttl("k") == (None, None)
    assert await kv.delete("k") is False
    assert await kv.delete_many(["k", "l"]) == 0
    assert await kv.keys() == []
    assert await kv.collections() == []
    await kv.cull()
    assert await kv.destroy_collection("c") is False
    assert indices(raw) == set()


async def test_an_index_that_was_dropped_is_made_again(kv: Any, raw: Any) -> None:
    for turn in range(3):
        await kv.put("k", {"turn": turn}, collection="c")
        await kv.put_many(["k", "l"], [{"turn": turn}, {"large": "x" * 40_000}], collection="c")
        assert await kv.get("k", collection="c") == {"turn": turn}
        mapping = raw.indices.get_mapping(index="kv-c")["kv-c"]["mappings"]["properties"]
        assert mapping["value"]["properties"]["flattened"] == {"type": "flattened"}
        raw.indices.delete(index="kv-c")
        assert await kv.get("k", collection="c") is None
        assert await kv.delete("k", collection="c") is False
        assert await kv.keys("c") == []


async def test_a_template_of_data_streams(kv: Any, raw: Any) -> None:
    raw.indices.put_index_template(name="streams", index_patterns=["kv-*-*"], data_stream={}, priority=500)
    try:
        with pytest.raises(StoreSetupError, match="choose another index_prefix"):
            await kv.put("k", {}, collection="a-b")
        assert await kv.get("k", collection="a-b") is None
        await kv.put("k", {}, collection="a")
    finally:
        raw.indices.delete_index_template(name="streams")


async def test_two_stores_make_one_index(runtime: Runtime, url: str) -> None:
    one, other = (runtime.adapt(ElasticsearchStore(url=url, index="kv")) for _ in range(2))
    await one.put("k", {"a": 1})
    await other.put("l", {"a": 2})
    assert await one.get_many(["k", "l"]) == [{"a": 1}, {"a": 2}]


def test_many_make_one_index_at_once(url: str) -> None:
    async def main() -> None:
        async with ElasticsearchStore(url=url, index="kv") as one, ElasticsearchStore(url=url, index="kv") as other:
            await asyncio.gather(*(store.put(f"k{n}", {"n": n}) for n in range(10) for store in (one, other)))
            assert await one.get_many([f"k{n}" for n in range(10)]) == [{"n": n} for n in range(10)]

    asyncio.run(main())


async def test_without_auto_create(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(ElasticsearchStore(url=url, index="kv", auto_create=False))
    for call in (lambda: kv.put("k", {}, collection="c"), lambda: kv.put_many(["k"], [{}], collection="c")):
        with pytest.raises(StoreSetupError, match="'kv-c' does not exist; create it"):
            await call()
    assert await kv.get("k", collection="c") is None
    assert indices(raw) == set()
    raw.indices.create(index="kv-c", mappings=MAPPING)
    await kv.put("k", {"a": 1}, collection="c")
    assert await kv.get("k", collection="c") == {"a": 1}
    raw.indices.delete(index="kv-c")
    with pytest.raises(StoreSetupError, match="does not exist any more"):
        await kv.put("k", {"a": 1}, collection="c")


async def test_an_index_that_does_not_know_the_text_form(kv: Any, raw: Any) -> None:
    properties: Any = dict(MAPPING["properties"])
    properties["value"] = {"properties": {"flattened": {"type": "flattened"}}}
    raw.indices.create(index="kv-c", mappings={"properties": properties})
    value = {"large": "x" * 40_000}
    await kv.put_many(["k", "l"], [value, {"a": 1}], collection="c")
    assert await kv.get_many(["k", "l"], collection="c") == [value, {"a": 1}]
    mapping = raw.indices.get_mapping(index="kv-c")["kv-c"]["mappings"]["properties"]
    assert mapping["value"]["properties"]["json"] == {"type": "object", "enabled": False}


async def test_documents_that_are_refused_leave_the_others(kv: Any, raw: Any) -> None:  # H-18
    properties: Any = dict(MAPPING["properties"])
    properties["value"] = {"properties": {"flattened": {"type": "flattened", "depth_limit": 2}}}
    raw.indices.create(index="kv-c", mappings={"properties": properties})
    await kv.put_many(["k", "l"], [{"old": 1}, {"old": 2}], collection="c")
    bad = {"password": {"is": {"this": SECRET}}}
    calls = [
        (lambda: kv.put("k", bad, collection="c"), "1 of 1"),
        (lambda: kv.put_many(["k", "l", "m"], [bad, {"new": 2}, bad], collection="c"), "2 of 3"),
    ]
    for call, what in calls:
        with pytest.raises(StoreRefusedError, match=f"refused {what} documents") as caught:
            await call()
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert await kv.get_many(["k", "l", "m"], collection="c") == [{"old": 1}, {"new": 2}, None]


async def test_an_index_that_can_not_be_written(kv: Any, raw: Any) -> None:
    await kv.put("k", {"old": True}, collection="c")
    raw.indices.put_settings(index="kv-c", settings={"index.blocks.write": True})
    for call in (lambda: kv.put("k", {}, collection="c"), lambda: kv.delete("k", collection="c")):
        with pytest.raises(StoreRefusedError, match="cluster_block_exception"):
            await call()
    assert await kv.get("k", collection="c") == {"old": True}
    raw.indices.close(index="kv-c")
    with pytest.raises(StoreRefusedError, match="index_closed_exception"):
        await kv.get("k", collection="c")


# Entries that lie where another's belong


def put_old(raw: Any, count: int) -> list[str]:
    """Write entries of the collection `Foo` as py-key-value-aio does."""
    keys = [f"k{number}" for number in range(count)]
    raw.indices.create(index="kv-foo", mappings=MAPPING)
    operations: list[Any] = []
    for key in keys:
        document = {"version": 1, "collection": "Foo", "key": key, "value": {"flattened": {"of": key}}}
        operations += [{"index": {"_index": "kv-foo", "_id": key}}, document]
    raw.bulk(operations=operations, refresh=True)
    return keys


class Interrupted(ElasticsearchStore):
    """Does something else before a request."""

    interruption: tuple[str, Callable[[], Any]] | None = None
    skipped = 0

    async def _send(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        if self.interruption is not None and self.interruption[0] == path:
            self.skipped -= 1
            if self.skipped < 0:
                (_, interrupt), self.interruption = self.interruption, None
                await interrupt()
        return await super()._send(method, path, *args, **kwargs)


@pytest.mark.parametrize(("path", "skipped"), [("/_search", 0), ("/_mget", 0), ("/_bulk", 0), ("/_bulk", 1)])
async def test_what_is_deleted_while_it_is_moved_stays_deleted(url: str, raw: Any, path: str, skipped: int) -> None:
    keys = put_old(raw, 3)
    async with Interrupted(url=url, index="kv") as mover, ElasticsearchStore(url=url, index="kv") as other:

        async def delete() -> None:
            assert await other.delete("k0", collection="Foo") is True
            assert await other.get("k0", collection="Foo") is None

        mover.interruption = path, delete
        mover.skipped = skipped
        await mover.put("x", {}, collection="foo")
        assert mover.interruption is None
        assert await other.get_many(keys, collection="Foo") == [None, {"of": "k1"}, {"of": "k2"}]
        assert names(raw) == {"kv-foo/x", f"kv-~{sha256('Foo')}/k1", f"kv-~{sha256('Foo')}/k2"}


async def test_a_delete_removes_the_copy_that_was_made_since_it_looked(url: str, raw: Any) -> None:
    put_old(raw, 1)
    async with Interrupted(url=url, index="kv") as kv:

        async def copy() -> None:
            document = (await anyio.to_thread.run_sync(lambda: raw.get(index="kv-foo", id="k0")))["_source"]
            await anyio.to_thread.run_sync(lambda: raw.create(index=f"kv-~{sha256('Foo')}", id="k0", document=document))

        kv.interruption = "/_bulk", copy
        assert await kv.delete("k0", collection="Foo") is True
        assert await kv.get("k0", collection="Foo") is None


@pytest.mark.parametrize("skipped", [0, 1])
async def test_two_that_move_the_same_entries_lose_none(url: str, raw: Any, skipped: int) -> None:
    keys = put_old(raw, 3)
    async with Interrupted(url=url, index="kv") as mover, ElasticsearchStore(url=url, index="kv") as other:
        mover.interruption = "/_bulk", lambda: other.put("k0", {"a": 1}, collection="foo")
        mover.skipped = skipped
        await mover.put("k1", {"a": 2}, collection="foo")
        assert mover.interruption is None
        assert await mover.get_many(keys, collection="foo") == [{"a": 1}, {"a": 2}, None]
        assert await mover.get_many(keys, collection="Foo") == [{"of": key} for key in keys]


def test_many_writes_move_entries_once(url: str, raw: Any) -> None:
    keys = put_old(raw, 600)
    opened: list[str] = []

    class Counting(ElasticsearchStore):
        async def _send(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
            opened.extend([path] if path.endswith("/_pit") and method == "POST" else [])
            return await super()._send(method, path, *args, **kwargs)

    async def main() -> None:
        async with Counting(url=url, index="kv") as kv:
            await asyncio.gather(*(kv.put(f"k{number}", {}, collection="foo") for number in range(10)))
            assert await kv.get_many(keys, collection="Foo") == [{"of": key} for key in keys]

    asyncio.run(main())
    assert opened == ["/kv-foo/_pit"]


# What else lies there


async def test_what_others_wrote_survives_and_is_not_listed(kv: Any, raw: Any) -> None:
    theirs = {
        "kv-a/plain": {"text": "x"},
        "kv-a/nameless": {"value": {"flattened": {"a": 1}}},
        "kv-a/elsewhere": {"version": 1, "collection": "b", "key": "elsewhere", "value": {"flattened": {}}},
        "kv-a/otherwise": {"version": 1, "collection": "a", "key": "k", "value": {"flattened": {}}},
        "kv-b-c/k": {"version": 1, "collection": "c", "key": "k", "value": {"flattened": {}}},
        "kv/k": {"version": 1, "collection": "a", "key": "k", "value": {"flattened": {}}},
        "other/k": {"collection": "a", "key": "k"},
    }
    for collection in ("a", "b", "c"):
        await kv.put_many(["k", "l"], [{}, {}], collection=collection, ttl=50)
    for name, document in theirs.items():
        index, _, key = name.partition("/")
        raw.index(index=index, id=key, document=document)
    assert sorted(await kv.keys("a")) == ["k", "l"]
    assert sorted(await kv.collections()) == ["a", "b", "c"]
    await kv.cull()
    assert await kv.destroy_collection("a") is True
    assert await kv.destroy_collection("a") is False
    assert await kv.destroy() is True
    assert await kv.collections() == []
    assert names(raw) == set(theirs)


DAMAGED: list[dict[str, Any]] = [
    {},
    {"version": 1},
    {"version": 1, "value": {"json": "secret-text"}},
    {"version": 1, "value": {"json": '["secret-text"]'}},
    {"version": 1, "value": {"other": 1}},
    {"version": 2, "value": {"flattened": {}}},
    {"collection": "c", "key": "bad", "value": {}},
]


@pytest.mark.parametrize("number", range(len(DAMAGED)))
async def test_a_damaged_row_is_an_error_for_its_own_key_alone(kv: Any, raw: Any, number: int) -> None:  # H-37
    await kv.put_many(["good", "bad"], [{"a": 1}, {}], collection="c")
    raw.index(index="kv-c", id="bad", document=DAMAGED[number])
    for call in (lambda: kv.get("bad", collection="c"), lambda: kv.get_many(["good", "bad"], collection="c")):
        with pytest.raises(DeserializationError, match="overwrite") as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": "bad"}
        assert "secret" not in str(caught.value)
    assert await kv.get("good", collection="c") == {"a": 1}
    assert await kv.delete("bad", collection="c") is True
    raw.index(index="kv-c", id="bad", document=DAMAGED[number])
    await kv.put("bad", {"a": 2}, collection="c")
    assert await kv.get("bad", collection="c") == {"a": 2}


async def test_rows_without_source_are_damaged(kv: Any, raw: Any) -> None:
    raw.indices.create(index="kv-c", mappings={**MAPPING, "_source": {"enabled": False}})
    await kv.put("k", {"a": 1}, collection="c")
    with pytest.raises(DeserializationError):
        await kv.get("k", collection="c")


# Deleting and listing


def test_of_many_that_delete_at_once_one_is_told_so(url: str) -> None:
    async def main() -> None:
        async with ElasticsearchStore(url=url, index="kv") as kv:
            for _ in range(5):
                await kv.put_many(["k", "l"], [{}, {}])
                assert sum(await asyncio.gather(*(kv.delete("k") for _ in range(10)))) == 1
                assert sum(await asyncio.gather(*(kv.delete_many(["k", "l"]) for _ in range(5)))) == 1

    asyncio.run(main())


async def test_what_was_put_since_it_was_read_is_not_exchanged(url: str) -> None:
    async with ElasticsearchStore(url=url, index="kv") as kv:
        await kv.put("k", {"turn": 1}, collection="c")
        (old,) = await kv._read(["kv-c/k"])  # pyright: ignore[reportPrivateUsage]
        await kv.put("k", {"turn": 2}, collection="c")
        (now,) = await kv._read(["kv-c/k"])  # pyright: ignore[reportPrivateUsage]
        entry = Entry("c", "k", {"turn": 3})
        for expected, put, made in ((old, None, False), (old, entry, False), (None, entry, False), (now, None, True)):
            assert list(map(bool, await kv._exchange([Change("kv-c/k", expected, put)]))) == [made]  # pyright: ignore[reportPrivateUsage]
        assert await kv.get("k", collection="c") is None
        assert list(map(bool, await kv._exchange([Change("kv-c/k", None, entry)]))) == [True]  # pyright: ignore[reportPrivateUsage]


async def test_expired_entries_stay_until_they_are_culled(kv: Any, raw: Any, clock: Clock) -> None:
    await kv.put_many(["k", "l"], [{}, {}], collection="Foo", ttl=50)
    await kv.put("m", {}, collection="c", ttl=50)
    await kv.put("stays", {"a": 1}, collection="c")
    clock.advance(50)
    assert await kv.get_many(["k", "l"], collection="Foo") == [None, None]
    assert await kv.collections() == ["c"]
    assert await kv.delete("m", collection="c") is False
    assert names(raw) == {f"kv-~{sha256('Foo')}/k", f"kv-~{sha256('Foo')}/l", "kv-c/stays"}
    await kv.cull()
    assert names(raw) == {"kv-c/stays"}


async def test_expiry_in_real_time(url: str) -> None:
    async with ElasticsearchStore(url=url, index="kv") as kv:
        await kv.put("k", {}, ttl=0.5)
        assert await kv.get("k") == {}
        await anyio.sleep(0.6)
        assert await kv.get("k") is None
        assert await kv.keys() == []


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_listing_that_is_cancelled_leaves_no_search_open(url: str, raw: Any, library: str) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                scope.cancel()

            async with Interrupted(url=url, index="kv") as kv:
                await kv.put("k", {})
                kv.interruption = "/_search", cancel
                await kv.keys()
        assert scope.cancelled_caught

    anyio.run(main, backend=library)
    (node,) = raw.nodes.stats(metric="indices")["nodes"].values()
    assert node["indices"]["search"]["open_contexts"] == 0


async def test_listing_goes_beyond_what_a_search_returns(url: str, raw: Any) -> None:  # H-26
    async with ElasticsearchStore(url=url, index="kv") as kv:
        keys = [f"k{number}" for number in range(10_200)]
        await kv.put_many(keys, [{}] * len(keys), collection="c")
        assert sorted(await kv.keys("c")) == sorted(keys)
        assert len(await kv.keys("c", limit=10_100)) == 10_100
        assert await kv.delete_many(keys[:5000], collection="c") == 5000
        assert await kv.destroy_collection("c") is True
        assert names(raw) == set()
