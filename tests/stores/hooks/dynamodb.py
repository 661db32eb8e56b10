"""DynamoDB."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager, nullcontext
from threading import Lock
from typing import Any

import aiobotocore.session
import botocore.session
import urllib3
from botocore import exceptions
from botocore.config import Config

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.dynamodb import DynamoDBStore
from tests.answering import Reply, Request, answering
from tests.budget import scale
from tests.servers.dynamodb import CREDENTIALS, TABLE, client, shared_client
from tests.stores.hooks import NEVER, SECRET, Hooks, document

DIGEST = "~" + "0" * 64
_ONE_CONNECTION = Config(max_pool_connections=1)


class Front:
    """A real server, seen through something that replaces some of its answers."""

    def __init__(self, url: str, pool: urllib3.PoolManager) -> None:
        self.url = ""  # where it is
        self.seen: list[tuple[str, Any]] = []  # the requests: operation and body
        self.spoil: Callable[[str, Any], Reply | None] = lambda operation, body: None  # returns what to answer in place of the server
        self.change: Callable[[str, Any, Any], None] = lambda operation, body, answer: None  # changes an answer of the server
        self.turn: AbstractContextManager[Any] = nullcontext()  # held while the server is asked
        self._server = url
        self._pool = pool

    def answer(self, request: Request) -> Reply:
        operation, body = request.headers["X-Amz-Target"].partition(".")[2], json.loads(request.text)
        self.seen.append((operation, body))
        spoiled = self.spoil(operation, body)
        if spoiled is not None:
            return spoiled
        with self.turn:
            response = self._pool.request("POST", self._server, body=request.text, headers=request.headers)
        answer = json.loads(response.data)
        self.change(operation, body, answer)
        return Reply(response.status, json.dumps(answer))

    def count(self, operation: str) -> int:
        return sum(seen == operation for seen, _ in self.seen)


@contextmanager
def before(url: str) -> Generator[Front, None, None]:
    """Put a front before a server."""
    with urllib3.PoolManager(maxsize=10) as pool:
        front = Front(url, pool)
        with answering(front.answer) as front.url:
            yield front


class DynamoDBHooks(Hooks):
    kind = DynamoDBStore
    unreachable = "could not reach the server"
    silent = "did not answer in time"
    causes = (exceptions.ConnectionError, exceptions.HTTPClientError)
    client_types = "for the service `dynamodb`, and entered"

    ttls = (*Hooks.ttls, 2 * 10**11)
    late = 1.0

    large = (scale(8, 45), 390_000)
    misnamed = (("a", "elsewhere"),)
    bad_keys = ("bad", DIGEST)
    damaged: Mapping[str, dict[str, Any]] = {
        "nothing": {},
        "a number": {"value": {"N": "1"}},
        "no JSON": {"value": {"S": SECRET}},
        "a list": {"value": {"S": "[]"}},
        "no value": {"value": {"S": '{"version":1}'}},
        "cut off": {"value": {"S": '{"version":1,"value":{"a":"' + SECRET}},
    }

    def store(self, url: str, **options: Any) -> AsyncKeyValue:
        arguments: dict[str, Any] = {"table_name": TABLE, "endpoint_url": url, **CREDENTIALS, **options}
        return DynamoDBStore(**arguments)

    def fresh(self, url: str) -> AsyncKeyValue:
        return self.store(url, table_name="other")

    def with_secret(self, url: str) -> AsyncKeyValue:
        return self.store(url, aws_secret_access_key=SECRET)

    def given(self, client: Any) -> AsyncKeyValue:
        return DynamoDBStore(client=client, table_name=TABLE)

    def refused(self) -> Iterator[tuple[Mapping[str, Any], type[Exception], str]]:
        for option in ("region_name", "endpoint_url", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
            arguments = {"client": client("http://localhost"), "table_name": TABLE, option: f"http://{SECRET}"}
            yield arguments, ValueError, "either a client, or region"
        yield {"table_name": ""}, ValueError, "name of a table"
        for name in ("ab", "a" * 256, "users table", "users/table", "t\u00e4ble"):
            yield {"table_name": name}, ValueError, "table_name must be 3 to 255"
        for timeout in (0, -1.0, float("nan")):
            yield {"table_name": TABLE, "timeout": timeout}, ValueError, "positive number of seconds"
        for url in ("localhost:8000", "localhost", ""):
            yield {"table_name": TABLE, "endpoint_url": url}, ValueError, "endpoint_url must start with http:// or https://"

    @contextmanager
    def for_deletes(self, url: str) -> Generator[str, None, None]:
        with before(url) as front:  # DynamoDB Local tells all that delete an item at once that they did, unlike DynamoDB
            front.turn = Lock()
            yield front.url

    def accepted(self) -> Iterator[Mapping[str, Any]]:
        for name in ("abc", "a" * 255, "My_table-1.x", "arn:aws:dynamodb:us-east-1:123456789012:table/users"):
            yield {"table_name": name}

    def wrong_clients(self) -> Iterator[Any]:
        with closing(botocore.session.get_session().create_client("s3", **CREDENTIALS)) as s3:
            yield from ("http://localhost", object(), type(s3), s3, aiobotocore.session.get_session())

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        return {"": closing(client(url, config=_ONE_CONNECTION))}

    def async_clients(self, url: str) -> Mapping[str, AbstractAsyncContextManager[Any]]:
        return {"": aiobotocore.session.get_session().create_client("dynamodb", endpoint_url=url, config=_ONE_CONNECTION, **CREDENTIALS)}

    def assert_open(self, client: Any) -> None:
        assert client._endpoint.http_session._manager.pools  # which are gone when it is closed
        assert client.list_tables()["TableNames"]

    async def assert_open_async(self, client: Any) -> None:
        assert (await client.list_tables())["TableNames"]

    def raw(self, url: str) -> AbstractContextManager[Any]:
        return nullcontext(shared_client(url))

    def contents(self, url: str) -> Mapping[tuple[str, str, str], dict[str, Any]]:
        raw = shared_client(url)
        return {
            (table, item["collection"]["S"], item["key"]["S"]): item
            for table in raw.list_tables()["TableNames"]
            for item in raw.scan(TableName=table, ConsistentRead=True)["Items"]
        }

    def plant_foreign(self, url: str) -> None:
        of_a: dict[str, dict[str, Any]] = {
            "bare": {},
            "text": {"value": {"S": "text"}},
            "json": {"value": {"S": "[1]"}},
            "number": {"value": {"N": "1"}},
            "bytes": {"value": {"B": b'{"version":1}'}, "ttl": {"N": "1"}},
            "nameless": {"value": {"S": '{"value": {"a": 1}}'}},
            "elsewhere": {"value": {"S": document("b", "elsewhere")}},
            DIGEST: {"value": {"N": "1"}},
        }
        order = {"collection": {"S": "orders"}, "key": {"S": "1"}, "total": {"N": "12"}, "value": {"M": {}}}
        for item in (order, *({"collection": {"S": "a"}, "key": {"S": key}, **attributes} for key, attributes in of_a.items())):
            shared_client(url).put_item(TableName=TABLE, Item=item)

    def names(self, url: str) -> set[str]:
        return {f"{collection}::{key}" for _, collection, key in self.contents(url)}

    def plant(self, url: str, name: str, data: bytes) -> None:
        collection, _, key = name.partition("::")
        item = {"collection": {"S": collection}, "key": {"S": key}, "value": {"S": data.decode()}}
        shared_client(url).put_item(TableName=TABLE, Item=item)

    def damage(self, url: str, key: str, damaged: dict[str, Any]) -> None:
        (entry,) = (item for item in self.contents(url).values() if json.loads(item["value"]["S"])["key"] == key)
        item = {"collection": entry["collection"], "key": entry["key"], **damaged}
        shared_client(url).put_item(TableName=TABLE, Item=item)

    def expiries(self, url: str) -> Mapping[str, float]:
        return {place[2]: float(item["ttl"]["N"]) if "ttl" in item else NEVER for place, item in self.contents(url).items()}

    def postpone(self, url: str, key: str) -> None:
        (item,) = self.contents(url).values()
        shared_client(url).put_item(TableName=TABLE, Item={**item, "ttl": {"N": str(int(item["ttl"]["N"]) + 5000)}})


HOOKS = {"dynamodb": DynamoDBHooks("dynamodb")}
