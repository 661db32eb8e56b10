"""What is DynamoDBStore's own: what AWS says by other ways, its table, its items and their limits, and what the server may answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores._drivers import dynamodb_client
from keyvalue.stores.dynamodb import DynamoDBStore
from keyvalue.testing import Clock
from tests.answering import Reply, answering
from tests.runtimes import Runtime
from tests.servers.dynamodb import TABLE
from tests.stores.hooks import SECRET, assert_raised
from tests.stores.hooks.dynamodb import DIGEST, HOOKS, Front, before
from tests.stores.test_backends import calls_on

pytestmark = pytest.mark.backends("dynamodb")
store = HOOKS["dynamodb"].store


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that no test has to wait for."""
    monkeypatch.setattr(dynamodb_client, "_PAUSES", (0.01, 0.01, 0.01))


def items(raw: Any, table: str = TABLE) -> list[dict[str, Any]]:
    return raw.scan(TableName=table, ConsistentRead=True)["Items"]


async def test_what_is_configured_for_aws(runtime: Runtime, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    failures: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"region_name": None}, StoreSetupError, "there is no region; pass region_name"),
        ({"aws_access_key_id": None, "aws_secret_access_key": None}, StoreRefusedError, "no credentials; pass aws_access_key_id"),
        ({"aws_secret_access_key": None}, StoreSetupError, "aws_secret_access_key"),
    ]
    for options, error, message in failures:
        await assert_raised(error, message, partial(runtime.adapt(store(url, **options)).get, "k"))
    (tmp_path / "config").write_text("[default]\nregion = us-east-1\n")
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
    kv = runtime.adapt(DynamoDBStore(table_name=TABLE, endpoint_url=url))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


# The table


@pytest.mark.runtimes("direct")
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
    await assert_raised(StoreSetupError, r"table other does not exist.*auto_create=True", *[lambda: kv.get("k")] * 2)
    assert "other" not in raw.list_tables()["TableNames"]
    await runtime.adapt(store(url, table_name="other")).put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    raw.delete_table(TableName="other")
    await assert_raised(StoreRefusedError, "the table does not exist", lambda: kv.put("k", {}))


@pytest.mark.runtimes("asyncio")
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


