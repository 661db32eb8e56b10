"""The requests that ElasticsearchStore makes, and the indices that it makes them about."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import orjson

from keyvalue._core import codec, runtime
from keyvalue._core.entry import CompareAndSet
from keyvalue.errors import KeyValueError, KeyValueStoreError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores._drivers import elasticsearch_errors as errors
from keyvalue.stores._drivers.batches import split_chunks
from keyvalue.stores._drivers.elasticsearch import (
    GUARD,
    LARGEST,
    MAPPING,
    PAGE,
    Hit,
    address,
    encode_change,
    read_version,
    size_of,
    split_changes,
)

_ENDING = 1.0  # seconds that the end of a search may take
_KEPT = "1m"  # how long a search stays open between two pages
_REMEMBERED = 10_000  # indices that are known to be there

_JSON = {"accept": "application/json", "content-type": "application/json"}
_NDJSON = {"accept": "application/json", "content-type": "application/x-ndjson"}
# A pattern means hidden indices too, and closed ones, so that these are refused rather than left out.
_ALL = {"ignore_unavailable": "false", "allow_no_indices": "true", "expand_wildcards": "open,closed,hidden"}
_RESULTS = ",".join(f"items.*.{field}" for field in ("status", "error.type", "error.reason", "_seq_no", "_primary_term"))

_TOO_LONG = re.compile(r"failed to parse field \[(key|collection)\] of type \[keyword\]|immense term in field=\"(key|collection)\"")

Fail = Callable[[errors.ItemError], KeyValueStoreError]
"""Returns the error to raise for one that an answer holds."""


def _keep(answer: Any, fail: Fail) -> Any:
    return answer


class Request(NamedTuple):
    """A request, and what its answer means.

    Attributes:
        method: The method of HTTP.
        path: The path.
        body: The body, as JSON text.
        parameters: The parameters of the URL.
        read: Returns what the answer means.
        needs_shards: Whether the server can't answer as long as an index is being created.
        repeatable: Whether the server may get it twice.
    """

    method: str
    path: str
    body: bytes | None = None
    parameters: Mapping[str, str] | None = None
    read: Callable[[Any, Fail], Any] = _keep
    needs_shards: bool = False
    repeatable: bool = True

    def send(self, client: Any) -> Any:
        """Send the request by a client of either kind."""
        headers = _NDJSON if self.path == "/_bulk" else _JSON
        return client.perform_request(self.method, self.path, params=self.parameters, headers=headers, body=self.body)


Send = Callable[[Request], Awaitable[Any]]
"""Sends a request, and returns what its answer means."""


# Reading


async def find(send: Send, names: Sequence[str], *, with_values: bool = True) -> list[Hit | None]:
    """Return the documents under names, None for each that is missing, as is every one of a missing index."""
    return [hit for page in split_chunks(names, PAGE) for hit in await send(_find_page(page, with_values))]


def _find_page(names: Sequence[str], with_values: bool) -> Request:
    def read(answer: Any, fail: Fail) -> list[Hit | None]:
        for hit in answer["docs"]:
            problem = hit.get("error")
            if problem is not None and problem["type"] != errors.NO_INDEX:
                raise fail(errors.ItemError(problem["type"], 503 if errors.passes(problem["type"], problem.get("reason", "")) else 400))
        pairs = zip(names, answer["docs"], strict=True)
        return [Hit.of(name, hit, with_values) if hit.get("found") else None for name, hit in pairs]

    wanted = orjson.dumps({"docs": [address(name) for name in names]})
    return Request("POST", "/_mget", wanted, None if with_values else {"_source_excludes": "value"}, read, needs_shards=True)


async def search(send: Send, indices: str, size: int, query: Mapping[str, Any] | None = None) -> AsyncGenerator[Sequence[Hit], None]:
    """Yield all documents of some indices as they are now, without their values, page by page.

    Args:
        send: Sends a request.
        indices: The name of an index, which may be missing, or a pattern.
        size: How many documents a page has.
        query: Which documents to yield. Default: all.
    """
    path = quote(indices, safe="")
    try:
        await send(Request("POST", f"/{path}/_refresh", None, _ALL, _check_whole))
        opened = await send(Request("POST", f"/{path}/_pit", None, {**_ALL, "keep_alive": _KEPT}, _check_whole, needs_shards=True))
    except StoreRefusedError as error:
        if indices.endswith("*") or not errors.lacks_index(error.__cause__):
            raise
        return  # nothing has been put in this collection
    body: dict[str, Any] = {
        **({} if query is None else {"query": query}),
        "pit": {"id": opened["id"], "keep_alive": _KEPT},
        "size": size,
        "sort": ["_shard_doc"],
        "_source": {"excludes": ["value"]},
        "seq_no_primary_term": True,
        "track_total_hits": False,
    }
    whole = {"allow_partial_search_results": "false"}
    try:
        while True:
            request = Request("POST", "/_search", orjson.dumps(body), whole, _read_page, needs_shards=True)
            hits, pit_id, body["search_after"] = await send(request)
            body["pit"]["id"] = pit_id or body["pit"]["id"]
            yield hits
            if len(hits) < size:
                return
    finally:
        with suppress(KeyValueError), runtime.shielded(_ENDING):  # it ends by itself
            await send(Request("DELETE", "/_pit", orjson.dumps({"id": body["pit"]["id"]})))


def _read_page(answer: Any, fail: Fail) -> tuple[list[Hit], str | None, Any]:
    """Return the documents of a page, the new name of the search, if it has one, and where the next page begins."""
    hits = _check_whole(answer, fail)["hits"]["hits"]
    found = [Hit.of(f"{hit['_index']}/{hit['_id']}", hit, with_value=False) for hit in hits]
    return found, answer.get("pit_id"), hits[-1]["sort"] if hits else None


def _check_whole(answer: Any, fail: Fail) -> Any:
    """Return what the server says of many shards, unless some did not do their part."""
    if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
        raise fail(errors.ItemError("partial answer", 503, "some shards"))
    return answer


# Writing


class _Result(NamedTuple):
    """What became of a change.

    Attributes:
        outcome: The new version; None if the version that it expects was not there; or the error that kept it from being made.
        kind: What the server calls its error.
        reason: What it says of it.
    """

    outcome: str | KeyValueError | None
    kind: str = ""
    reason: str = ""

    @classmethod
    def of(cls, result: dict[str, Any], compare: bool, fail: Fail) -> _Result:
        """Read an item of the answer to a bulk request."""
        status: int = result["status"]
        if status < 300:
            return cls(read_version(result))
        kind, reason = result["error"]["type"], result["error"]["reason"]
        return cls(None if compare and status in (404, 409) else fail(errors.ItemError(kind, status)), kind, reason)

    @property
    def lacks_index(self) -> bool:
        """Whether there was no index; the server may have made one by guess now."""
        return self.kind == errors.NO_INDEX or f"[{GUARD}] of field [key]" in self.reason

    @property
    def lacks_mapping(self) -> bool:
        """Whether the change would be made if its index were what it should be."""
        return self.lacks_index or f"[{GUARD}]" in self.reason or _TOO_LONG.search(self.reason) is not None


class Indices:
    """The indices that entries are written to. They are created when they are first needed, and again when they were dropped.

    Args:
        auto_create: Whether to create them. If not, a write to one that is missing is an error.
        keeps_integers: Whether the client decodes large integers exactly.
        clear: Called before the first write to an index that was there already, to move away what does not belong there.
    """

    def __init__(self, auto_create: bool, keeps_integers: bool, clear: Callable[[Send, Indices, str], Awaitable[None]]) -> None:
        self._auto_create = auto_create
        self._keeps_integers = keeps_integers
        self._clear = clear
        self._known: set[str] = set()

    async def exchange(self, send: Send, changes: Sequence[CompareAndSet]) -> list[str | None]:
        """Make each change if its name has the expected version; return the new version, or None if it was not made."""
        outcomes = await self.write(send, changes, compare=True)
        for outcome in outcomes:
            if isinstance(outcome, KeyValueError):
                raise outcome
        return cast("list[str | None]", outcomes)

    async def write(self, send: Send, changes: Sequence[CompareAndSet], *, compare: bool) -> list[str | KeyValueError | None]:
        """Make changes, in as many requests as it takes.

        Args:
            send: Sends a request.
            changes: The changes.
            compare: Whether to compare versions. If not, entries replace whatever is there.

        Returns:
            For each change the new version; None if the version that it expects was not there; or the error that kept it from being made.
        """
        for _, _, entry in changes:
            if entry is not None and len(entry.json) > LARGEST:
                limit = "Elasticsearch takes 50 million characters in a string"
                raise ValueTooLargeError(len(entry.json), LARGEST, entry.collection, entry.key, limit=limit)
        for index in {address(name)["_index"] for name, _, entry in changes if entry is not None} - self._known:
            await self._prepare(send, index)
        return [outcome for batch in split_changes(changes) for outcome in await self._write_batch(send, batch, compare)]

    async def _write_batch(self, send: Send, changes: Sequence[CompareAndSet], compare: bool) -> list[str | KeyValueError | None]:
        try:
            results = await self._bulk(send, changes, compare)
        except StoreRefusedError as error:
            if not errors.is_too_large(error.__cause__):
                raise
            if len(changes) > 1:  # nothing was done of what was refused, and a part may be small enough
                half = len(changes) // 2
                return [made for part in (changes[:half], changes[half:]) for made in await self._write_batch(send, part, compare)]
            entry = changes[0].entry
            if entry is None:
                raise
            limit = "http.max_content_length of the server, or of a gateway before it, is the limit"
            refused = ValueTooLargeError(len(entry.json), None, entry.collection, entry.key, limit=limit)
            refused.__cause__ = error.__cause__
            return [refused]
        unmapped = [number for number, result in enumerate(results) if changes[number].entry is not None and result.lacks_mapping]
        if unmapped:
            for index, is_missing in {(address(changes[number].name)["_index"], results[number].lacks_index) for number in unmapped}:
                await self._repair(send, index, is_missing)
            again = await self._bulk(send, [changes[number] for number in unmapped], compare)
            for number, result in zip(unmapped, again, strict=True):
                results[number] = result
        return [result.outcome for result in results]

    async def _bulk(self, send: Send, changes: Sequence[CompareAndSet], compare: bool) -> list[_Result]:
        def encode() -> bytes:
            return b"".join([encode_change(change, compare, self._keeps_integers) for change in changes])

        def read(answer: Any, fail: Fail) -> list[_Result]:
            return [_Result.of(next(iter(item.values())), compare, fail) for item in answer["items"]]

        body = await runtime.run_in_worker(encode) if sum(map(size_of, changes)) > codec.LARGE else encode()
        return await send(Request("POST", "/_bulk", body, {"filter_path": _RESULTS}, read, repeatable=False))

    async def _prepare(self, send: Send, index: str) -> None:
        """See that an index is there, and fit for writing."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        path, was_there = _path(index), not self._auto_create
        try:
            if self._auto_create:
                await send(Request("PUT", path, orjson.dumps({"mappings": MAPPING})))
            elif not await send(Request("HEAD", path)):
                raise StoreSetupError(f"The index {index!r} does not exist; create it, or leave out auto_create=False")
        except StoreRefusedError as error:
            if not errors.may_exist(error.__cause__):
                raise
            was_there = True  # or else the write says that the index is missing
        if was_there:
            await self._clear(send, self, index)
        self._known.add(index)

    async def _repair(self, send: Send, index: str, is_missing: bool) -> None:
        """Make an index what it should be: it was dropped, or py-key-value-aio created it, so that a field has no mapping."""
        if is_missing and not self._auto_create:
            raise StoreSetupError(f"The index {index!r} does not exist any more; create it, or leave out auto_create=False")
        await self._prepare(send, index)
        await send(Request("PUT", f"{_path(index)}/_mapping", orjson.dumps(MAPPING)))


def _path(index: str) -> str:
    return f"/{quote(index, safe='')}"
