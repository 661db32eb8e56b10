"""What is DynamoDBStore's own: how it connects, its table, clients of either colour, limits, and what the server may answer."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiobotocore.session
import anyio
import botocore.session
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    DeserializationError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
    ValueTooLargeError,
)
from keyvalue.stores import dynamodb as module
from keyvalue.stores._dynamodb import loader_of
from keyvalue.stores.dynamodb import DynamoDBStore
from keyvalue.testing import Clock
from tests.runtimes import Runtime
from tests.servers import dynamodb as servers
from tests.servers import free_port

own_server = pytest.mark.skipif(servers.DYNAMODB.absent() is not None, reason=str(servers.DYNAMODB.absent()))
SECRET = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it
TABLE = servers.TABLE


@pytest.fixture
def url(empty_server: Callable[[str], str]) -> str:
    return empty_server("dynamodb")


@pytest.fixture
def raw(url: str) -> Generator[Any, None, None]:
    """A client to look behind the store's back."""
    client = servers.client(url)
    yield client
    client.close()


def store(url: str, **options: Any) -> DynamoDBStore:
    arguments: dict[str, Any] = {"table_name": TABLE, "endpoint_url": url, **servers.CREDENTIALS, **options}
    return DynamoDBStore(**arguments)


def item(collection: str, key: str, **attributes: Any) -> dict[str, Any]:
    return {"collection": {"S": collection}, "key": {"S": key}, **attributes}


def place(found: Any) -> tuple[str, str]:
    return found["collection"]["S"], found["key"]["S"]


def items(raw: Any, table: str = TABLE) -> list[dict[str, Any]]:
    return raw.scan(TableName=table, ConsistentRead=True)["Items"]


# Connecting


def test_arguments_that_exclude_each_other(raw: Any) -> None:
    variants: list[Any] = [{"region_name": "us-east-1"}, {"endpoint_url": "http://localhost"}, {"aws_session_token": SECRET}]
    for options in variants:
        with pytest.raises(ValueError, match="either a client, or region") as caught:
            DynamoDBStore(client=raw, table_name=TABLE, **options)
        assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="name of a table"):
        DynamoDBStore(table_name="")
    for timeout in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive number of seconds"):
            DynamoDBStore(table_name=TABLE, timeout=timeout)


@pytest.mark.parametrize("name", ["ab", "a" * 256, "users table", "users/table", "t\u00e4ble"])
def test_what_can_not_be_the_name_of_a_table(name: str) -> None:
    with pytest.raises(ValueError, match="table_name must be 3 to 255"):
        DynamoDBStore(table_name=name)


def test_what_can_be_the_name_of_a_table() -> None:
    for name in ("abc", "a" * 255, "My_table-1.x", "arn:aws:dynamodb:us-east-1:123456789012:table/users"):
        DynamoDBStore(table_name=name)


@pytest.mark.parametrize("endpoint_url", ["localhost:8000", "localhost", ""])
def test_an_endpoint_without_a_scheme(endpoint_url: str) -> None:
    with pytest.raises(ValueError, match="endpoint_url must start with http:// or https://"):
        DynamoDBStore(table_name="table", endpoint_url=endpoint_url)


def test_a_client_of_a_wrong_type(raw: Any) -> None:
    s3 = botocore.session.get_session().create_client("s3", **servers.CREDENTIALS)
    for client in ("http://localhost", object(), type(raw), s3, aiobotocore.session.get_session()):
        with pytest.raises(TypeError, match="for the service `dynamodb`, and entered"):
            DynamoDBStore(client=client, table_name=TABLE)
    s3.close()


