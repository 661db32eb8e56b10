"""A repr, which logs and tracebacks show, says where a store is and not how to get in."""

from __future__ import annotations

from typing import Any

import pytest

PASSWORD = "hunter22222"
AT = f"user:{PASSWORD}@localhost"


@pytest.mark.parametrize(
    ("module", "name", "arguments", "shown"),
    [
        ("redis", "RedisStore", {"url": f"redis://:{PASSWORD}@localhost:6380/1"}, "RedisStore(localhost:6380)"),
        ("redis", "RedisStore", {"url": f"redis://{AT}:6380"}, "RedisStore(localhost:6380)"),
        ("redis", "RedisStore", {"url": f"rediss://localhost:6380?password={PASSWORD}"}, "RedisStore(localhost:6380)"),
        ("redis", "RedisStore", {"url": f"unix://user:{PASSWORD}@/run/redis.sock"}, "redis.sock"),
        ("redis", "RedisStore", {"password": PASSWORD}, "localhost"),
        ("valkey", "ValkeyStore", {"password": PASSWORD}, "localhost"),
        ("mongodb", "MongoDBStore", {"url": f"mongodb://{AT}:27017/?appname={PASSWORD}"}, "localhost"),
        ("elasticsearch", "ElasticsearchStore", {"url": f"http://{AT}:9200", "index_prefix": "kv", "api_key": None}, "localhost"),
        (
            "dynamodb",
            "DynamoDBStore",
            {"table_name": "table", "endpoint_url": f"http://{AT}:8000", "aws_secret_access_key": PASSWORD},
            "localhost",
        ),
    ],
)
def test_a_repr_holds_no_password(module: str, name: str, arguments: dict[str, Any], shown: str) -> None:
    kind: Any = getattr(pytest.importorskip(f"keyvalue.stores.{module}", exc_type=ImportError), name)
    text = repr(kind(**arguments))
    assert shown in text
    assert PASSWORD not in text
