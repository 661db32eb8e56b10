"""A store in Elasticsearch, over elasticsearch-py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from keyvalue._core import constructor, runtime
from keyvalue._core.clients import Clients
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.layout import KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue._core.listing import EnumerableFlatStore
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueError, KeyValueStoreError, StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers import elasticsearch as driver
from keyvalue.stores._drivers import elasticsearch_client as clients
from keyvalue.stores._drivers import elasticsearch_errors as driver_errors
from keyvalue.stores._drivers import elasticsearch_requests as requests
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls
from keyvalue.stores._legacy import elasticsearch as legacy

with needs("elasticsearch"):
    import elastic_transport
    from elasticsearch import AsyncElasticsearch, Elasticsearch

__all__ = ["ElasticsearchStore", "ElasticsearchV1CollectionSanitizationStrategy", "ElasticsearchV1KeySanitizationStrategy"]

_LISTED = 1000  # documents in a page of a listing, without their values
_FIRST_PAUSE = 0.01  # seconds until another look at an index that is being created


class ElasticsearchV1KeySanitizationStrategy(sanitization.AlwaysHashStrategy):
    """Document ids: the SHA-256 of the key."""

    def __init__(self) -> None:
        super().__init__(hash_length=64)


class ElasticsearchV1CollectionSanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """Suffixes of index names: ASCII letters, digits and `_-.`; other characters are replaced, and 8 digits of a SHA-256 appended."""

    def __init__(self) -> None:
        super().__init__(
            max_length=200,
            allowed_characters=sanitization.ALPHANUMERIC + "_-.",
            hash_fragment_mode=sanitization.HashFragmentMode.ALWAYS,
        )


_TLS = TlsOptions("write https:// in the URL", "write http:// in the URL", "pass an elasticsearch_client with its certificate as ca_certs")


class ElasticsearchStore(EnumerableFlatStore):
    r"""Keeps entries in Elasticsearch (8 or later, or serverless), with an index for each collection.

    Format: the index `<index_prefix>-<collection>` has a document with the id `<key>` and the fields of `keyvalue._core.entry`. The value
    is in `value.flattened`; a value that such a field can't hold (leaves over 32 KB, more than 20 levels of objects, `\\0` in a key,
    numbers of 1000 digits) is JSON text in `value.json`, which is not indexed. If a collection is not a valid index name (it has upper
    case, for instance) or has characters newer than Unicode 3.2, which servers treat differently, its index is
    `<index_prefix>-~<SHA-256 in hexadecimal>`. A key of more than 512 bytes has the id `~<SHA-256>`. With sanitization strategies, so does
    a key with an id that another entry holds.

    Reads see every acknowledged write. Listing and destroying refresh the indices first, and read all documents without their values. They
    skip what this library did not write, and never delete an index. Expired entries take up space until `cull`. On asyncio the store
    awaits the asynchronous client, one for each event loop. On trio it calls the synchronous client in worker threads, in synchronous code
    directly. A call fails at once if the server can't be reached; to retry, use a `RetryWrapper`.

    Args:
        elasticsearch_client: A client of elasticsearch-py, sync or async. It is never changed or closed. A synchronous client works on
            every runtime, an asynchronous one only on the event loop that first uses it.
        url: Instead of a client: the server, such as `https://user:password@host:9200`.
        api_key: The API key for the server.
        index_prefix: The start of all index names; the store converts it to lower case.
        index: Another name for `index_prefix`.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        key_sanitization_strategy: Chooses document ids: an object with `sanitize(key)`. Default: the key itself.
        collection_sanitization_strategy: Chooses index names: an object with `sanitize(collection)`. Default: the collection itself.
        auto_create: Whether to create missing indices on writing. Default True.
        timeout: Seconds that a call waits for the server, without a client, and that a read waits for an index that is being created.
            Default 5.

    Raises:
        ValueError: Neither or both of client and URL, or of `index_prefix` and `index`; the URL can't be parsed; an invalid
            prefix; or `timeout` is not positive.
        TypeError: The client is not from elasticsearch-py.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = advise_on_tls(_TLS, driver_errors.ERRORS)

    @constructor.check_types
    def __init__(
        self,
        *,
        elasticsearch_client: Elasticsearch | AsyncElasticsearch | None = None,
        url: str | None = None,
        api_key: str | None = None,
        index_prefix: str | None = None,
        index: str | None = None,
        default_collection: str | None = None,
        key_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        collection_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        auto_create: bool = True,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(default_collection=default_collection)
        constructor.require_one_of("ElasticsearchStore", {"elasticsearch_client": elasticsearch_client, "url": url})
        constructor.require_one_of("ElasticsearchStore", {"index_prefix": index_prefix, "index": index})
        constructor.check_seconds(timeout, "timeout")
        self._layout = driver.IndexLayout(index_prefix or index or "", key_sanitization_strategy, collection_sanitization_strategy)
        self.layout: KeyLayout = self._layout
        self._patience = timeout
        if elasticsearch_client is not None:
            if api_key is not None:
                raise ValueError("Give ElasticsearchStore an api_key with a url; a client has its own")
            self._clients = Clients.borrow(
                "ElasticsearchStore",
                elasticsearch_client,
                sync_types=(Elasticsearch,),
                async_types=(AsyncElasticsearch,),
                wanted="an Elasticsearch or an AsyncElasticsearch",
                capacity=clients.capacity_of,
                interruptible=False,
            )
            self._host = clients.hosts_of([node.config for node in elasticsearch_client.transport.node_pool.all()])
            keeps_integers = clients.keeps_integers(elasticsearch_client)
        else:
            node = clients.create_node(url or "", api_key)
            options = clients.default_options(node, api_key, timeout)
            self._clients = Clients(
                "ElasticsearchStore",
                create=lambda: Elasticsearch(**options, **clients.SYNC_OPTIONS),
                create_async=lambda: AsyncElasticsearch(**options, **clients.ASYNC_OPTIONS),
                capacity=clients.capacity_of,
                peer=clients.find_peer(node, _TLS),
                interruptible=False,  # urllib3 can keep the lock of its pool
            )
            self._host = clients.hosts_of([node])
            keeps_integers = True
        self._indices = requests.Indices(auto_create, keeps_integers, legacy.StrayMover(self._layout).clear)

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Sequence[Stored | None]:
        return [hit and hit.stored for hit in await requests.find(self._send, names)]

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> Sequence[KeyValueError | None]:
        changes = [CompareAndSet(name, None, entry) for name, entry in rows]
        outcomes = await self._indices.write(self._send, changes, compare=False)
        return [outcome if isinstance(outcome, KeyValueError) else None for outcome in outcomes]

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        return [version is not None for version in await self._indices.exchange(self._send, changes)]

    def _pop(self, names: Sequence[str]) -> Awaitable[Sequence[Stored | None]]:
        return self._pop_by_comparing(names, self._read_removable)

    async def _read_removable(self, names: Sequence[str]) -> Sequence[Stored | None]:
        found = await requests.find(self._send, names, with_values=False)
        return [None if hit is None or legacy.is_stray(self._layout, hit) else hit.stored for hit in found]

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        indices = prefix.removesuffix("/") or f"{self._layout.prefix}-*"
        async with aclosing(requests.search(self._send, indices, _LISTED)) as pages:
            async for page in pages:
                yield [(hit.name, hit.stored) for hit in page]

    async def _send(self, request: requests.Request) -> Any:
        """Send a request, and return what its answer means; send it again while an index that it reads is being created."""
        pause, end = _FIRST_PAUSE, runtime.monotonic() + self._patience if request.needs_shards else 0.0
        while True:
            try:
                answer = (await self._use(request.send, repeatable=request.repeatable)).body
                return await self._read_answer(request, answer)
            except StoreConnectionError as error:
                if runtime.monotonic() + pause > end or not driver_errors.is_starting(error.__cause__):
                    raise
            await runtime.sleep(pause)
            pause *= 2

    async def _read_answer(self, request: requests.Request, answer: Any) -> Any:
        try:
            if type(answer) is bytes:  # it is large
                return await runtime.run_in_worker(lambda: request.read(clients.decode(answer), self._fail))
            return request.read(answer, self._fail)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            problem = self._error(StoreRefusedError, "the answer is not one of Elasticsearch; does a proxy give it?", error)
        raise problem  # without the cause, which may quote the answer

    def _fail(self, error: driver_errors.ItemError) -> KeyValueStoreError:
        failure = self._translate_error(error)
        assert failure is not None  # there is a rule for every one
        return failure

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return isinstance(error, elastic_transport.ConnectionError)