def test_the_constructor_connects_to_nothing() -> None:
    DynamoDBStore(table_name="tab")
    store(f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that says nothing about AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


async def test_without_a_region(runtime: Runtime, unconfigured: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreSetupError, match="there is no region; pass region_name"):
        await runtime.adapt(DynamoDBStore(table_name=TABLE, aws_access_key_id="test", aws_secret_access_key="test")).get("k")


async def test_without_credentials(runtime: Runtime, url: str, unconfigured: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreRefusedError, match="no credentials; pass aws_access_key_id"):
        await runtime.adapt(DynamoDBStore(table_name=TABLE, endpoint_url=url, region_name="us-east-1")).get("k")
    with pytest.raises(StoreSetupError, match="aws_secret_access_key"):
        await runtime.adapt(store(url, aws_secret_access_key=None)).get("k")


async def test_what_is_configured_for_aws(runtime: Runtime, url: str, unconfigured: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nregion = us-east-1\n")
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
    kv = runtime.adapt(DynamoDBStore(table_name=TABLE, endpoint_url=url))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


async def test_a_server_that_is_not_there(runtime: Runtime) -> None:
    kv = runtime.adapt(store(f"http://127.0.0.1:{free_port()}", aws_secret_access_key=SECRET))
    for call in (lambda: kv.get("k"), lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}], ttl=5), lambda: kv.keys()):
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match="could not reach the server") as caught:
            await call()
        assert time.monotonic() - started < 20
        assert SECRET not in f"{caught.value} {caught.value.__cause__}"


async def test_a_server_that_does_not_answer(runtime: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kv = runtime.adapt(store(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3))
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match="did not answer in time"):
            await kv.get("k")
        assert 0.2 < time.monotonic() - started < 20


@own_server
async def test_a_restart_between_two_calls_goes_unnoticed(runtime: Runtime) -> None:
    port = free_port()
    kv = runtime.adapt(store(f"http://127.0.0.1:{port}"))
    for turn in range(2):
        with servers.private_server(port):
            assert await kv.get("k") is None  # the server keeps nothing, so the table is gone too
            await kv.put("k", {"turn": turn})
            assert await kv.get_many(["k", "l"]) == [{"turn": turn}, None]
    with pytest.raises(StoreConnectionError):
        await kv.get("k")


# The table


