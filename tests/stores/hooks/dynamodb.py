"""DynamoDB."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing
from typing import Any

import aiobotocore.session
import botocore.session
from botocore import exceptions

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.dynamodb import DynamoDBStore
from tests.servers.dynamodb import CREDENTIALS, TABLE, client, shared_client
from tests.stores.hooks import NEVER, SECRET, Hooks, document

_DIGEST = "~" + "0" * 64


class DynamoDBHooks(Hooks):
    kind = DynamoDBStore
    unreachable = "could not reach the server"
    silent = "did not answer in time"
    causes = (exceptions.ConnectionError, exceptions.HTTPClientError)
    client_types = "for the service `dynamodb`, and entered"

    ttls = (*Hooks.ttls, 2 * 10**11)
    late = 1.0

    misnamed = (("a", "elsewhere"),)
    bad_keys = ("bad", _DIGEST)
    damaged: Mapping[str, dict[str, Any]] = {
        "nothing": {},
        "a number": {"value": {"N": "1"}},
        "no JSON": {"value": {"S": SECRET}},
        "a list": {"value": {"S": "[]"}},
        "no value": {"value": {"S": '{"version":1}'}},
        "cut off": {"value": {"S": '{"version":1,"value":{"a":"' + SECRET}},
    }

    def with_secret(self, url: str) -> AsyncKeyValue:
        credentials: dict[str, Any] = CREDENTIALS | {"aws_secret_access_key": SECRET}
        return DynamoDBStore(table_name=TABLE, endpoint_url=url, **credentials)

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

    def accepted(self) -> Iterator[Mapping[str, Any]]:
        for name in ("abc", "a" * 255, "My_table-1.x", "arn:aws:dynamodb:us-east-1:123456789012:table/users"):
            yield {"table_name": name}

    def wrong_clients(self) -> Iterator[Any]:
        with closing(botocore.session.get_session().create_client("s3", **CREDENTIALS)) as s3:
            yield from ("http://localhost", object(), type(s3), s3, aiobotocore.session.get_session())

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        return {"": closing(client(url))}

    def async_clients(self, url: str) -> Mapping[str, AbstractAsyncContextManager[Any]]:
        return {"": aiobotocore.session.get_session().create_client("dynamodb", endpoint_url=url, **CREDENTIALS)}

    def assert_open(self, client: Any) -> None:
        assert client._endpoint.http_session._manager.pools  # which are gone when it is closed
        assert client.list_tables()["TableNames"]

    async def assert_open_async(self, client: Any) -> None:
        assert (await client.list_tables())["TableNames"]

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
            _DIGEST: {"value": {"N": "1"}},
        }
        order = {"collection": {"S": "orders"}, "key": {"S": "1"}, "total": {"N": "12"}, "value": {"M": {}}}
        for item in (order, *({"collection": {"S": "a"}, "key": {"S": key}, **attributes} for key, attributes in of_a.items())):
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
