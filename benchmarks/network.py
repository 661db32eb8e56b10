"""The official clients of the network stores, used the way an expert would, and the predecessor's stores over the same servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

Runtime = Literal["asyncio", "trio", "blocking"]


class Bare(NamedTuple):
    """A bare client: functions that return awaitables on asyncio, and block on the other runtimes. A text is one JSON document.

    Attributes:
        get: Returns the text under a name.
        set: Stores a text under a name.
        mget: Returns the texts under names.
        mset: Stores texts by their names.
        close: Closes the client.
        text: Makes of bytes what the client takes as a text.
    """

    get: Callable[[str], Any]
    set: Callable[[str, Any], Any]
    mget: Callable[[list[str]], Any]
    mset: Callable[[dict[str, Any]], Any]
    close: Callable[[], Any]
    text: Callable[[bytes], Any] = lambda text: text


def redis(url: str, runtime: Runtime) -> Bare:
    module: Any = import_module("redis.asyncio" if runtime == "asyncio" else "redis")
    client = module.Redis.from_url(url)
    return Bare(client.get, client.set, client.mget, client.mset, client.aclose if runtime == "asyncio" else client.close)


def valkey(url: str, runtime: Runtime) -> Bare:
    """On asyncio its client is made at the first call, on the loop of that."""
    import glide
    import glide_sync

    place: Any = urlsplit(url)
    configuration = glide.GlideClientConfiguration([glide.NodeAddress(place.hostname, place.port)], request_timeout=5000)
    if runtime != "asyncio":
        client: Any = glide_sync.GlideClient.create(configuration)
        return Bare(client.get, client.set, client.mget, client.mset, client.close)
    opened: list[Any] = []

    async def there() -> Any:
        if not opened:
            opened.append(await glide.GlideClient.create(configuration))
        return opened[0]

    async def get(name: str) -> Any:
        return await (opened[0] if opened else await there()).get(name)

    async def put(name: str, text: bytes) -> Any:
        return await (opened[0] if opened else await there()).set(name, text)

    async def mget(names: list[str]) -> Any:
        return await (await there()).mget(names)

    async def mset(texts: dict[str, bytes]) -> Any:
        return await (await there()).mset(texts)

    async def close() -> None:
        await (await there()).close()

    return Bare(get, put, mget, mset, close)


def memcached(url: str, runtime: Runtime) -> Bare:
    import aiomcache
    import pymemcache

    where: Any = urlsplit(url)
    if runtime == "asyncio":
        client = aiomcache.Client(where.hostname, where.port)

        async def mset(texts: dict[str, bytes]) -> None:
            await asyncio.gather(*(client.set(name.encode(), text) for name, text in texts.items()))

        def get(name: str) -> Any:
            return client.get(name.encode())

        def put(name: str, text: bytes) -> Any:
            return client.set(name.encode(), text)

        def mget_async(names: list[str]) -> Any:
            return client.multi_get(*(name.encode() for name in names))

        return Bare(get, put, mget_async, mset, client.close)
    pool: Any = pymemcache.PooledClient((where.hostname, where.port), no_delay=True, default_noreply=False)

    def mget(names: list[str]) -> list[Any]:
        found = pool.get_many(names)
        return [found[name] for name in names]

    return Bare(pool.get, pool.set, mget, pool.set_many, pool.close)


def dynamodb(url: str, runtime: Runtime) -> Bare:
    """The table `bare`, with one key. On asyncio its client is made at the first call, on the loop of that."""
    import aiobotocore.session
    import botocore.session
    from botocore.exceptions import ClientError

    where: Any = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client: Any = botocore.session.get_session().create_client("dynamodb", **where)
    try:
        client.describe_table(TableName="bare")
    except ClientError:
        client.create_table(
            TableName="bare",
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def one(name: str) -> Any:
        return {"TableName": "bare", "Key": {"key": {"S": name}}, "ConsistentRead": True}

    def many(names: list[str]) -> Any:
        return {"RequestItems": {"bare": {"Keys": [{"key": {"S": name}} for name in names], "ConsistentRead": True}}}

    def item(name: str, text: str) -> Any:
        return {"key": {"S": name}, "value": {"S": text}}

    def batches(texts: dict[str, str]) -> Any:
        items = [{"PutRequest": {"Item": item(name, text)}} for name, text in texts.items()]
        return [{"RequestItems": {"bare": items[start : start + 25]}} for start in range(0, len(items), 25)]

    def found(names: list[str], answer: Any) -> Any:
        by_name = {item["key"]["S"]: item["value"]["S"] for item in answer["Responses"]["bare"]}
        return [by_name[name] for name in names]

    if runtime != "asyncio":

        def get_now(name: str) -> Any:
            return client.get_item(**one(name))["Item"]["value"]["S"]

        def put_now(name: str, text: str) -> None:
            client.put_item(TableName="bare", Item=item(name, text))

        def mget_now(names: list[str]) -> Any:
            return found(names, client.batch_get_item(**many(names)))

        def mset_now(texts: dict[str, str]) -> None:
            for batch in batches(texts):
                client.batch_write_item(**batch)

        return Bare(get_now, put_now, mget_now, mset_now, client.close, bytes.decode)
    client.close()
    opened: list[Any] = []

    async def there() -> Any:
        if not opened:
            opened.append(await aiobotocore.session.get_session().create_client("dynamodb", **where).__aenter__())
        return opened[0]

    async def get(name: str) -> Any:
        return (await (await there()).get_item(**one(name)))["Item"]["value"]["S"]

    async def put(name: str, text: str) -> None:
        await (await there()).put_item(TableName="bare", Item=item(name, text))

    async def mget(names: list[str]) -> Any:
        return found(names, await (await there()).batch_get_item(**many(names)))

    async def mset(texts: dict[str, str]) -> None:
        own = await there()
        await asyncio.gather(*(own.batch_write_item(**batch) for batch in batches(texts)))

    async def close() -> None:
        await (await there()).close()

    return Bare(get, put, mget, mset, close, bytes.decode)


def mongodb(url: str, runtime: Runtime) -> Bare:
    """One document a name, in which `_id` is the name, with the fields and indexes that the store's have."""
    import orjson
    from pymongo import AsyncMongoClient, IndexModel, MongoClient, ReplaceOne

    with MongoClient[Any](url) as first:
        first["benchmark"]["bare"].create_indexes([IndexModel("key"), IndexModel("expires_at", expireAfterSeconds=0)])
    kind: Any = AsyncMongoClient if runtime == "asyncio" else MongoClient
    client = kind(url)
    rows = client["benchmark"]["bare"]

    def put(name: str, text: bytes) -> Any:
        return rows.replace_one({"_id": name}, orjson.loads(text), upsert=True)

    def mset(texts: dict[str, bytes]) -> Any:
        replaced = [ReplaceOne({"_id": name}, orjson.loads(text), upsert=True) for name, text in texts.items()]
        return rows.bulk_write(replaced, ordered=False)

    def picked(names: list[str], documents: list[Any]) -> list[bytes]:
        texts = {document["_id"]: orjson.dumps(document) for document in documents}
        return [texts[name] for name in names]

    if runtime != "asyncio":

        def get(name: str) -> bytes:
            return orjson.dumps(rows.find_one({"_id": name}))

        def mget(names: list[str]) -> list[bytes]:
            return picked(names, rows.find({"_id": {"$in": names}}).to_list())

        return Bare(get, put, mget, mset, client.close)

    async def get_async(name: str) -> bytes:
        return orjson.dumps(await rows.find_one({"_id": name}))

    async def mget_async(names: list[str]) -> list[bytes]:
        return picked(names, await rows.find({"_id": {"$in": names}}).to_list())

    return Bare(get_async, put, mget_async, mset, client.close)