async def test_the_table_that_is_created(runtime: Runtime, url: str, raw: Any) -> None:
    config = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}, "BillingMode": "PROVISIONED"}
    kv = runtime.adapt(store(url, table_name="other", table_config=config))
    await kv.put("k", {})
    table = raw.describe_table(TableName="other")["Table"]
    assert table["StreamSpecification"]["StreamViewType"] == "KEYS_ONLY"
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert raw.describe_time_to_live(TableName="other")["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
    assert await kv.destroy() is True
    assert raw.describe_table(TableName="other")["Table"]["TableStatus"] == "ACTIVE"


async def test_a_table_that_is_missing_and_must_not_be_created(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(store(url, table_name="other", auto_create=False))
    for _ in range(2):
        with pytest.raises(StoreSetupError, match=r"table other does not exist.*auto_create=True"):
            await kv.get("k")
    assert "other" not in raw.list_tables()["TableNames"]
    await runtime.adapt(store(url, table_name="other")).put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    raw.delete_table(TableName="other")
    with pytest.raises(StoreRefusedError, match="the table does not exist"):
        await kv.put("k", {})


async def test_a_table_that_is_deleted_is_made_again(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(store(url, table_name="other"))
    calls: list[tuple[Callable[[], Any], Any]] = [
        (lambda: kv.put("k", {}), None),
        (lambda: kv.put_many(["k", "l"], [{}, {}]), None),
        (lambda: kv.get("k"), None),
        (lambda: kv.get_many(["k", "l"]), [None, None]),
        (lambda: kv.delete("k"), False),
        (lambda: kv.keys(), []),
        (lambda: kv.collections(), []),
    ]
    for call, expected in calls:
        await kv.put("k", {})
        raw.delete_table(TableName="other")
        assert await call() == expected
        assert raw.describe_time_to_live(TableName="other")["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"


async def test_a_table_of_another_kind(runtime: Runtime, url: str, raw: Any) -> None:
    raw.create_table(
        TableName="other",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(StoreSetupError, match="has other keys"):
        await runtime.adapt(store(url, table_name="other")).put("k", {})
    with pytest.raises(StoreRefusedError, match="DescribeTable: ValidationException"):
        await runtime.adapt(store(url, table_name="arn:aws:not a name!")).put("k", {})


def test_many_create_the_table_at_once(url: str, raw: Any) -> None:
    barrier = threading.Barrier(4)

    def run(number: int) -> None:
        kv = BlockingKeyValue(store(url, table_name="other"))
        barrier.wait()
        kv.put(f"k{number}", {})
        kv.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert len(items(raw, "other")) == 4


# Given clients


async def asynchronous(url: str) -> Any:
    """Return what gives an asynchronous client when it is entered."""
    session = aiobotocore.session.get_session()
    # It reads hundreds of files.
    loader = await anyio.to_thread.run_sync(loader_of, None)
    session.register_component("data_loader", loader)
    return session.create_client("dynamodb", endpoint_url=url, **servers.CREDENTIALS)


async def use(kv: Any) -> None:
    """Use every kind of request."""
    await kv.put("é😀", {"é": "😀", "n": 2**70}, collection="a::b")
    await kv.put_many(["k", "l", "~" + "0" * 64], [{"é": 1}, {}, {}], ttl=50)
    assert await kv.get("é😀", collection="a::b") == {"é": "😀", "n": 2**70}
    assert await kv.get_many(["k", "missing"]) == [{"é": 1}, None]
    assert sorted(await kv.keys()) == ["k", "l", "~" + "0" * 64]
    assert sorted(await kv.collections()) == ["a::b", "default_collection"]
    assert await kv.delete("é😀", collection="a::b") is True
    assert await kv.delete_many(["k", "missing"]) == 1
    await kv.cull()
    assert await kv.destroy_collection("default_collection") is True
    assert await kv.destroy() is True


async def test_a_given_synchronous_client_works_everywhere_and_stays_open(runtime: Runtime, raw: Any) -> None:
    for _ in range(2):
        kv = runtime.adapt(DynamoDBStore(client=raw, table_name=TABLE))
        await use(kv)
        await kv.close()
    assert raw.list_tables()["TableNames"]


async def test_a_given_asynchronous_client_works_on_its_loop_and_stays_open(url: str) -> None:
    async with await asynchronous(url) as client:
        for _ in range(2):
            async with DynamoDBStore(client=client, table_name=TABLE) as kv:
                await use(kv)
        assert (await client.list_tables())["TableNames"]


def test_an_asynchronous_client_is_refused_elsewhere(url: str) -> None:
    async def main() -> None:
        async with await asynchronous(url) as client:
            kv = DynamoDBStore(client=client, table_name=TABLE)
            await kv.put("k", {})
            facade = BlockingKeyValue(kv)
            with pytest.raises(StoreSetupError, match="Pass a synchronous client"):
                await asyncio.to_thread(facade.get, "k")
            await kv.close()

    asyncio.run(main())


# Loops that come and go


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_store_that_is_closed_or_dropped_leaves_nothing_open(url: str, loop: str) -> None:
    async def main() -> None:
        kv = store(url)
        await kv.put("k", {})
        await kv.close()
        kv = store(url)
        await kv.put("k", {})

    gc.collect()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        anyio.run(main, backend=loop)
        gc.collect()
    assert [str(warning.message) for warning in warned] == []


# What is stored


async def test_the_items(runtime: Runtime, url: str, raw: Any, clock: Clock) -> None:
    clock.freeze()
    kv = runtime.adapt(store(url))
    await kv.put("k", {"a": 1}, collection="c")
    await kv.put_many(["l"], [{}], collection="c", ttl=100)
    stays, expires = sorted(items(raw), key=lambda item: item["key"]["S"])
    assert set(stays) == {"collection", "key", "value"}
    assert (stays["collection"], stays["key"]) == ({"S": "c"}, {"S": "k"})
    document = json.loads(stays["value"]["S"])
    assert (document["version"], document["collection"], document["key"], document["value"]) == (1, "c", "k", {"a": 1})
    assert set(expires) == {"collection", "key", "value", "ttl"}
    assert clock.now() + 100 <= int(expires["ttl"]["N"]) < clock.now() + 101


async def test_the_tables_time_to_live_is_never_before_the_entrys(runtime: Runtime, url: str, raw: Any) -> None:  # H-22
    kv = runtime.adapt(store(url))
    for ttl in (0.001, 0.4, 1, 1.9999, 10**9, 2 * 10**11):
        before = time.time()
        await kv.put("k", {}, ttl=ttl)
        (found,) = items(raw)
        assert before + ttl <= int(found["ttl"]["N"]) <= time.time() + ttl + 1


async def test_expiry_in_real_time(url: str) -> None:
    async with store(url) as kv:
        await kv.put("k", {}, ttl=0.3)
        await kv.put_many(["l", "m"], [{}, {}], ttl=30)
        assert await kv.get("k") == {}
        await anyio.sleep(0.35)
        assert await kv.get_many(["k", "l", "m"]) == [None, {}, {}]


async def test_the_document_decides_on_expiry(runtime: Runtime, url: str, raw: Any, clock: Clock) -> None:
    kv = runtime.adapt(store(url))
    await kv.put("k", {}, ttl=50)
    (found,) = items(raw)
    raw.put_item(TableName=TABLE, Item={**found, "ttl": {"N": str(int(clock.now()) + 5000)}})
    clock.advance(50)
    assert await kv.get("k") is None
    assert await kv.keys() == []
    await kv.cull()
    assert items(raw) == []


async def test_names_that_no_key_can_hold(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(store(url))
    digest = "~" + "0" * 64
    long = [("c" * 2048, "k" * 1024), ("c" * 2049, "k" * 1025), ("é" * 1024, "é" * 512), ("é" * 1025, "é" * 513), (digest, digest)]
    for collection, key in long:
        await kv.put(key, {"c": collection[:1], "k": len(key)}, collection=collection)
    assert await kv.put_many([key for _, key in long], [{}] * 5, collection="all") is None
    places = set(map(place, items(raw)))
    assert long[0] in places
    assert long[2] in places
    assert sum(collection[0] == "~" for collection, _ in places) == 3
    assert digest not in {name for names in places for name in names}
    for collection, key in long:
        assert await kv.get(key, collection=collection) == {"c": collection[:1], "k": len(key)}
        assert await kv.keys(collection) == [key]
    assert sorted(await kv.keys("all")) == sorted(key for _, key in long)
    assert sorted(await kv.collections()) == sorted(["all", *(collection for collection, _ in long)])
    assert await kv.delete_many([key for _, key in long], collection="all") == 5
    for collection, key in long:
        assert await kv.delete(key, collection=collection) is True
    assert items(raw) == []


# Limits


async def test_a_value_that_is_too_large_leaves_the_old_one(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(store(url))
    for ttl in (None, 1000):
        await kv.put("k", {"v": ""}, ttl=ttl)
        (found,) = items(raw)
        room = 400 * 1024 - len("collectionkeyvalue") - len("default_collectionk") - len(found["value"]["S"]) - (0 if ttl is None else 10)
        await kv.put("k", {"v": "x" * room}, ttl=ttl)
        with pytest.raises(ValueTooLargeError) as caught:
            await kv.put("k", {"v": "x" * (room + 1)}, ttl=ttl)
        assert caught.value.extra_info is not None
        assert caught.value.extra_info["max_size"] == 400 * 1024
        with pytest.raises(ValueTooLargeError):
            await kv.put_many(["new", "k"], [{}, {"v": "é" * 210_000}], ttl=ttl)
        assert await kv.get_many(["k", "new"]) == [{"v": "x" * room}, None]


async def test_bulk_beyond_the_batches(runtime: Runtime, url: str) -> None:
    kv = runtime.adapt(store(url))
    keys = [f"k{number}" for number in range(230)]
    await kv.put_many(keys, [{"n": number} for number in range(230)], ttl=50)
    assert await kv.get_many([*keys, "x"]) == [*({"n": number} for number in range(230)), None]
    assert len(await kv.keys()) == 230
    assert await kv.delete_many([*keys, "x"]) == 230


async def test_what_is_more_than_an_answer_holds(url: str) -> None:
    values = [{"n": number, "v": "x" * 390_000} for number in range(45)]
    keys = [f"k{number}" for number in range(45)]
    async with store(url) as kv:
        await kv.put_many(keys, values)
        assert await kv.get_many(keys) == values
        assert sorted(await kv.keys()) == sorted(keys)
        assert await kv.destroy_collection("default_collection") is True
        assert await kv.keys() == []


# What else lies in the table


def fill(raw: Any) -> list[dict[str, Any]]:
    """Put things of others into the table, and return them."""
    theirs = [
        item("a", "bare"),
        item("a", "text", value={"S": "text"}),
        item("a", "json", value={"S": "[1]"}),
        item("a", "number", value={"N": "1"}),
        item("a", "bytes", value={"B": b'{"version":1}'}, ttl={"N": "1"}),
        item("a", "nameless", value={"S": '{"value": {"a": 1}}'}),
        item("a", "elsewhere", value={"S": '{"version":1,"collection":"b","key":"elsewhere","value":{}}'}),
        item("orders", "1", total={"N": "12"}, value={"M": {}}),
        item("a", "~" + "0" * 64, value={"N": "1"}),
    ]
    for one in theirs:
        raw.put_item(TableName=TABLE, Item=one)
    return theirs


async def test_what_others_wrote_survives_and_is_not_listed(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(store(url))
    await kv.setup()
    theirs = fill(raw)
    for collection in ("a", "b", "c"):
        await kv.put_many(["k", "l", "~" + "0" * 64], [{}, {}, {}], collection=collection, ttl=50)
    assert sorted(await kv.keys("a")) == ["k", "l", "~" + "0" * 64]
    assert sorted(await kv.collections()) == ["a", "b", "c"]
    await kv.cull()
    assert await kv.destroy_collection("a") is True
    assert await kv.destroy_collection("a") is False
    assert await kv.destroy() is True
    assert await kv.collections() == []
    assert sorted(items(raw), key=place) == sorted(theirs, key=place)


DAMAGED: list[dict[str, Any]] = [
    {},
    {"value": {"N": "1"}},
    {"value": {"S": "secret-text"}},
    {"value": {"S": "[]"}},
    {"value": {"S": '{"version":1}'}},
    {"value": {"S": '{"version":1,"value":{"a":"secret-text'}},
]


@pytest.mark.parametrize("number", range(len(DAMAGED)))
@pytest.mark.parametrize("bad", ["bad", "~" + "0" * 64])
async def test_a_damaged_row_is_an_error_for_its_own_key_alone(runtime: Runtime, url: str, raw: Any, number: int, bad: str) -> None:
    kv = runtime.adapt(store(url))
    await kv.put_many(["good", bad], [{"a": 1}, {}], collection="c")
    (whole,) = (found for found in items(raw) if found["key"]["S"] != "good")
    damaged = {"collection": whole["collection"], "key": whole["key"], **DAMAGED[number]}
    raw.put_item(TableName=TABLE, Item=damaged)
    for call in (lambda: kv.get(bad, collection="c"), lambda: kv.get_many(["good", bad], collection="c")):
        with pytest.raises(DeserializationError, match="overwrite") as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": bad}
        assert "secret" not in str(caught.value)
    assert await kv.get("good", collection="c") == {"a": 1}
    assert await kv.keys("c") == ["good"]
    await kv.cull()
    assert await kv.delete(bad, collection="c") is True
    assert await kv.delete(bad, collection="c") is False
    raw.put_item(TableName=TABLE, Item=damaged)
    await kv.put(bad, {"a": 2}, collection="c")
    assert await kv.get(bad, collection="c") == {"a": 2}


async def test_culling_spares_what_was_put_again(url: str, raw: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with store(url) as kv:
        await kv.put_many(["k", "l"], [{}, {}], ttl=5)
        clock.advance(5)
        listed = kv._list  # pyright: ignore[reportPrivateUsage]

        async def listed_late(prefix: str) -> Any:
            async for page in listed(prefix):
                await kv.put("k", {"again": True})
                yield page

        monkeypatch.setattr(kv, "_list", listed_late)  # what happens between listing and removing
        await kv.cull()
        assert await kv.get("k") == {"again": True}
        assert [found["key"]["S"] for found in items(raw)] == ["k"]


# What the server may answer

Answer = tuple[int, "dict[str, Any] | None"]


class Front:
    """A real server, seen through something that replaces some of its answers."""

    def __init__(self, url: str) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.spoil: Callable[[str, Any], Answer | None] = lambda operation, body: None
        self.change: Callable[[str, Any, Any], None] = lambda operation, body, answer: None
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any, **__: Any) -> None:
                pass

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                operation, body = self.headers["X-Amz-Target"].partition(".")[2], json.loads(text)
                front.seen.append((operation, body))
                spoiled = front.spoil(operation, body)
                if spoiled is None or spoiled[1] is None:
                    request = urllib.request.Request(url, text, dict(self.headers))
                    try:
                        with urllib.request.urlopen(request) as response:
                            status, answer = response.status, json.loads(response.read())
                    except urllib.error.HTTPError as error:
                        status, answer = error.code, json.loads(error.read())
                    front.change(operation, body, answer)
                    if spoiled is not None:  # it was done, and nobody hears of it
                        self.close_connection = True
                        return
                else:
                    status, answer = spoiled
                sent = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, operation: str) -> int:
        return sum(seen == operation for seen, _ in self.seen)


@pytest.fixture
def front(url: str) -> Iterator[Front]:
    front = Front(url)
    yield front
    front.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that no test has to wait for."""
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.01, 0.01))


def error(code: str, status: int = 400, message: str = "") -> Answer:
    return status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}


def failing(answer: Answer, *operations: str, times: int = 10**6) -> Callable[[str, Any], Answer | None]:
    left = times

    def spoil(operation: str, _: Any) -> Answer | None:
        nonlocal left
        if operation not in operations or not left:
            return None
        left -= 1
        return answer

    return spoil


ITEMS = ("GetItem", "PutItem", "DeleteItem", "BatchGetItem", "BatchWriteItem", "Query", "Scan")


@pytest.mark.parametrize(
    "answer",
    [
        error("ProvisionedThroughputExceededException"),
        error("ThrottlingException"),
        error("RequestLimitExceeded"),
        error("InternalServerError", 500),
    ],
    ids=lambda answer: answer[1]["__type"].partition("#")[2],
)
async def test_a_busy_server_is_asked_again_and_then_unreachable(runtime: Runtime, front: Front, hasty: None, answer: Answer) -> None:
    kv = runtime.adapt(store(front.url))
    await kv.put("k", {})
    calls: list[Callable[[], Any]] = [
        lambda: kv.get("k"),
        lambda: kv.put("k", {}),
        lambda: kv.get_many(["k", "l"]),
        lambda: kv.put_many(["k", "l"], [{}, {}]),
        lambda: kv.keys(),
    ]
    for call in calls:
        front.spoil = failing(answer, *ITEMS, times=2)
        await call()
        front.spoil = failing(answer, *ITEMS)
        with pytest.raises(StoreConnectionError, match=r"the server (is busy|failed)"):
            await call()
    front.spoil = failing(answer, *ITEMS, times=2)
    if answer[0] == 500:  # it may have been done
        with pytest.raises(StoreConnectionError, match="the server failed"):
            await kv.delete("k")
    else:
        assert await kv.delete("k") is True


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (error("UnrecognizedClientException"), "check aws_access_key_id"),
        (error("InvalidSignatureException"), "check aws_access_key_id"),
        (error("ExpiredTokenException"), "aws_session_token"),
        (error("AccessDeniedException"), "and rights"),
        (error("ValidationException"), "refused the request"),
    ],
)
async def test_what_the_server_refuses(runtime: Runtime, front: Front, answer: Answer, advice: str) -> None:
    kv = runtime.adapt(store(front.url, aws_secret_access_key=SECRET))
    await kv.put("k", {"a": 1})
    front.spoil = failing(answer, *ITEMS)
    value = {"password": SECRET}
    for call in (lambda: kv.get("k"), lambda: kv.put("k", value), lambda: kv.put_many(["k", "l"], [value, value]), lambda: kv.delete("k")):
        with pytest.raises(KeyValueStoreError, match=advice) as caught:
            await call()
        assert isinstance(caught.value, StoreRefusedError)
        cause: BaseException | None = caught.value
        while cause is not None:
            assert SECRET not in f"{cause!r} {cause}"
            cause = cause.__cause__ or cause.__context__
    front.spoil = failing(answer, "DescribeTable")
    other = runtime.adapt(store(front.url))
    if "AccessDenied" in str(answer):
        assert await other.get("k") == {"a": 1}
    else:
        with pytest.raises(StoreRefusedError, match=advice):
            await other.get("k")


async def test_who_may_not_set_up_the_table_may_use_it(runtime: Runtime, front: Front, raw: Any) -> None:
    denied = error("AccessDeniedException")
    front.spoil = failing(denied, "DescribeTimeToLive", "UpdateTimeToLive")
    kv = runtime.adapt(store(front.url, table_name="other"))
    await kv.put("k", {"a": 1}, ttl=50)
    assert await kv.get("k") == {"a": 1}
    raw.delete_table(TableName="other")
    front.spoil = failing(denied, "CreateTable")
    with pytest.raises(StoreSetupError, match="may not create it"):
        await runtime.adapt(store(front.url, table_name="other")).get("k")


async def test_a_table_that_takes_its_time(runtime: Runtime, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0.01,) * 3)
    left = {"CreateTable": 1, "DescribeTable": 2}

    def not_yet(operation: str, _: Any, answer: Any) -> None:
        if operation in left and left[operation] and "__type" not in answer:
            left[operation] -= 1
            answer.get("Table", answer.get("TableDescription"))["TableStatus"] = "CREATING"

    front.change = not_yet
    kv = runtime.adapt(store(front.url, table_name="other"))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    assert front.count("DescribeTable") == 4
    assert front.count("CreateTable") == 1


async def test_what_was_not_processed_is_asked_for_again(runtime: Runtime, front: Front, hasty: None) -> None:
    def unprocessed(operation: str, body: Any, answer: Any) -> None:
        if operation == "BatchGetItem":
            keys = body["RequestItems"][TABLE]["Keys"]
            late = [key for key in keys[30:] if any(found["key"] == key["key"] for found in answer["Responses"][TABLE])]
            if late:
                answer["UnprocessedKeys"] = {TABLE: {**body["RequestItems"][TABLE], "Keys": keys[30:]}}
                wanted = [key["key"] for key in keys[:30]]
                answer["Responses"][TABLE] = [found for found in answer["Responses"][TABLE] if found["key"] in wanted]
        elif operation == "BatchWriteItem" and len(body["RequestItems"][TABLE]) > 10:
            answer["UnprocessedItems"] = {TABLE: body["RequestItems"][TABLE][10:]}

    kv = runtime.adapt(store(front.url))
    keys = [f"k{number}" for number in range(100)]
    front.change = unprocessed
    await kv.put_many(keys, [{"n": number} for number in range(100)])
    assert front.count("BatchWriteItem") == 12
    assert await kv.get_many(keys) == [{"n": number} for number in range(100)]
    assert front.count("BatchGetItem") == 4

    def nothing(operation: str, body: Any) -> Answer | None:
        if operation == "BatchGetItem":
            return 200, {"Responses": {TABLE: []}, "UnprocessedKeys": body["RequestItems"]}
        return (200, {"UnprocessedItems": body["RequestItems"]}) if operation == "BatchWriteItem" else None

    front.spoil = failing(error("ValidationException"), "BatchGetItem")
    with pytest.raises(StoreRefusedError) as caught:
        await kv.get_many([*keys, "more"])
    assert caught.value.extra_info == {"host": front.url.removeprefix("http://"), "operation": "get_many"}
    front.spoil = nothing
    for call in (lambda: kv.get_many(keys), lambda: kv.put_many(keys, [{}] * 100)):
        with pytest.raises(StoreConnectionError, match="the server is busy"):
            await call()


async def test_a_lost_answer(runtime: Runtime, front: Front) -> None:
    kv = runtime.adapt(store(front.url))
    await kv.put("k", {"a": 1})
    lost: Answer = (0, None)
    front.spoil = failing(lost, "GetItem", times=1)
    assert await kv.get("k") == {"a": 1}
    front.spoil = failing(lost, "PutItem", times=1)
    await kv.put("k", {"a": 2})
    assert await kv.get("k") == {"a": 2}
    front.spoil = failing(lost, "DeleteItem", times=1)
    with pytest.raises(StoreConnectionError):  # sent again, it would find nothing and say so
        await kv.delete("k")
    assert front.count("DeleteItem") == 1
    assert await kv.get("k") is None


@pytest.mark.parametrize("consistent", [True, False])
async def test_consistency_by_choice(runtime: Runtime, front: Front, consistent: bool) -> None:
    kv = runtime.adapt(store(front.url, consistent_reads=consistent))
    await kv.put("k", {})
    await kv.get("k")
    await kv.get_many(["k", "l"])
    await kv.keys()
    await kv.collections()
    reads = {operation: body for operation, body in front.seen if operation in ("GetItem", "BatchGetItem", "Query", "Scan")}
    assert len(reads) == 4
    reads["BatchGetItem"] = reads["BatchGetItem"]["RequestItems"][TABLE]
    assert [body["ConsistentRead"] for body in reads.values()] == [consistent] * 4


async def test_an_answer_that_is_not_of_dynamodb(runtime: Runtime) -> None:
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_: Any, **__: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(KeyValueStoreError, match="endpoint_url"):
        await runtime.adapt(store(f"http://127.0.0.1:{server.server_port}")).get("k")
    server.shutdown()
    server.server_close()
