"""A store in Elasticsearch, over elasticsearch-py."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, ClassVar, cast
from urllib.parse import quote

import orjson

from keyvalue._core import codec, constructor, runtime, urls
from keyvalue._core.clients import Clients
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.layout import KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue._core.listing import EnumerableFlatStore
from keyvalue._core.sockets import Peer, TlsOptions, judge_http
from keyvalue._core.store import Stability
from keyvalue.errors import (
    KeyValueError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
    ValueTooLargeError,
)
from keyvalue.stores._drivers.elasticsearch import (
    FORBIDDEN,
    GUARD,
    MAPPING,
    Hit,
    IndexLayout,
    ItemError,
    Json,
    Lines,
    Result,
    address,
    decoded,
    is_flat,
    version_in,
)
from keyvalue.stores._drivers.http import limit_connections

with needs("elasticsearch"):
    import elastic_transport
    from elastic_transport.client_utils import url_to_node_config
    from elasticsearch import ApiError, AsyncElasticsearch, Elasticsearch
    from elasticsearch.exceptions import AuthenticationException, AuthorizationException, UnsupportedProductError

__all__ = ["ElasticsearchStore", "ElasticsearchV1CollectionSanitizationStrategy", "ElasticsearchV1KeySanitizationStrategy"]

_CONNECTIONS = 40  # as many as there are worker threads
_PAGE = 500  # documents
_PAGE_SIZE = 10 * 2**20  # bytes, about
_LARGEST = 45_000_000  # bytes of a value's JSON text; the server takes 50 million characters in one string, and 100 MB in one request
_ENDING = 1.0  # seconds that the end of a search may take
_FIRST_PAUSE = 0.01  # seconds until another look at an index that is being made
_KEPT = "1m"  # how long a search stays open between two pages
_REMEMBERED = 10_000  # indices that are known to be there
_LISTED = 1000  # documents in a page of a listing, without their values

_JSON = {"accept": "application/json", "content-type": "application/json"}
# A pattern means hidden indices too, and closed ones, so that these are refused rather than left out.
_ALL = {"ignore_unavailable": "false", "allow_no_indices": "true", "expand_wildcards": "open,closed,hidden"}
_NDJSON = {"accept": "application/json", "content-type": "application/x-ndjson"}
_BUSY = "the server is not available now, or has too much to do"
_NO_INDEX = "index_not_found_exception"
_ADVICE = {
    "index_closed_exception": "the index is closed; open it",
    "cluster_block_exception": "the index or the cluster is blocked, as by a full disk; see `index.blocks` and `cluster.blocks`",
    "maximum normal shards open": "the cluster has as many shards as it takes; raise cluster.max_shards_per_node, or delete indices",
}
_UNAVAILABLE = {408, 425, 429, *range(500, 600)}
_TOO_LARGE = 413
_STARTING = re.compile("no_shard_available|all shards|missing shards")
_PASSING = re.compile("shard|rejected|breaking|timeout|connect|master|node_closed|disconnect")
_PASSING_BLOCK = re.compile(r"blocked by: \[(SERVICE_UNAVAILABLE|TOO_MANY_REQUESTS)/")


class _Node(elastic_transport.Urllib3HttpNode):
    def __init__(self, config: elastic_transport.NodeConfig) -> None:
        super().__init__(config)
        self.pool.ConnectionCls = limit_connections(self.pool.ConnectionCls)


class ElasticsearchV1KeySanitizationStrategy(sanitization.AlwaysHashStrategy):
    """The ids of documents: the SHA-256 of the key."""

    def __init__(self) -> None:
        super().__init__(hash_length=64)


class ElasticsearchV1CollectionSanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """The ends of index names: letters, digits and `_-.` of ASCII; anything else replaced, with 8 digits of a SHA-256 appended."""

    def __init__(self) -> None:
        super().__init__(
            max_length=200,
            allowed_characters=sanitization.ALPHANUMERIC + "_-.",
            hash_fragment_mode=sanitization.HashFragmentMode.ALWAYS,
        )


def _type_of(error: ApiError) -> str:
    """Return what the server calls an error, or its status; not its reason, which may quote the value."""
    body: Any = error.body
    with suppress(KeyError, TypeError):
        return str(body["error"]["type"])
    return f"HTTP status {error.status_code}{': a redirect; give the URL that it leads to' if 300 <= error.status_code < 400 else ''}"


def _advice_on(text: str) -> str:
    return next((advice for kind, advice in _ADVICE.items() if kind in text), "")


def _is_unsent(error: elastic_transport.ConnectionError) -> bool:
    return re.search("Failed to establish a new connection|Cannot connect to host|NameResolutionError", str(error)) is not None


_UNREACHABLE = "could not reach the server; is it running, and is the URL right?"


class ElasticsearchStore(EnumerableFlatStore):
    r"""Keeps entries in Elasticsearch (8 or later, serverless too), in one index a collection.

    Format: the index `<index_prefix>-<collection>` has a document under the id `<key>` that holds the fields of `keyvalue._core.entry`,
    with the value as `value.flattened`; what a field of that type can't hold (leaves over 32 KB, more than 20 levels of objects, `\\0` in
    a key, numbers of 1000 digits) as JSON text in `value.json`, which is not indexed. A collection that no index can be named after,
    because of upper case for instance, has the index `<index_prefix>-~<SHA-256 in hexadecimal>`; so has one with characters newer than
    Unicode 3.2, of which not all servers take the same. A key of more than 512 bytes has the id `~<SHA-256>`. So has, with sanitization
    strategies, what another pair's entry holds the place of.

    Reads see every write that was acknowledged. Listing and destroying refresh the indices first, and read all their documents but not
    the values; what this library did not write is left alone, and so are the indices. Expired entries take up space until `cull`. On
    asyncio the store awaits the asynchronous client, one for each event loop; on trio it calls the synchronous one in worker threads, and
    in synchronous code directly. A call fails at once if the server is not there: retrying is a wrapper's business.

    Args:
        elasticsearch_client: A client to use, of either colour. It is never changed or closed. A synchronous one works on every runtime;
            an asynchronous one only on the event loop where it is first used.
        url: The server, such as `https://user:password@host:9200`, instead of a client.
        api_key: Its API key.
        index_prefix: What the names of the indices start with; it is put in lower case.
        index: Another name for `index_prefix`.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        key_sanitization_strategy: What names documents: an object with `sanitize(key)`. Default: the key itself.
        collection_sanitization_strategy: What names indices, likewise.
        auto_create: Whether to create missing indices on writing. Default True.
        timeout: How many seconds a call waits for the server at most, if there is no client, and a read for an index that is being made.
            Default 5.

    Raises:
        ValueError: Neither or both of client and URL, or of `index_prefix` and `index`; the URL can't be parsed; no index can be named
            with the prefix; or `timeout` is not positive.
        TypeError: The client is not one of elasticsearch-py.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    tls: ClassVar[TlsOptions] = TlsOptions(
        "write https:// in the URL", "write http:// in the URL", "pass an elasticsearch_client with its certificate as ca_certs"
    )
    errors: ErrorRules = (
        ErrorRule(
            ApiError,
            StoreConnectionError,
            lambda error: f"{_BUSY} ({error.status_code})",
            when=lambda error: error.status_code in _UNAVAILABLE,
        ),
        ErrorRule(
            ApiError,
            StoreSetupError,
            "a template of the server makes data streams of such names, not indices; choose another index_prefix",
            when=lambda error: "data streams only" in str(error.body),
        ),
        ErrorRule(ApiError, StoreRefusedError, lambda error: _advice_on(str(error.body)), when=lambda error: _advice_on(str(error.body))),
        ErrorRule(
            ApiError,
            StoreRefusedError,
            "the client is newer than the server; install the version of `elasticsearch` that the server has",
            when=lambda error: re.search("media_type_header|compatible-with", str(error.body)),
        ),
        ErrorRule(AuthenticationException, StoreRefusedError, "the server refused the credentials; check user and password or api_key"),
        ErrorRule(AuthorizationException, StoreRefusedError, "the server refused the request; check the user's rights"),
        ErrorRule(UnsupportedProductError, StoreRefusedError, "the server is not Elasticsearch"),
        ErrorRule(ApiError, StoreRefusedError, lambda error: f"the server refused the request ({_type_of(error)})"),
        ErrorRule(elastic_transport.ConnectionTimeout, StoreConnectionError, "the server did not answer in time"),
        ErrorRule(elastic_transport.ConnectionError, StoreConnectionError, _UNREACHABLE, when=_is_unsent, unsent=True),
        ErrorRule(elastic_transport.ConnectionError, StoreConnectionError, _UNREACHABLE),
        ErrorRule(elastic_transport.TransportError, StoreRefusedError, "the server's answer can't be understood"),
    )

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
        prefix = (index_prefix or index or "").lower()
        if FORBIDDEN.search(prefix) or prefix[0] in "-_+" or len(prefix.encode()) > 189:
            raise ValueError(
                "No index can be named with this index_prefix: it must not start with - _ or +, nor hold any of "
                '\\ / * ? " < > | , # : or a space, and has at most 189 bytes'
            )
        self._layout = IndexLayout(prefix, key_sanitization_strategy, collection_sanitization_strategy)
        self.layout: KeyLayout = self._layout
        self._prefix = prefix
        self._auto_create = auto_create
        self._there: set[str] = set()
        self._moving: dict[str, runtime.Once] = {}
        self._patience = timeout
        self._is_exact = True
        if elasticsearch_client is not None:
            if api_key is not None:
                raise ValueError("Give ElasticsearchStore an api_key with a url; a client has its own")
            self._clients = Clients.borrow(
                "ElasticsearchStore",
                elasticsearch_client,
                sync_types=(Elasticsearch,),
                async_types=(AsyncElasticsearch,),
                wanted="an Elasticsearch or an AsyncElasticsearch",
                capacity=_capacity,
                interruptible=False,
            )
            self._host = _hosts([node.config for node in elasticsearch_client.transport.node_pool.all()])
            # Its decoder may read large integers as floats.
            serializers = elasticsearch_client.transport.serializers
            self._is_exact = type(serializers.loads(b"18446744073709551616", Json.mimetype)) is int
            return
        node = urls.parse_url("ElasticsearchStore", url or "", _node, "https://user:password@localhost:9200")
        if api_key is not None and "authorization" in node.headers:
            raise ValueError("Give ElasticsearchStore either an api_key or a user name and password in the url")
        constructor.check_header("ElasticsearchStore", "api_key", api_key)
        self._host = _hosts([node])
        options: Any = {
            "hosts": [node],
            "api_key": api_key,
            "request_timeout": timeout,
            "connections_per_node": _CONNECTIONS,
            "max_retries": 0,
            "retry_on_timeout": False,
        }
        answers: Any = {Json.mimetype: Json()}
        self._clients = Clients(
            "ElasticsearchStore",
            create=lambda: Elasticsearch(**options, serializers=answers, node_class=_Node),
            create_async=lambda: AsyncElasticsearch(**options, serializers={**answers, Lines.mimetype: Lines()}),
            capacity=_capacity,
            peer=Peer(
                node.host,
                node.port,
                node.scheme == "https",
                partial(judge_http, "Elasticsearch"),
                self.tls,
                answers=(ApiError,),
                timeouts=(elastic_transport.ConnectionTimeout,),
            ),
            interruptible=False,  # urllib3 can keep the lock of its pool
        )

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Sequence[Stored | None]:
        return [hit and hit.stored for hit in await self._find(names)]

    async def _find(self, names: Sequence[str], *, with_values: bool = True) -> list[Hit | None]:
        """Return the documents under names; in an index that is not there, there are none."""
        parameters = None if with_values else {"_source_excludes": "value"}
        found: list[Hit | None] = []
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]

            def read(answer: Any, page: Sequence[str] = page) -> list[Hit | None]:
                for hit in answer["docs"]:
                    problem = hit.get("error", {"type": ""})
                    kind: str = problem["type"]
                    if kind not in ("", _NO_INDEX):
                        passes = _PASSING.search(kind) or _PASSING_BLOCK.search(problem.get("reason", ""))
                        raise self._failure(kind, 503 if passes else 400, "a document")
                pairs = zip(page, answer["docs"], strict=True)
                return [Hit.of(name, hit, with_values) if hit.get("found") else None for name, hit in pairs]

            wanted = orjson.dumps({"docs": [address(name) for name in page]})
            found += await self._send_to_shards("/_mget", wanted, read, parameters)
        return found

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> Sequence[KeyValueError | None]:
        results = await self._write_all([CompareAndSet(name, None, entry) for name, entry in rows], compare=False)
        return [result if isinstance(result, KeyValueError) else None for result in results]

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        return [version is not None for version in await self._exchange(changes)]

    async def _exchange(self, changes: Sequence[CompareAndSet]) -> list[str | None]:
        """Make changes, and return the new versions of those that were made."""
        results = await self._write_all(changes, compare=True)
        for result in results:
            if isinstance(result, KeyValueError):
                raise result
        return cast("list[str | None]", results)

    def _pop(self, names: Sequence[str]) -> Awaitable[Sequence[Stored | None]]:
        return self._pop_by_comparing(names, self._read_removable)

    async def _read_removable(self, names: Sequence[str]) -> Sequence[Stored | None]:
        # What py-key-value-aio put where another pair's document belongs is not that pair's.
        found = await self._find(names, with_values=False)
        return [None if hit is None or self._layout.is_old(hit) else hit.stored for hit in found]

    async def _write_all(self, changes: Sequence[CompareAndSet], *, compare: bool) -> list[str | KeyValueError | None]:
        """Make changes, in as many requests as it takes.

        Returns:
            For each change the new version; None if the version that it expects was not there; or the error that kept it from being made.
        """
        sizes = [0 if entry is None else len(entry.json) for _, _, entry in changes]
        for (_, _, entry), size in zip(changes, sizes, strict=True):
            if entry is not None and size > _LARGEST:
                raise ValueTooLargeError(
                    size, _LARGEST, entry.collection, entry.key, limit="Elasticsearch takes 50 million characters in a string"
                )
        for index in {address(name)["_index"] for name, _, entry in changes if entry is not None} - self._there:
            await self._create(index)
        sizes = [
            size if entry is None else size + len(entry.collection.encode()) + len(entry.key.encode())
            for (_, _, entry), size in zip(changes, sizes, strict=True)
        ]
        made: list[str | KeyValueError | None] = []
        start = size = 0
        for end in range(1, len(changes) + 1):
            size += sizes[end - 1]
            if end == len(changes) or end - start == _PAGE or size + sizes[end] > _PAGE_SIZE:
                made += await self._write_some(changes[start:end], size, compare)
                start, size = end, 0
        return made

    async def _write_some(self, changes: Sequence[CompareAndSet], size: int, compare: bool) -> list[str | KeyValueError | None]:
        try:
            results = await self._bulk(changes, size, compare)
        except StoreRefusedError as error:
            if getattr(error.__cause__, "status_code", None) != _TOO_LARGE:
                raise
            entry = changes[0].entry
            if len(changes) == 1 and entry is not None:
                limit = "http.max_content_length of the server, or of a gateway before it, is the limit"
                refused = ValueTooLargeError(len(entry.json), None, entry.collection, entry.key, limit=limit)
                refused.__cause__ = error.__cause__
                return [refused]
            if len(changes) == 1:
                raise
            # The server, or a gateway before it, takes less at a time. It has done nothing of what it refused.
            half = len(changes) // 2
            return [made for part in (changes[:half], changes[half:]) for made in await self._write_some(part, size, compare)]
        unmapped = [number for number, result in enumerate(results) if changes[number].entry is not None and result.lacks_mapping]
        if unmapped:
            for index, is_missing in {(address(changes[number].name)["_index"], results[number].lacks_index) for number in unmapped}:
                await self._map(index, is_missing)
            for number, result in zip(unmapped, await self._bulk([changes[number] for number in unmapped], size, compare), strict=True):
                results[number] = result
        return [self._outcome(result, compare) for result in results]

    def _outcome(self, result: Result, compare: bool) -> str | KeyValueError | None:
        if result.status < 300:
            return result.version
        return None if compare and result.status in (409, 404) else self._failure(result.type, result.status, "a document")

    async def _bulk(self, changes: Sequence[CompareAndSet], size: int, compare: bool) -> list[Result]:
        def lines() -> bytes:
            return b"".join([self._lines(change, compare) for change in changes])

        body = await runtime.run_in_worker(lines) if size > codec.LARGE else lines()
        wanted = ("status", "error.type", "error.reason", "_seq_no", "_primary_term")
        parameters = {"filter_path": ",".join(f"items.*.{field}" for field in wanted)}

        def read(answer: Any) -> list[Result]:
            results = [next(iter(item.values())) for item in answer["items"]]
            return [Result(result["status"], **result.get("error", {}), version=version_in(result)) for result in results]

        return await self._send("POST", "/_bulk", body, read, parameters, repeatable=False)

    def _lines(self, change: CompareAndSet, compare: bool) -> bytes:
        """Return the lines of a bulk request that make a change."""
        name, version, entry = change
        about: dict[str, Any] = address(name)
        if version is not None:
            sequence_number, _, primary_term = version.partition(".")
            about |= {"if_seq_no": int(sequence_number), "if_primary_term": int(primary_term)}
        if entry is None:
            return orjson.dumps({"delete": about}) + b"\n"
        flat = is_flat(entry.json) and (self._is_exact or not codec.may_hold_long_number(entry.json))
        about["dynamic_templates"] = {"key": GUARD} if flat else {"key": GUARD, "value.json": GUARD}
        value = b'{"flattened":%b}' % entry.json if flat else b'{"json":%b}' % orjson.dumps(entry.json.decode())
        document = Entry(entry.collection, entry.key, None, value, entry.created_at, entry.expires_at).document()
        return b"%b\n%b\n" % (orjson.dumps({"create" if compare and version is None else "index": about}), document)

    async def _create(self, index: str) -> None:
        """See that an index is there, and fit for writing."""
        if len(self._there) >= _REMEMBERED:
            self._there.clear()
        path = f"/{quote(index, safe='')}"
        is_new = False
        if self._auto_create:
            try:
                await self._send("PUT", path, orjson.dumps({"mappings": MAPPING}))
                is_new = True
            except StoreRefusedError as error:
                # Who may not create indices may be allowed to write to this one.
                cause = error.__cause__
                if not isinstance(cause, AuthorizationException) and "already exists" not in str(getattr(cause, "body", "")):
                    raise
        elif not await self._is_there(path):
            raise StoreSetupError(f"The index {index!r} does not exist; create it, or leave out auto_create=False")
        if not is_new and self._layout.mixes(index):
            moving = self._moving.setdefault(index, runtime.Once())
            with suppress(StoreRefusedError):  # who may write may not be allowed to search
                await moving.run(lambda: self._take_in(index))
            self._moving.pop(index, None)
        self._there.add(index)

    async def _is_there(self, path: str) -> bool:
        try:
            return bool(await self._send("HEAD", path))
        except StoreRefusedError as error:
            if not isinstance(error.__cause__, AuthorizationException):
                raise
            return True  # who may write to an index need not be allowed to look at it; the write says if there is none

    async def _map(self, index: str, is_missing: bool) -> None:
        """Make an index what it should be: somebody dropped it, or py-key-value-aio made it, so that a field has no mapping."""
        if is_missing and not self._auto_create:
            raise StoreSetupError(f"The index {index!r} does not exist any more; create it, or leave out auto_create=False")
        await self._create(index)
        await self._send("PUT", f"/{quote(index, safe='')}/_mapping", orjson.dumps(MAPPING))

    async def _take_in(self, index: str) -> None:
        """Move the entries to their homes that py-key-value-aio put where those of another collection belong."""
        others = {"filter": {"exists": {"field": "collection"}}, "must_not": {"term": {"collection": index[len(self._prefix) + 1 :]}}}
        search = {"query": {"bool": others}, "size": _PAGE, "_source": {"excludes": ["value"]}}
        async with aclosing(self._search(index, search)) as pages:
            async for page in pages:
                names = [hit.name for hit in page if self._layout.is_old(hit)]
                if names:
                    with runtime.shielded():
                        await self._move(names)

    async def _move(self, names: Sequence[str]) -> None:
        """Move what lies in old places now, unless it is deleted meanwhile.

        A delete that removes something from an old place looks for a copy after that. So only a copy made later can come back, and whoever
        made it sees that the old place is empty, and removes it. A copy that was there already is left alone, and so is the old place: two
        that move the same entry must not both undo it.
        """
        copies: list[CompareAndSet] = []
        olds: list[Hit] = []
        for hit in await self._find(names):
            if hit is None or not self._layout.is_old(hit):
                continue
            with suppress(KeyValueError):  # what can't be read stays
                old = hit.stored.any_entry(*hit.pair)
                entry = Entry(*hit.pair, None, old.json, None, old.expires_at)
                copies.append(CompareAndSet(self._layout.slots(*hit.pair)[0].name, None, entry))
                olds.append(hit)
        versions = await self._exchange(copies) if copies else []
        made = [
            (CompareAndSet(copy.name, version, None), old)
            for copy, version, old in zip(copies, versions, olds, strict=True)
            if version is not None
        ]
        if not made:
            return
        removed = await self._exchange([CompareAndSet(old.name, old.stored.version, None) for _, old in made])
        kept = [(undo, old) for (undo, old), version in zip(made, removed, strict=True) if version is None]
        now = await self._find([old.name for _, old in kept], with_values=False)
        undone = [undo for (undo, _), old in zip(kept, now, strict=True) if old is None or self._layout.is_old(old)]
        if undone:
            await self._exchange(undone)

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        search = {"size": _LISTED, "_source": {"excludes": ["value"]}}
        async with aclosing(self._search(prefix[:-1] or f"{self._prefix}-*", search)) as pages:
            async for page in pages:
                yield [(hit.name, hit.stored) for hit in page]

    async def _search(self, indices: str, what: dict[str, Any]) -> AsyncGenerator[Sequence[Hit], None]:
        path = quote(indices, safe="")
        try:
            await self._send("POST", f"/{path}/_refresh", read=self._whole, parameters=_ALL)
            opened = await self._send_to_shards(f"/{path}/_pit", read=self._whole, parameters={**_ALL, "keep_alive": _KEPT})
        except StoreRefusedError as error:
            if indices.endswith("*") or _NO_INDEX not in str(getattr(error.__cause__, "body", "")):
                raise
            return  # nothing has been put in this collection
        search: dict[str, Any] = {**what, "sort": ["_shard_doc"], "seq_no_primary_term": True, "track_total_hits": False}
        search["pit"] = {"id": opened["id"], "keep_alive": _KEPT}

        def read(answer: Any) -> tuple[str, list[Hit], Any]:
            hits = self._whole(answer)["hits"]["hits"]
            found = [Hit.of(f"{hit['_index']}/{hit['_id']}", hit, "_source" not in what) for hit in hits]
            last = hits[-1]["sort"] if len(hits) == what["size"] else None
            return answer.get("pit_id", search["pit"]["id"]), found, last

        try:
            while True:
                whole = {"allow_partial_search_results": "false"}
                search["pit"]["id"], page, last = await self._send_to_shards("/_search", orjson.dumps(search), read, whole)
                yield page
                if last is None:
                    return
                search["search_after"] = last
        finally:
            with suppress(KeyValueError), runtime.shielded(_ENDING):  # it ends by itself
                await self._send("DELETE", "/_pit", orjson.dumps({"id": search["pit"]["id"]}))

    def _whole(self, answer: Any) -> Any:
        """Return what the server says of many shards, unless some did not do their part."""
        if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
            raise self._failure("partial answer", 503, "some shards")
        return answer

    async def _send_to_shards(
        self,
        path: str,
        body: bytes | None = None,
        read: Callable[[Any], Any] = lambda answer: answer,
        parameters: dict[str, str] | None = None,
    ) -> Any:
        """Send a request that reads; again while an index is being made, of which the server knows already but can't read it yet."""
        pause = _FIRST_PAUSE
        end = runtime.monotonic() + self._patience
        while True:
            try:
                return await self._send("POST", path, body, read, parameters)
            except StoreConnectionError as error:
                why = str(getattr(error.__cause__, "body", error.__cause__))
                if not _STARTING.search(why) or runtime.monotonic() + pause > end:
                    raise
            await runtime.sleep(pause)
            pause *= 2

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        read: Callable[[Any], Any] = lambda answer: answer,
        parameters: dict[str, str] | None = None,
        *,
        repeatable: bool = True,
    ) -> Any:
        """Send a request, and return what a function makes of the answer."""
        headers = _NDJSON if path == "/_bulk" else _JSON

        def send(client: Any) -> Any:
            return client.perform_request(method, path, params=parameters, headers=headers, body=body)

        answer = (await self._use(send, repeatable=repeatable)).body
        try:
            return await runtime.run_in_worker(lambda: read(decoded(answer))) if type(answer) is bytes else read(answer)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            problem = self._error(StoreRefusedError, "the answer is not one of Elasticsearch; does a proxy give it?", error)
        raise problem  # without the cause, which may quote the answer

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return isinstance(error, elastic_transport.ConnectionError)

    def _failure(self, kind: str, status: int, what: str) -> KeyValueStoreError:
        """Make the error to raise for what the server says of a part of a request. Its reason is left out: it may quote the value."""
        error = ItemError(kind)
        if status in _UNAVAILABLE:
            raised: KeyValueStoreError = self._error(StoreConnectionError, f"{_BUSY}, for {what} ({kind})", error)
        else:
            advice = _advice_on(kind)
            raised = self._error(StoreRefusedError, f"the server refused {what} ({kind}){advice and f': {advice}'}", error)
        raised.__cause__ = error
        return raised


def _node(url: str) -> elastic_transport.NodeConfig | None:
    try:
        node = url_to_node_config(url, use_default_ports_for_scheme=True)
    except ValueError:  # its message would quote the password
        return None
    return node if node.scheme in ("http", "https") else None


def _capacity(client: Any) -> int:
    """Return how many connections a client has to a node."""
    return min(node.config.connections_per_node for node in client.transport.node_pool.all())


def _hosts(nodes: Sequence[elastic_transport.NodeConfig]) -> str:
    return ", ".join(f"{node.host}:{node.port}" for node in nodes)