def elasticsearch(url: str, runtime: Runtime) -> Bare:
    """The index `bare`, with fields mapped as the store's are."""
    import orjson
    from elasticsearch import AsyncElasticsearch, BadRequestError, Elasticsearch

    keyword, date = {"type": "keyword"}, {"type": "date"}
    fields: dict[str, Any] = {"version": {"type": "integer"}, "collection": keyword, "key": keyword, "created_at": date, "expires_at": date}
    client: Any = Elasticsearch(url)
    try:
        client.indices.create(index="bare", mappings={"properties": {**fields, "value": {"type": "flattened"}}})
    except BadRequestError as error:
        if error.error != "resource_already_exists_exception":
            raise

    def lines(texts: dict[str, bytes]) -> list[bytes]:
        return [line for name, text in texts.items() for line in (orjson.dumps({"index": {"_id": name}}), text)]

    def put(name: str, text: bytes) -> Any:
        return client.index(index="bare", id=name, document=text)

    def mset(texts: dict[str, bytes]) -> Any:
        return client.bulk(index="bare", operations=lines(texts))

    def get_now(name: str) -> Any:
        return orjson.dumps(client.get(index="bare", id=name)["_source"])

    def mget_now(names: list[str]) -> Any:
        return [orjson.dumps(document["_source"]) for document in client.mget(index="bare", ids=names)["docs"]]

    if runtime != "asyncio":
        return Bare(get_now, put, mget_now, mset, client.close)
    client.close()
    client = AsyncElasticsearch(url)

    async def get(name: str) -> Any:
        return orjson.dumps((await client.get(index="bare", id=name))["_source"])

    async def mget(names: list[str]) -> Any:
        return [orjson.dumps(document["_source"]) for document in (await client.mget(index="bare", ids=names))["docs"]]

    return Bare(get, put, mget, mset, client.close)