@pytest.mark.runtimes("direct")
async def test_a_table_of_another_kind(runtime: Runtime, url: str, raw: Any) -> None:
    raw.create_table(
        TableName="other",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    await assert_raised(StoreSetupError, "has other keys", lambda: runtime.adapt(store(url, table_name="other")).put("k", {}))
    with pytest.raises(StoreRefusedError, match="DescribeTable: ValidationException"):
        await runtime.adapt(store(url, table_name="arn:aws:not a name!")).put("k", {})


# What is stored


async def test_the_items(kv: Any, raw: Any, clock: Clock) -> None:
    clock.freeze()
    await kv.put("k", {"a": 1}, collection="c")
    await kv.put_many(["l"], [{}], collection="c", ttl=100)
    stays, expires = sorted(items(raw), key=lambda item: item["key"]["S"])
    document = json.loads(stays.pop("value")["S"])
    assert len(stays.pop("token")["S"]) == 22
    assert stays == {"collection": {"S": "c"}, "key": {"S": "k"}}
    assert (document["version"], document["collection"], document["key"], document["value"]) == (1, "c", "k", {"a": 1})
    assert set(expires) == {"collection", "key", "value", "token", "ttl"}
    assert clock.now() + 100 <= int(expires["ttl"]["N"]) < clock.now() + 101


async def test_names_that_no_key_can_hold(kv: Any, raw: Any) -> None:
    long = [("c" * 2048, "k" * 1024), ("c" * 2049, "k" * 1025), ("é" * 1024, "é" * 512), ("é" * 1025, "é" * 513), (DIGEST, DIGEST)]
    for collection, key in long:
        await kv.put(key, {"c": collection[:1], "k": len(key)}, collection=collection)
    await kv.put_many([key for _, key in long], [{}] * 5, collection="all")
    places = {(found["collection"]["S"], found["key"]["S"]) for found in items(raw)}
    assert {long[0], long[2]} <= places
    assert sum(collection[0] == "~" for collection, _ in places) == 3
    assert DIGEST not in {name for names in places for name in names}
    for collection, key in long:
        assert await kv.get(key, collection=collection) == {"c": collection[:1], "k": len(key)}
        assert await kv.keys(collection) == [key]
    assert sorted(await kv.keys("all")) == sorted(key for _, key in long)
    assert sorted(await kv.collections()) == sorted(["all", *(collection for collection, _ in long)])
    assert await kv.delete_many([key for _, key in long], collection="all") == 5
    for collection, key in long:
        assert await kv.delete(key, collection=collection) is True
    assert items(raw) == []


async def test_a_value_that_is_too_large_leaves_the_old_one(kv: Any, raw: Any) -> None:
    for ttl in (None, 1000):
        await kv.put("k", {"v": ""}, ttl=ttl)
        (found,) = items(raw)
        room = (
            400 * 1024
            - len("collectionkeyvaluetoken")
            - 22
            - len("default_collectionk")
            - len(found["value"]["S"])
            - (0 if ttl is None else 10)
        )
        await kv.put("k", {"v": "x" * room}, ttl=ttl)
        calls = [
            lambda ttl=ttl, room=room: kv.put("k", {"v": "x" * (room + 1)}, ttl=ttl),
            lambda ttl=ttl: kv.put_many(["new", "k"], [{}, {"v": "é" * 210_000}], ttl=ttl),
        ]
        for error in await assert_raised(ValueTooLargeError, "larger than the backend takes", *calls):
            assert error.extra_info["max_size"] == 400 * 1024
        assert await kv.get_many(["k", "new"]) == [{"v": "x" * room}, None]


# What the server may answer


@pytest.fixture
def front(url: str) -> Generator[Front, None, None]:
    with before(url) as front:
        yield front


def error(code: str, status: int = 400) -> Reply:
    return Reply(status, json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": ""}))


def fail_with(reply: Reply, *operations: str, times: int = 10**6) -> Callable[[str, Any], Reply | None]:
    replies = repeat(reply, times)
    return lambda operation, _: next(replies, None) if operation in operations else None


ITEMS = ("GetItem", "PutItem", "DeleteItem", "BatchGetItem", "BatchWriteItem", "Query", "Scan")
BUSY = [
    *(error(code) for code in ("ProvisionedThroughputExceededException", "ThrottlingException", "TooManyRequestsException")),
    error("InternalServerError", 500),
    error("RequestTimeoutException", 400),
]


async def test_a_busy_server_is_asked_again_and_then_unreachable(runtime: Runtime, front: Front) -> None:
    kv = runtime.adapt(store(front.url))
    calls = {operation: calls_on(kv)[operation] for operation in ("get", "put", "get_many", "put_many", "keys")}
    for reply in BUSY:
        await kv.put("k", {})
        for operation, call in calls.items():
            front.spoil = fail_with(reply, *ITEMS, times=2)
            if operation.startswith("put") and reply in BUSY[3:]:  # it may have been done
                await assert_raised(StoreConnectionError, "the server failed", call)
            else:
                await call()
            front.spoil = fail_with(reply, *ITEMS)
            await assert_raised(StoreConnectionError, r"the server (is busy|failed)", call)
        front.spoil = fail_with(reply, *ITEMS, times=2)
        if reply in BUSY[3:]:  # it may have been done
            await assert_raised(StoreConnectionError, "the server failed", lambda: kv.delete("k"))
        else:
            assert await kv.delete("k") is True
        front.spoil = fail_with(reply, times=0)


REFUSALS = {
    "UnrecognizedClientException": "check aws_access_key_id",
    "InvalidSignatureException": "check aws_access_key_id",
    "ExpiredTokenException": "aws_session_token",
    "AccessDeniedException": "and rights",
    "ValidationException": "refused the request",
}


async def test_what_the_server_refuses(runtime: Runtime, front: Front) -> None:
    kv = runtime.adapt(store(front.url, aws_secret_access_key=SECRET))
    await kv.put("k", {"a": 1})
    calls = [calls_on(kv)[operation] for operation in ("get", "put", "put_many", "delete")]
    for code, advice in REFUSALS.items():
        front.spoil = fail_with(error(code), *ITEMS)
        await assert_raised(StoreRefusedError, advice, *calls)
        front.spoil = fail_with(error(code), "DescribeTable")
        other = runtime.adapt(store(front.url))
        if code == "AccessDeniedException":
            assert await other.get("k") == {"a": 1}
        else:
            await assert_raised(StoreRefusedError, advice, lambda other=other: other.get("k"))


async def test_who_may_not_set_up_the_table_may_use_it(runtime: Runtime, front: Front, raw: Any) -> None:
    denied = error("AccessDeniedException")
    front.spoil = fail_with(denied, "DescribeTimeToLive", "UpdateTimeToLive")
    kv = runtime.adapt(store(front.url, table_name="other"))
    await kv.put("k", {"a": 1}, ttl=50)
    assert await kv.get("k") == {"a": 1}
    raw.delete_table(TableName="other")
    front.spoil = fail_with(denied, "CreateTable")
    await assert_raised(StoreSetupError, "may not create it", lambda: runtime.adapt(store(front.url, table_name="other")).get("k"))


async def test_a_table_that_takes_its_time(runtime: Runtime, front: Front) -> None:
    left = {"CreateTable": 1, "DescribeTable": 2}

    def delay(operation: str, _: Any, answer: Any) -> None:
        if operation in left and left[operation] and "__type" not in answer:
            left[operation] -= 1
            answer.get("Table", answer.get("TableDescription"))["TableStatus"] = "CREATING"

    front.change = delay
    kv = runtime.adapt(store(front.url, table_name="other"))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    assert front.count("DescribeTable") == 4
    assert front.count("CreateTable") == 1


async def test_what_was_not_processed_is_asked_for_again(runtime: Runtime, front: Front) -> None:
    def leave_unprocessed(operation: str, body: Any, answer: Any) -> None:
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
    front.change = leave_unprocessed
    await kv.put_many(keys, [{"n": number} for number in range(100)])
    assert front.count("BatchWriteItem") == 12
    assert await kv.get_many(keys) == [{"n": number} for number in range(100)]
    assert front.count("BatchGetItem") == 4

    def process_nothing(operation: str, body: Any) -> Reply | None:
        if operation == "BatchGetItem":
            return Reply(200, json.dumps({"Responses": {TABLE: []}, "UnprocessedKeys": body["RequestItems"]}))
        return Reply(200, json.dumps({"UnprocessedItems": body["RequestItems"]})) if operation == "BatchWriteItem" else None

    front.spoil = fail_with(error("ValidationException"), "BatchGetItem")
    (refused,) = await assert_raised(StoreRefusedError, "refused the request", lambda: kv.get_many([*keys, "more"]))
    assert refused.extra_info == {"host": front.url.removeprefix("http://"), "operation": "get_many"}
    front.spoil = process_nothing
    await assert_raised(StoreConnectionError, "the server is busy", lambda: kv.get_many(keys), lambda: kv.put_many(keys, [{}] * 100))


async def test_consistency_by_choice(runtime: Runtime, front: Front) -> None:
    for consistent in (True, False):
        kv = runtime.adapt(store(front.url, consistent_reads=consistent))
        front.seen.clear()
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
    page = Reply(200, "<html>Welcome</html>", {"Content-Type": "text/html"})
    with answering(lambda _: page) as url, pytest.raises(KeyValueStoreError, match="endpoint_url"):
        await runtime.adapt(store(url)).get("k")
