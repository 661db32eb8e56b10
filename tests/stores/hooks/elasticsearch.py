"""Elasticsearch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

import elastic_transport
from elasticsearch import AsyncElasticsearch, Elasticsearch, OrjsonSerializer

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores._drivers.elasticsearch import MAPPING
from keyvalue.stores.elasticsearch import ElasticsearchStore
from tests.stores.hooks import SECRET, Hooks

_URL = "http://localhost:9200"
_OPTIONS: list[dict[str, Any]] = [
    {},
    {"http_compress": True},
    {"serializer": OrjsonSerializer(), "connections_per_node": 1, "request_timeout": 1},
]


class ElasticsearchHooks(Hooks):
    kind = ElasticsearchStore
    causes = elastic_transport.ConnectionError

    client = "elasticsearch_client"
    client_types = "an Elasticsearch or an AsyncElasticsearch"

    large = (8, 3_000_000)
    misnamed = (("a", "elsewhere"),)
    damaged: Mapping[str, Mapping[str, Any]] = {
        "empty": {},
        "no value": {"version": 1},
        "no JSON": {"version": 1, "value": {"json": SECRET}},
        "a list": {"version": 1, "value": {"json": f'["{SECRET}"]'}},
        "no form of a value": {"version": 1, "value": {"other": SECRET}},
        "another version": {"version": 2, "value": {"flattened": {"a": SECRET}}},
        "names, but no value": {"collection": "c", "key": "bad", "value": {}},
    }

    def with_secret(self, url: str) -> AsyncKeyValue:
        return self.store(url.replace("://", f"://user:{SECRET}@"), api_key=None)

    def given(self, client: Any) -> AsyncKeyValue:
        return ElasticsearchStore(elasticsearch_client=client, index_prefix="tests")

    def refused(self) -> Iterable[tuple[Mapping[str, Any], type[Exception], str]]:
        for url in ("localhost", "localhost:9200", "ftp://localhost:9200", f"http://u:{SECRET}@host:port", "http://"):
            yield {"url": url, "index": "kv"}, ValueError, "can't parse the URL"
        client = Elasticsearch(_URL)
        for more in ({}, {"url": _URL, "elasticsearch_client": client}):
            yield {"index": "kv", **more}, ValueError, "exactly one of: elasticsearch_client, url"
        yield {"url": _URL, "index": ""}, ValueError, "index is empty"
        for more in ({}, {"index": "a", "index_prefix": "b"}):
            yield {"url": _URL, **more}, ValueError, "exactly one of: index_prefix, index"
        for prefix in ("-a", "_a", "+a", "a b", "a/b", "a*", "a,b", "a:b", "a#", "x" * 190, "é" * 95):
            yield {"url": _URL, "index_prefix": prefix}, ValueError, r'index_prefix: .* \\ / \* \? " < > \| , # : or a space'
        for timeout in (0, -1, float("nan")):
            yield {"url": _URL, "index": "kv", "timeout": timeout}, ValueError, "timeout must be a positive number"
        yield {"elasticsearch_client": client, "api_key": SECRET, "index": "kv"}, ValueError, "api_key with a url"

    def accepted(self) -> Iterable[Mapping[str, Any]]:
        yield {"url": "https://somewhere", "api_key": SECRET, "index": "kv"}
        yield {"url": _URL, "index_prefix": "x" * 189}

    def wrong_clients(self) -> Iterable[Any]:
        return _URL, object(), Elasticsearch

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        return {str(options): _unchanged(Elasticsearch(url, **options)) for options in _OPTIONS}

    def async_clients(self, url: str) -> Mapping[str, AbstractAsyncContextManager[Any]]:
        return {str(options): _unchanged_async(url, options) for options in _OPTIONS}

    def assert_open(self, client: Any) -> None:
        assert client.transport.node_pool.get().pool.pool is not None
        assert client.ping() is True

    async def assert_open_async(self, client: Any) -> None:
        assert client.transport.node_pool.get().session.closed is False
        assert await client.ping() is True

    def raw(self, url: str) -> Elasticsearch:
        return Elasticsearch(url)

    def contents(self, url: str) -> Mapping[str, Any]:
        with self.raw(url) as client:
            client.indices.refresh(index="*")
            hits: Any = client.search(index="*", size=1000, version=True)["hits"]["hits"]
        return {f"{hit['_index']}/{hit['_id']}": (hit["_source"], hit["_version"]) for hit in hits}

    def plant_foreign(self, url: str) -> None:
        theirs = {
            "tests-a/plain": {"text": "x"},
            "tests-a/nameless": {"value": {"flattened": {"a": 1}}},
            "tests-a/elsewhere": {"version": 1, "collection": "b", "key": "elsewhere", "value": {"flattened": {}}},
            "tests-a/otherwise": {"version": 1, "collection": "a", "key": "k", "value": {"flattened": {}}},
            "tests-b-c/k": {"version": 1, "collection": "c", "key": "k", "value": {"flattened": {}}},
            "tests/k": {"version": 1, "collection": "a", "key": "k", "value": {"flattened": {}}},
            "other/k": {"collection": "a", "key": "k"},
        }
        with Elasticsearch(url) as client:
            client.indices.create(index="tests-a", mappings=MAPPING)
            for name, document in theirs.items():
                index, _, key = name.partition("/")
                client.index(index=index, id=key, document=document)

    def damage(self, url: str, key: str, damaged: Mapping[str, Any]) -> None:
        with Elasticsearch(url) as client:
            client.index(index="tests-c", id=key, document=damaged)
        self.lists_damaged = "key" in damaged  # listing looks at names only


@contextmanager
def _unchanged(client: Elasticsearch) -> Generator[Elasticsearch, None, None]:
    """Open a client, and see that what decodes its answers stays what it is."""
    before = dict(client.transport.serializers.serializers)
    with client:
        yield client
    assert client.transport.serializers.serializers == before


@asynccontextmanager
async def _unchanged_async(url: str, options: Any) -> AsyncGenerator[AsyncElasticsearch, None]:
    async with AsyncElasticsearch(url, **options) as client:
        before = dict(client.transport.serializers.serializers)
        yield client
        assert client.transport.serializers.serializers == before


HOOKS = {"elasticsearch": ElasticsearchHooks("elasticsearch")}