def vault(url: str, runtime: Runtime) -> Bare:
    """One secret a name, with the text in one field. The client only blocks, so on asyncio it is called in worker threads."""
    import hvac
    from anyio.to_thread import run_sync

    client: Any = hvac.Client(url, token="root")
    secrets = client.secrets.kv.v2

    def get_now(name: str) -> Any:
        return secrets.read_secret_version(name, raise_on_deleted_version=True)["data"]["data"]["value"]

    def put_now(name: str, text: str) -> Any:
        return secrets.create_or_update_secret(name, {"value": text})

    def mget_now(names: list[str]) -> Any:
        return [get_now(name) for name in names]

    def mset_now(texts: dict[str, str]) -> None:
        for name, text in texts.items():
            put_now(name, text)

    if runtime != "asyncio":
        return Bare(get_now, put_now, mget_now, mset_now, client.adapter.close, bytes.decode)

    async def get(name: str) -> Any:
        return await run_sync(get_now, name)

    async def put(name: str, text: str) -> Any:
        return await run_sync(put_now, name, text)

    async def mget(names: list[str]) -> Any:
        return await run_sync(mget_now, names)

    async def mset(texts: dict[str, str]) -> Any:
        return await run_sync(mset_now, texts)

    return Bare(get, put, mget, mset, client.adapter.close, bytes.decode)


BARE: Mapping[str, Callable[[str, Runtime], Bare]] = {
    "redis": redis,
    "valkey": valkey,
    "memcached": memcached,
    "dynamodb": dynamodb,
    "mongodb": mongodb,
    "elasticsearch": elasticsearch,
    "vault": vault,
}


def predecessor(store: str, url: str, collection: str) -> Any:
    """Make the predecessor's store over a server."""
    place: Any = urlsplit(url)
    where: dict[str, Any] = {"host": place.hostname, "port": place.port}
    name, arguments = {
        "redis": ("RedisStore", {"url": url}),
        "valkey": ("ValkeyStore", where),
        "memcached": ("MemcachedStore", where),
        "mongodb": ("MongoDBStore", {"url": url, "db_name": "benchmark"}),
        "dynamodb": (
            "DynamoDBStore",
            {
                "table_name": "predecessor",
                "endpoint_url": url,
                "region_name": "us-east-1",
                "aws_access_key_id": "test",
                "aws_secret_access_key": "test",
            },
        ),
        "elasticsearch": ("ElasticsearchStore", {"url": url, "index_prefix": "predecessor"}),
        "vault": ("VaultStore", {"url": url, "token": "root"}),
    }[store]
    module: Any = import_module(f"key_value.aio.stores.{store}")
    return getattr(module, name)(**arguments, default_collection=collection)
