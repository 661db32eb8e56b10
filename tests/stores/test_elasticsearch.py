"""What is ElasticsearchStore's own: what servers answer, where and in which form it keeps what, and what happens to its indices."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import requests

from keyvalue._core.legacy import sanitization
from keyvalue.errors import (
    DeserializationError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
    ValueTooLargeError,
)
from keyvalue.stores import elasticsearch as module
from keyvalue.stores._drivers import elasticsearch as driver
from keyvalue.stores._drivers import elasticsearch_requests as driver_requests
from keyvalue.stores._drivers.elasticsearch import MAPPING
from keyvalue.stores.elasticsearch import ElasticsearchStore
from tests.answering import Reply, Request, answering
from tests.runtimes import Runtime
from tests.stores.hooks import SECRET, assert_apart, assert_raised
from tests.stores.test_backends import calls_on

# Where names and documents go is the same on all runtimes.
pytestmark = [pytest.mark.backends("elasticsearch"), pytest.mark.runtimes("asyncio")]
with_each_client = pytest.mark.runtimes("asyncio", "direct")


def names(raw: Any) -> set[str]:
    raw.indices.refresh(index="*")
    return {f"{hit['_index']}/{hit['_id']}" for hit in raw.search(index="*", size=1000)["hits"]["hits"]}


def indices(raw: Any) -> set[str]:
    return set(raw.indices.get(index="*"))


def get_mapping(raw: Any, index: str) -> Any:
    """Return how the fields of an index are mapped."""
    return raw.indices.get_mapping(index=index)[index]["mappings"]["properties"]


def make_index(raw: Any, **fields: Any) -> None:
    """Make the index of the collection "c", some of whose fields are mapped in another way."""
    raw.indices.create(index="tests-c", mappings={"properties": {**MAPPING["properties"], **fields}})


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# What servers answer


@contextmanager
def serve(*first: Reply, last: Reply) -> Generator[tuple[str, list[str | None]], None, None]:
    """A server that gives some answers and then always the same; its URL, and the credentials that it is sent."""
    told: list[str | None] = []
    replies = chain(first, repeat(last))

    def answer(request: Request) -> Reply:
        told.append(request.headers.get("authorization"))
        reply = next(replies)
        return reply if reply.headers else reply._replace(headers={"x-elastic-product": "Elasticsearch"})

    with answering(answer) as url:  # the tests' own node knows no credentials
        yield url, told


@contextmanager
def forwarding(url: str, refuse: Callable[[Request], Reply | None]) -> Generator[str, None, None]:
    """A proxy before the real server, which answers some requests by itself; its URL."""

    def forward(request: Request) -> Reply:
        reply = refuse(request)
        if reply is None:
            method, path = request.line.split()
            headers = {name: value for name, value in request.headers.items() if name.lower() in ("content-type", "accept")}
            answer = requests.request(method, f"{url}{path}", headers=headers, data=request.text.encode(), timeout=10)
            reply = Reply(answer.status_code, answer.text)
        return reply._replace(headers={"x-elastic-product": "Elasticsearch"})

    with answering(forward) as proxied:
        yield proxied


ERROR = json.dumps({"error": {"type": "some_exception", "reason": "some reason", "root_cause": []}, "status": 0})
ANSWERS: list[tuple[Reply, type[KeyValueStoreError], str]] = [
    (Reply(401, ERROR), StoreRefusedError, "check user and password or api_key"),
    (Reply(403, ERROR), StoreRefusedError, "check the user's rights"),
    (Reply(400, ERROR), StoreRefusedError, "refused the request"),
    (Reply(413, ERROR), StoreRefusedError, "refused the request"),
    (Reply(408, ERROR), StoreConnectionError, "not available"),
    (Reply(429, ERROR), StoreConnectionError, "too much to do"),
    (Reply(500, ERROR), StoreConnectionError, "not available"),
    (Reply(503, ERROR), StoreConnectionError, "not available"),
    (Reply(507, ERROR), StoreConnectionError, "not available"),
    (Reply(200, "{}", {"x-other-product": "x"}), StoreRefusedError, "not Elasticsearch"),
    (Reply(200, "<html>"), StoreRefusedError, "can't be understood"),
]


@with_each_client
async def test_what_the_server_refuses_and_what_is_worth_another_try(runtime: Runtime) -> None:
    for reply, error, message in ANSWERS:
        with serve(last=reply) as (url, told):
            kv = runtime.adapt(ElasticsearchStore(url=url, api_key=SECRET, index="tests"))
            await assert_raised(error, message, partial(kv.get, "k"), partial(kv.get_many, ["k", "l"]), kv.keys)
        assert told == [f"ApiKey {SECRET}"] * 3
    with serve(last=ANSWERS[0][0]) as (url, told), pytest.raises(StoreRefusedError):
        await runtime.adapt(ElasticsearchStore(url=url.replace("//", "//user:p%40ss@"), index="tests")).get("k")
    assert told == ["Basic dXNlcjpwQHNz"]


NO_SHARD = Reply(503, json.dumps({"error": {"type": "no_shard_available_action_exception", "reason": "x", "root_cause": []}}))
NO_SHARDS = Reply(503, json.dumps({"error": {"type": "search_phase_execution_exception", "reason": "all shards failed"}}))
NO_DOCUMENT = Reply(200, json.dumps({"docs": [{"error": {"type": "no_shard_available_action_exception"}}]}))


@with_each_client
async def test_reads_wait_for_an_index_that_is_being_made(runtime: Runtime) -> None:
    read = [NO_DOCUMENT, NO_DOCUMENT, Reply(200, '{"docs": [{"found": false}]}')]
    listed = [Reply(200, "{}"), NO_SHARD, Reply(200, '{"id": "x"}'), NO_SHARDS, Reply(200, '{"hits": {"hits": []}}'), Reply(200, "{}")]
    with serve(*read, *read, *listed, last=Reply(400, ERROR)) as (url, told):
        kv = runtime.adapt(ElasticsearchStore(url=url, index="tests"))
        assert await kv.get("k") is None
        assert await kv.delete("k") is False
        assert await kv.keys() == []
    assert len(told) == 12
    for reply in (NO_DOCUMENT, NO_SHARD):  # but not for ever
        with serve(last=reply) as (url, told):
            with pytest.raises(StoreConnectionError, match="not available"):
                await runtime.adapt(ElasticsearchStore(url=url, index="tests", timeout=0.2)).get("k")
            assert 1 < len(told) < 8


async def test_slow_answers_count_for_the_wait_for_an_index(runtime: Runtime) -> None:
    told: list[Request] = []

    def answer(request: Request) -> Reply:
        told.append(request)
        time.sleep(0.15)
        return NO_SHARD

    with answering(answer) as url, pytest.raises(StoreConnectionError):
        await runtime.adapt(ElasticsearchStore(url=url, index="tests", timeout=0.4)).get("k")
    assert len(told) <= 4  # one more than there is time for; by the pauses alone there would be seven


# Where and how


async def test_the_layout(kv: Any, raw: Any) -> None:
    await kv.put("Key/1", {"b": 1, "a": {"c": [1, None]}}, collection="users", ttl=50)
    document = raw.get(index="tests-users", id="Key/1")["_source"]
    assert document.pop("created_at") < document.pop("expires_at")
    value = {"flattened": {"b": 1, "a": {"c": [1, None]}}}
    assert document == {"version": 1, "collection": "users", "key": "Key/1", "value": value}
    mapping = get_mapping(raw, "tests-users")
    assert {name: field.get("type") for name, field in mapping.items()} == {
        "version": "integer",
        "collection": "keyword",
        "key": "keyword",
        "created_at": "date",
        "expires_at": "date",
        "value": None,
    }
    assert mapping["value"]["properties"] == {"flattened": {"type": "flattened"}, "json": {"type": "object", "enabled": False}}
    raw.indices.refresh(index="tests-users")
    assert raw.count(index="tests-users", query={"term": {"value.flattened.a.c": "1"}})["count"] == 1


def nest(levels: int, opening: str = '{"a":', closing: str = "}") -> Any:
    return json.loads(opening * levels + "1" + closing * levels)


FORMS: list[tuple[dict[str, Any], str]] = [
    ({"a": "x" * 32_698}, "flattened"),
    ({"a": "x" * 32_800}, "json"),
    ({"a": "é" * 16_500}, "json"),
    ({"a": "é" * 5_000_000}, "json"),
    ({"a": {"b": "x" * 32_690}}, "flattened"),
    ({"a" * 10_000: {"b" * 10_000: "x" * 10_000}}, "flattened"),
    ({"a" * 10_000: {"b" * 10_000: "x" * 13_000}}, "json"),
    ({"many": ["x" * 1000] * 100}, "flattened"),
    (nest(20), "flattened"),
    (nest(21), "json"),
    ({"a": nest(19), "b": {str(number): {} for number in range(30)}}, "flattened"),
    ({"a": nest(100, "[", "]")}, "flattened"),
    ({"": {"": [""]}, ".": {"..": 1}, "a.b": 2, "a": {"b": 3}}, "flattened"),
    ({"nul": "a\0b"}, "json"),
    ({"nul\0": 1}, "json"),
    ({"n": 10**800}, "flattened"),
    ({"n": 10**1000}, "json"),
    ({"x": [1, "1", 1.5, True, None, {}, []]}, "flattened"),
]


async def test_what_a_flattened_field_can_not_hold_is_kept_as_text(kv: Any, raw: Any) -> None:
    for value, form in FORMS:
        await kv.put("k", {"old": True}, collection="c")
        await kv.put("k", value, collection="c")
        assert await kv.get("k", collection="c") == value
        assert list(raw.get(index="tests-c", id="k")["_source"]["value"]) == [form]
        await kv.put_many(["k", "l"], [{"a": 1}, value], collection="c")
        assert await kv.get_many(["k", "l"], collection="c") == [{"a": 1}, value]


async def test_a_value_that_is_too_large_leaves_the_old_one(kv: Any) -> None:
    await kv.put("k", {"old": True})
    value = {"password": SECRET, "large": "x" * driver.LARGEST}
    calls = [lambda: kv.put("k", value), lambda: kv.put_many(["l", "k"], [{}, value])]
    await assert_raised(ValueTooLargeError, "larger than the backend takes", *calls)
    assert await kv.get_many(["k", "l"]) == [{"old": True}, None]


@with_each_client
async def test_what_a_fake_gateway_finds_too_large_is_sent_in_parts_or_named(runtime: Runtime, url: str) -> None:
    sent: list[int] = []

    def refuse(request: Request) -> Reply | None:
        sent.append(len(request.text))
        return Reply(413) if sent[-1] > 20_000 else None

    def large(key: str) -> dict[str, str]:
        return {"of": key, "x": SECRET * 400}

    with forwarding(url, refuse) as proxied:
        kv = runtime.adapt(ElasticsearchStore(url=proxied, index="tests"))
        keys = [f"k{number}" for number in range(20)]
        await kv.put_many(keys, [large(key) for key in keys])
        assert max(sent) > 20_000
        assert await kv.get("k7") == large("k7")
        value = {"x": SECRET * 3000}
        calls = [lambda: kv.put("k7", value, collection="c"), lambda: kv.put_many(["l", "k7", "m"], [{}, value, {}], collection="c")]
        for error in await assert_raised(ValueTooLargeError, "larger than the backend takes", *calls):
            assert error.extra_info == {"size": len(SECRET) * 3000 + 8, "max_size": None, "collection": "c", "key": "k7"}
        assert await kv.get_many(["l", "k7"], collection="c") == [{}, None]
        assert await kv.delete_many(keys) == 20


async def test_where_names_go(kv: Any, raw: Any) -> None:  # H-10
    places = {
        ("foo", "k"): "tests-foo/k",
        ("Foo", "k"): f"tests-~{sha256('Foo')}/k",
        ("FOO", "K"): f"tests-~{sha256('FOO')}/K",
        ("a b", "k"): f"tests-~{sha256('a b')}/k",
        ("é~.", "k"): "tests-é~./k",
        ("x" * 249, "k"): f"tests-{'x' * 249}/k",
        ("x" * 250, "k"): f"tests-~{sha256('x' * 250)}/k",
        (f"~{sha256('Foo')}", "k"): f"tests-~{sha256('~' + sha256('Foo'))}/k",
        ("c", "é" * 256): f"tests-c/{'é' * 256}",
        ("c", "é" * 256 + "x"): f"tests-c/~{sha256('é' * 256 + 'x')}",
        ("c", f"~{sha256('k')}"): f"tests-c/~{sha256('~' + sha256('k'))}",
        ("c", ".."): "tests-c/..",
    }
    # Letters of which not all servers and Pythons know the case.
    late = [case for letter in "\ua7cb\u1c8a\ua7da\U00010d50\U00010d70\ua7dc" for case in {letter, letter.lower(), letter.upper()}]
    places |= {(f"c{letter}", "k"): f"tests-~{sha256(f'c{letter}')}/k" for letter in late}
    for collection, key in places:
        await kv.put(key, {"of": [collection, key]}, collection=collection)
    for collection, key in places:
        assert await kv.get(key, collection=collection) == {"of": [collection, key]}
        assert sorted(await kv.keys(collection)) == sorted(other for where, other in places if where == collection)
    assert names(raw) == set(places.values())
    assert sorted(await kv.collections()) == sorted({collection for collection, _ in places})
    for collection, key in places:
        assert await kv.delete(key, collection=collection) is True
    assert names(raw) == set()


async def test_names_beyond_what_is_indexed(kv: Any, raw: Any) -> None:
    long = "😀" * 10_000
    make_index(raw, collection={"type": "keyword"}, key={"type": "keyword"})
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

    class Weighed(ElasticsearchStore):
        async def _send(self, request: driver_requests.Request) -> Any:
            sizes.append(len(request.body or b""))
            return await super()._send(request)

    monkeypatch.setattr(driver, "_PAGE_SIZE", 1_000_000)
    async with Weighed(url=url, index="tests") as kv:
        await kv.put_many([f"{number}{'😀' * 30_000}" for number in range(20)], [{}] * 20, collection="c")
    assert 900_000 < max(sizes) < 1_100_000


async def test_an_index_of_a_late_letter_is_still_read(kv: Any, raw: Any) -> None:
    await kv.put("l", {}, collection="😀")
    raw.index(index="tests-😀", id="k", document={"version": 1, "collection": "😀", "key": "k", "value": {"flattened": {"old": 1}}})
    assert await kv.get("k", collection="😀") == {"old": 1}
    assert sorted(await kv.keys("😀")) == ["k", "l"]
    await kv.put("k", {"new": 1}, collection="😀")
    assert await kv.get("k", collection="😀") == {"new": 1}
    assert names(raw) == {f"tests-~{sha256('😀')}/k", f"tests-~{sha256('😀')}/l"}


@pytest.mark.parametrize("which", ["key", "collection", "both"])
async def test_strategies_that_mix_names_up(make: Callable[..., Any], raw: Any, which: str) -> None:
    kv = make(
        **{
            f"{what}_sanitization_strategy": SimpleNamespace(sanitize=lambda _: "same")
            for what in ("key", "collection")
            if which in (what, "both")
        }
    )
    await assert_apart(kv, [(collection, key) for collection in ("a", "b") for key in ("k", "l", "same")])
    assert names(raw) == set()


async def test_ids_by_the_strategy_that_hashes_take_one_request(make: Callable[..., Any], raw: Any) -> None:
    kv = make(key_sanitization_strategy=sanitization.AlwaysHashStrategy())
    await kv.put_many(["k", "x" * 1000], [{"a": 1}, {}], collection="c")
    assert names(raw) == {f"tests-c/{sha256('k')}", f"tests-c/{sha256('x' * 1000)}"}
    assert await kv.get("k", collection="c") == {"a": 1}
    assert sorted(await kv.keys("c")) == ["k", "x" * 1000]


# Indices


async def test_reads_create_nothing(kv: Any, raw: Any) -> None:
    for operation, call in calls_on(kv).items():
        if not operation.startswith("put"):
            await call()
    assert await kv.get_many(["k", "l"], collection="Foo") == [None, None]
    assert await kv.destroy_collection("c") is False
    assert indices(raw) == set()


async def test_an_index_that_was_dropped_is_made_again(kv: Any, raw: Any) -> None:
    for turn in range(3):
        await kv.put("k", {"turn": turn}, collection="c")
        await kv.put_many(["k", "l"], [{"turn": turn}, {"large": "x" * 40_000}], collection="c")
        assert await kv.get("k", collection="c") == {"turn": turn}
        assert get_mapping(raw, "tests-c")["value"]["properties"]["flattened"] == {"type": "flattened"}
        raw.indices.delete(index="tests-c")
        assert await kv.get("k", collection="c") is None
        assert await kv.delete("k", collection="c") is False
        assert await kv.keys("c") == []


@with_each_client
async def test_an_index_that_is_closed_or_blocked_is_refused_and_not_left_out(kv: Any, raw: Any) -> None:
    pairs = [(collection, key) for collection in ("c", "Other") for key in ("k", "l")]
    for collection, key in pairs:
        await kv.put(key, {"a": 1}, collection=collection)
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: kv.get("k", collection="c"),
        "ttl": lambda: kv.ttl("k", collection="c"),
        "get_many": lambda: kv.get_many(["k", "l"], collection="c"),
        "delete": lambda: kv.delete("k", collection="c"),
        "keys": lambda: kv.keys("c"),
        "collections": kv.collections,
        "destroy_collection": lambda: kv.destroy_collection("c"),
        "destroy": kv.destroy,
        "cull": kv.cull,
        "put": lambda: kv.put("k", {"a": 2}, collection="c"),
    }

    async def refuse(why: str, *left_out: str) -> None:
        await assert_raised(StoreRefusedError, why, *(call for name, call in calls.items() if name not in left_out))
        assert await kv.get_many(["k", "l"], collection="Other") == [{"a": 1}] * 2

    raw.indices.close(index="tests-c")
    await refuse("the index is closed; open it")
    raw.indices.open(index="tests-c")
    raw.indices.put_settings(index="tests-c", settings={"index.blocks.read": True})
    await refuse("index.blocks", "put")
    raw.indices.put_settings(index="tests-c", settings={"index.blocks.read": False, "index.blocks.write": True})
    assert await kv.get("k", collection="c") == {"a": 1}
    await assert_raised(StoreRefusedError, "index.blocks", *(calls[name] for name in ("put", "delete", "destroy_collection")))
    raw.indices.put_settings(index="tests-c", settings={"index.blocks.write": False, "index.hidden": True})
    assert sorted(await kv.collections()) == ["Other", "c"]
    assert await kv.get_many(["k", "l"], collection="c") == [{"a": 1}] * 2
    assert await kv.destroy() is True
    assert names(raw) == set()


PARTIAL = {"timed_out": True}, {"_shards": {"total": 2, "successful": 1, "failed": 1}}


@with_each_client
async def test_a_listing_that_a_fake_server_answers_in_part(runtime: Runtime) -> None:
    pit = {"id": "x"}
    hits = {"hits": {"hits": []}}
    answers = [
        [{"_shards": {"failed": 1}}],
        *([{}, {**pit, **partial}] for partial in PARTIAL),
        *([{}, pit, {**hits, **why}] for why in PARTIAL),
    ]
    for first in answers:
        for name in ("keys", "collections", "destroy", "cull"):
            with serve(*(Reply(200, json.dumps(answer)) for answer in first), last=Reply(200, "{}")) as (url, _):
                kv = runtime.adapt(ElasticsearchStore(url=url, index="tests"))
                await assert_raised(StoreConnectionError, "some shards", getattr(kv, name))
    block = {"type": "cluster_block_exception", "reason": "blocked by: [SERVICE_UNAVAILABLE/2/no master];"}
    with serve(last=Reply(200, json.dumps({"docs": [{"error": block}]}))) as (url, _):
        await assert_raised(
            StoreConnectionError, "not available", partial(runtime.adapt(ElasticsearchStore(url=url, index="tests")).get, "k")
        )


async def test_a_template_of_data_streams(kv: Any, raw: Any) -> None:
    raw.indices.put_index_template(name="streams", index_patterns=["tests-*-*"], data_stream={}, priority=500)
    try:
        await assert_raised(StoreSetupError, "choose another index_prefix", lambda: kv.put("k", {}, collection="a-b"))
        assert await kv.get("k", collection="a-b") is None
        await kv.put("k", {}, collection="a")
    finally:
        raw.indices.delete_index_template(name="streams")


async def test_without_auto_create(make: Callable[..., Any], raw: Any) -> None:
    kv = make(auto_create=False)
    calls = [lambda: kv.put("k", {}, collection="c"), lambda: kv.put_many(["k"], [{}], collection="c")]
    await assert_raised(StoreSetupError, "'tests-c' does not exist; create it", *calls)
    assert await kv.get("k", collection="c") is None
    assert indices(raw) == set()
    raw.indices.create(index="tests-c", mappings=MAPPING)
    await kv.put("k", {"a": 1}, collection="c")
    assert await kv.get("k", collection="c") == {"a": 1}
    raw.indices.delete(index="tests-c")
    await assert_raised(StoreSetupError, "does not exist any more", lambda: kv.put("k", {"a": 1}, collection="c"))


@with_each_client
@pytest.mark.parametrize("auto_create", [True, False])
async def test_rights_to_write_are_enough_by_a_fake_proxy_that_knows_rights(
    runtime: Runtime, url: str, raw: Any, auto_create: bool
) -> None:
    denied: list[str] = []

    def refuse(request: Request) -> Reply | None:
        method, path = request.line.split()
        if path != "/tests-c" and not path.endswith("/_mapping"):
            return None
        denied.append(method)
        return Reply(403, "" if method == "HEAD" else ERROR)

    with forwarding(url, refuse) as proxied:
        kv = runtime.adapt(ElasticsearchStore(url=proxied, index="tests", auto_create=auto_create))
        error = StoreRefusedError if auto_create else StoreSetupError
        await assert_raised(error, "rights" if auto_create else "does not exist", lambda: kv.put("k", {}, collection="c"))
        assert await kv.get("k", collection="c") is None
        raw.indices.delete(index="tests-c", ignore_unavailable=True)  # the server may have made it by guess
        raw.indices.create(index="tests-c", mappings=MAPPING)
        await kv.put_many(["k", "l"], [{"a": 1}, {}], collection="c")
        assert await kv.get("k", collection="c") == {"a": 1}
        assert await kv.destroy_collection("c") is True
    assert set(denied) == ({"PUT"} if auto_create else {"HEAD"})


async def test_an_index_that_does_not_know_the_text_form(kv: Any, raw: Any) -> None:
    make_index(raw, value={"properties": {"flattened": {"type": "flattened"}}})
    value = {"large": "x" * 40_000}
    await kv.put_many(["k", "l"], [value, {"a": 1}], collection="c")
    assert await kv.get_many(["k", "l"], collection="c") == [value, {"a": 1}]
    assert get_mapping(raw, "tests-c")["value"]["properties"]["json"] == {"type": "object", "enabled": False}


async def test_documents_that_are_refused_leave_the_others(kv: Any, raw: Any) -> None:  # H-18
    make_index(raw, value={"properties": {"flattened": {"type": "flattened", "depth_limit": 2}}})
    await kv.put_many(["k", "l"], [{"old": 1}, {"old": 2}], collection="c")
    bad = {"password": {"is": {"this": SECRET}}}
    await assert_raised(StoreRefusedError, "refused a document", lambda: kv.put("k", bad, collection="c"))
    several = ["k", "l", "m"], [bad, {"new": 2}, bad]
    await assert_raised(StoreRefusedError, "refused a document", lambda: kv.put_many(*several, collection="c"))
    assert await kv.get_many(["k", "l", "m"], collection="c") == [{"old": 1}, {"new": 2}, None]


async def test_an_index_that_can_not_be_written(kv: Any, raw: Any) -> None:
    await kv.put("k", {"old": True}, collection="c")
    raw.indices.put_settings(index="tests-c", settings={"index.blocks.write": True})
    calls = [lambda: kv.put("k", {}, collection="c"), lambda: kv.delete("k", collection="c")]
    await assert_raised(StoreRefusedError, "cluster_block_exception", *calls)
    assert await kv.get("k", collection="c") == {"old": True}
    raw.indices.close(index="tests-c")
    await assert_raised(StoreRefusedError, "index_closed_exception", lambda: kv.get("k", collection="c"))


# Entries that lie where another's belong


def put_old(raw: Any, count: int) -> list[str]:
    """Write entries of the collection `Foo` as py-key-value-aio does."""
    keys = [f"k{number}" for number in range(count)]
    raw.indices.create(index="tests-foo", mappings=MAPPING)
    documents = [{"version": 1, "collection": "Foo", "key": key, "value": {"flattened": {"of": key}}} for key in keys]
    lines = [({"index": {"_id": key}}, document) for key, document in zip(keys, documents, strict=True)]
    raw.bulk(index="tests-foo", operations=[part for pair in lines for part in pair], refresh=True)
    return keys


class Interrupted(ElasticsearchStore):
    """Does something else before a request."""

    interruption: tuple[str, Callable[[], Any]] | None = None
    skipped = 0

    async def _send(self, request: driver_requests.Request) -> Any:
        if self.interruption is not None and self.interruption[0] == request.path:
            self.skipped -= 1
            if self.skipped < 0:
                (_, interrupt), self.interruption = self.interruption, None
                await interrupt()
        return await super()._send(request)


@pytest.mark.parametrize(("path", "skipped"), [("/_search", 0), ("/_mget", 0), ("/_bulk", 0), ("/_bulk", 1)])
async def test_what_is_deleted_while_it_is_moved_stays_deleted(kv: Any, url: str, raw: Any, path: str, skipped: int) -> None:
    async def delete() -> None:
        assert await kv.delete("k0", collection="Foo") is True
        assert await kv.get("k0", collection="Foo") is None

    keys = put_old(raw, 3)
    async with Interrupted(url=url, index="tests") as mover:
        mover.interruption, mover.skipped = (path, delete), skipped
        await mover.put("x", {}, collection="foo")
        assert mover.interruption is None
        assert await kv.get_many(keys, collection="Foo") == [None, {"of": "k1"}, {"of": "k2"}]
        assert names(raw) == {"tests-foo/x", f"tests-~{sha256('Foo')}/k1", f"tests-~{sha256('Foo')}/k2"}


async def test_a_delete_removes_the_copy_that_was_made_since_it_looked(url: str, raw: Any) -> None:
    put_old(raw, 1)
    async with Interrupted(url=url, index="tests") as kv:

        def copy() -> None:
            raw.create(index=f"tests-~{sha256('Foo')}", id="k0", document=raw.get(index="tests-foo", id="k0")["_source"])

        kv.interruption = "/_bulk", partial(anyio.to_thread.run_sync, copy)
        assert await kv.delete("k0", collection="Foo") is True
        assert await kv.get("k0", collection="Foo") is None


@pytest.mark.parametrize("skipped", [0, 1])
async def test_two_that_move_the_same_entries_lose_none(kv: Any, url: str, raw: Any, skipped: int) -> None:
    keys = put_old(raw, 3)
    async with Interrupted(url=url, index="tests") as mover:
        mover.interruption, mover.skipped = ("/_bulk", lambda: kv.put("k0", {"a": 1}, collection="foo")), skipped
        await mover.put("k1", {"a": 2}, collection="foo")
        assert mover.interruption is None
        assert await mover.get_many(keys, collection="foo") == [{"a": 1}, {"a": 2}, None]
        assert await mover.get_many(keys, collection="Foo") == [{"of": key} for key in keys]


async def test_many_writes_move_entries_once(url: str, raw: Any) -> None:
    keys = put_old(raw, 600)
    async with Interrupted(url=url, index="tests") as kv:
        kv.interruption, kv.skipped = ("/tests-foo/_pit", lambda: pytest.fail("they were looked for again")), 1
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(partial(kv.put, f"k{number}", {}, collection="foo"))
        assert kv.skipped == 0
        assert await kv.get_many(keys, collection="Foo") == [{"of": key} for key in keys]


# Listing


async def test_rows_without_source_are_damaged(kv: Any, raw: Any) -> None:
    raw.indices.create(index="tests-c", mappings={**MAPPING, "_source": {"enabled": False}})
    await kv.put("k", {"a": 1}, collection="c")
    await assert_raised(DeserializationError, "", lambda: kv.get("k", collection="c"))


@pytest.mark.runtimes("asyncio", "trio")
async def test_a_listing_that_is_cancelled_leaves_no_search_open(url: str, raw: Any, runtime: Runtime) -> None:
    async def cancel() -> None:
        scope.cancel()

    with anyio.CancelScope() as scope:
        async with Interrupted(url=url, index="tests") as kv:
            await kv.put("k", {})
            kv.interruption = "/_search", cancel
            await kv.keys()
    assert scope.cancelled_caught
    (node,) = raw.nodes.stats(metric="indices")["nodes"].values()
    assert node["indices"]["search"]["open_contexts"] == 0


async def test_listing_goes_beyond_what_a_search_returns(kv: Any, raw: Any) -> None:  # H-26
    page = module._LISTED  # pyright: ignore[reportPrivateUsage]
    # By default a search returns the first 10,000.
    raw.indices.create(index="tests-c", mappings=MAPPING, settings={"index.max_result_window": page})
    keys = [f"k{number}" for number in range(page + 200)]
    await kv.put_many(keys, [{}] * len(keys), collection="c")
    assert sorted(await kv.keys("c")) == sorted(keys)
    assert len(await kv.keys("c", limit=page + 100)) == page + 100
    assert await kv.delete_many(keys[:500], collection="c") == 500
    assert await kv.destroy_collection("c") is True
    assert names(raw) == set()
