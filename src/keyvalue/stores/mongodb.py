"""A store in MongoDB, over pymongo."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from keyvalue._core import clock, codec, constructor, runtime
from keyvalue._core.clients import Clients
from keyvalue._core.entry import Entry
from keyvalue._core.error_rules import ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.layout import digest_of
from keyvalue._core.legacy import sanitization
from keyvalue._core.listing import EnumerableStore, ListedEntry
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueError
from keyvalue.stores._drivers import mongodb as driver
from keyvalue.stores._drivers import mongodb_client as clients
from keyvalue.stores._drivers import mongodb_errors as driver_errors
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls
from keyvalue.stores._legacy import mongodb as legacy

with needs("mongodb"):
    from pymongo import AsyncMongoClient, MongoClient, ReplaceOne
    from pymongo.errors import AutoReconnect, ConnectionFailure

__all__ = ["MongoDBStore", "MongoDBV1CollectionSanitizationStrategy"]


class MongoDBV1CollectionSanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """The names of collections as letters, digits and `_` of ASCII, at most 200; what is changed gets 8 digits of a SHA-256."""

    def __init__(self) -> None:
        super().__init__(max_length=200, allowed_characters=sanitization.ALPHANUMERIC + "_")


_TLS = TlsOptions("write ?tls=true in the URL", "leave out tls=true", "name the file with its certificate by tlsCAFile in the URL")


class MongoDBStore(EnumerableStore):
    """Keeps entries in a database of MongoDB (4.4 or later), each collection in one of the same name.

    Format: one document an entry, with these fields:

    - `_id`: `~` and the SHA-256 in hexadecimal of `<characters in the collection>:<collection>:<key>`, so that there is one document for a
      pair, however many put it first. py-key-value-aio leaves it to MongoDB; its documents are found by `collection` and `key` where
      no document has that `_id`, and a put keeps them. If both libraries make one at the same moment there are two: puts and gets
      then mean the one with that `_id`, and a delete leaves none;
    - `collection` and `key`: the names as the caller gave them;
    - `version`: 1;
    - `created_at` and, if the entry expires, `expires_at`: dates, the latter rounded up to a millisecond;
    - `value.object`: the value as a document; or its JSON text as a string where a document would not hold it exactly: for keys that
      start with `$`, integers beyond 32 bits, more than 90 levels;
    - `value.deadline`: the exact `expires_at`, in seconds since the epoch.

    A collection that can't have its name in MongoDB is named by `~` and its SHA-256. Collections are made, and have indexes on `key` and
    `expires_at` made, when they are first written to. The latter lets the server remove what has expired, and covers nothing but entries.

    On asyncio the store awaits pymongo's asynchronous client, one for each event loop; on trio it calls the synchronous one in
    worker threads, and in synchronous code directly.

    Args:
        client: A client to use, which is never closed. A synchronous one works on every runtime; an asynchronous one only on the event loop
            where it is first used.
        url: `mongodb://` or `mongodb+srv://`, with all options that pymongo takes; instead of a client. Default: this machine's server.
        db_name: The database. Default "kv-store-adapter".
        coll_name: Not used; py-key-value-aio has it.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        collection_sanitization_strategy: What names the collections in MongoDB: an object with `sanitize(collection)`. Default: the
            collection itself.
        auto_create: Whether to make collections and indexes. If not, a put to a collection that is not there is an error. Default True.
        timeout: Seconds that a call waits for the server at most, unless the URL says otherwise. Default 5.

    Raises:
        ValueError: Both a client and a URL, the URL can't be parsed, no database can have that name, writes would not be acknowledged
            (`w=0`), or the timeout is not positive.
        TypeError: The client is not one of pymongo.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = advise_on_tls(_TLS, driver_errors.ERRORS)

    @constructor.check_types
    def __init__(
        self,
        *,
        client: MongoClient[Any] | AsyncMongoClient[Any] | None = None,
        url: str | None = None,
        db_name: str | None = None,
        coll_name: str | None = None,
        default_collection: str | None = None,
        collection_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        auto_create: bool = True,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(default_collection=default_collection)
        if client is not None and url is not None:
            raise ValueError("Give MongoDBStore either a client or a url")
        constructor.check_seconds(timeout, "timeout")
        database = clients.check_database(db_name or "kv-store-adapter")
        sanitize = sanitization.namer(collection_sanitization_strategy, "collection_sanitization_strategy")
        self._name = lru_cache(5000)(partial(driver.name_collection, database, sanitize))
        self._collections = clients.Collections(auto_create)
        common: dict[str, Any] = {
            "shield_reads": True,  # cancelled while it connects, pymongo leaves the socket open
            "capacity": clients.Database.capacity,
            "interruptible": False,  # its locks and its C code don't bear it
        }
        if client is None:
            url = url and url.replace("#", "%23")  # pymongo takes it for a part of the password, other parsers for the end of the host
            options = clients.default_options(url, timeout)
            self._host = "localhost:27017" if url is None else urlsplit(url).netloc.rpartition("@")[2]
            self._clients = Clients(
                "MongoDBStore",
                create=lambda: clients.connect(MongoClient, url, database, _TLS, connect=False, **options),
                create_async=lambda: clients.connect(AsyncMongoClient, url, database, _TLS, **options),
                peer=clients.find_peer(url, _TLS),
                **common,
            )
        else:
            self._clients = Clients.borrow(
                "MongoDBStore",
                client,
                sync_types=(MongoClient,),
                async_types=(AsyncMongoClient,),
                wanted="a MongoClient or an AsyncMongoClient",
                wrap=lambda client: clients.borrow_database(client, database),
                **common,
            )

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        name = self._name(collection)
        entries: dict[str, Entry] = {}
        for batch in driver.split_keys(collection, keys):
            ids = [digest_of(collection, key) for key in batch]
            query = {"_id": ids[0] if len(ids) == 1 else {"$in": ids}}
            entries |= await self._find(driver.read_entries, name, query, collection, batch)
            now = clock.now()
            others = [key for key in batch if (entry := entries.get(key)) is None or not entry.is_live(now)]
            if others:
                entries |= await self._find(legacy.read_entries, name, driver.match_pairs(collection, others), collection, others)
        return [entries.get(key) for key in keys]

    async def _find(
        self, read: Callable[..., dict[str, Entry]], name: str, query: driver.Fields, collection: str, keys: Sequence[str]
    ) -> dict[str, Entry]:
        found = await self._use(lambda database: database.find(name, query, len(keys)), repeatable=True)
        is_large = sum(len(document.raw) for document in found) > codec.LARGE
        return await runtime.run_in_worker(lambda: read(found, collection, keys)) if is_large else read(found, collection, keys)

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        """Put entries into the documents that have their pair's `_id`, or, if there are none, into those of their key.

        An update by key alone would do for both, but takes 15 % longer than one by `_id`, of many entries three times as long, and reads
        the whole collection if there is no index.
        """
        name = self._name(collection)
        is_large = sum(len(entry.json) for entry in entries) > codec.LARGE
        documents = await runtime.run_in_worker(lambda: driver.encode_entries(entries)) if is_large else driver.encode_entries(entries)
        await self._collections.prepare(self._use, name)
        if len(documents) > 1:
            return await self._put_many(name, collection, documents)
        document_id, fields = documents[0]
        result = await self._use(lambda database: database[name].replace_one({"_id": document_id}, fields))
        if not result.matched_count:
            await legacy.put_by_key(self._use, name, document_id, fields)
        return None

    async def _put_many(self, name: str, collection: str, documents: legacy.Documents) -> Sequence[KeyValueError | None]:
        write = partial(clients.write_many, self._use, self._translate_error)
        matched, outcomes = await write(name, [ReplaceOne({"_id": document_id}, fields) for document_id, fields in documents])
        left = [index for index, outcome in enumerate(outcomes) if outcome is None]
        if matched < len(left):
            rest = await legacy.put_missing(self._use, write, name, collection, [documents[index] for index in left])
            for index, outcome in zip(left, rest, strict=True):
                outcomes[index] = outcome
        return outcomes

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        """Delete, and say which keys held a live entry: of several, the server only says how many, so the first ones stand for these."""
        name = self._name(collection)
        expired = driver.match_expired(clock.now())
        there: set[str] = set()
        for batch in driver.split_keys(collection, keys):
            pairs = driver.match_pairs(collection, batch)
            result = await self._use(lambda database, pairs=pairs: database[name].delete_many({**pairs, "$nor": expired}))
            count = min(result.deleted_count, len(batch))
            if count < len(batch):
                await self._use(lambda database, pairs=pairs: database[name].delete_many({**pairs, "$or": expired}))
            there.update(batch[:count])
        return [key in there for key in keys]

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[ListedEntry], None]:
        for name in await self._collections.list_names(self._use) if collection is None else [self._name(collection)]:
            listing = clients.Listing(name, driver.match_entries(collection), driver.ROW_FIELDS)
            while page := await self._use(listing.read_page):
                rows = [driver.read_row(document) for document in page]
                yield [row for row in rows if row is not None and self._name(row.collection) == name]

    async def _cull(self, now: float) -> None:
        query = {**driver.match_entries(None), "$or": driver.match_expired(now)}
        for name in await self._collections.list_names(self._use):
            await self._use(lambda database, name=name: database[name].delete_many(query))

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return isinstance(error, AutoReconnect) and not error.timeout

    def _on_error(self, error: Exception) -> None:
        driver_errors.forget_values(error)
        if isinstance(error, ConnectionFailure):
            self._collections.forget()
