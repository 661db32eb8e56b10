"""A store in MongoDB, over pymongo."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from keyvalue._core import arguments, clock, codec, runtime
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.error_rules import ErrorRule
from keyvalue._core.extras import needs
from keyvalue._core.layout import digest, digest_of
from keyvalue._core.legacy import sanitization
from keyvalue._core.listing import EnumerableStore, ListedEntry
from keyvalue._core.sockets import Peer, TlsOptions, stranger, tls_problem
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueStoreError, StoreClosedError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._mongodb import (
    HEAD,
    MAX_SIZE,
    OVERHEAD,
    RAW,
    Fields,
    documents,
    entries_in,
    entries_of,
    expired,
    foreign_in,
    pairs_in,
    row_of,
    surplus,
)

with needs("mongodb"):
    from bson.errors import BSONError
    from pymongo import AsyncMongoClient, IndexModel, MongoClient, ReplaceOne, UpdateMany, errors
    from pymongo.uri_parser import parse_uri

__all__ = ["MongoDBStore", "MongoDBV1CollectionSanitizationStrategy"]

_DATABASE = "kv-store-adapter"
_PAGE = 500
_KEPT = 5000  # things that are remembered of each kind
_LATELY = 60.0  # seconds for which collections are taken to be as they were found
_TIMEOUTS = ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS")
_BATCH = 2**23  # bytes of keys in one command
_PLACES = 50_000  # `_id` in one command
_DUPLICATE = 11000
_INVALID = 121  # what the server calls DocumentValidationFailure
_CONFLICTS = (85, 86)  # what the server calls IndexOptionsConflict and IndexKeySpecsConflict
_UNAUTHORIZED = 13  # what the server calls it
_UNAUTHENTICATED = 18  # what it calls AuthenticationFailed
_ATLAS = 8000  # what Atlas calls AtlasError: missing rights, but also a used-up quota
_ATLAS_DENIAL = re.compile("not allowed|not authorized|bad auth|authentication failed", re.IGNORECASE)
# What the server says of what passes by itself, unless pymongo takes it for a lost connection: HostUnreachable, HostNotFound, LockTimeout,
# LockBusy, StaleShardVersion, NetworkTimeout, WriteConflict, FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet, StaleEpoch,
# NetworkInterfaceExceededTimeLimit, ExceededTimeLimit, TemporarilyUnavailable, rate limits, SocketException, Interrupted, StaleConfig.
_PASSING = {6, 7, 24, 46, 63, 89, 112, 133, 134, 150, 202, 262, 365, 433, 462, 9001, 11601, 13388}
_SHED = ("RetryableError", "RetryableWriteError", "SystemOverloadedError")  # likewise, its labels
_TOLD = frozenset({"ok", "code", "codeName", "errorLabels", "n", "nInserted", "nUpserted", "nMatched", "nModified", "nRemoved"})
"""What of the server's answer to a refused write an error keeps: all else may quote the value."""
_DENIAL = "Authentication failed"  # for a while, what pymongo says of a server after that
_UNACKNOWLEDGED = "MongoDBStore needs writes to be acknowledged, because it must know what they did; leave out w=0"
_UNUSABLE = re.compile(r"[$\0]|\.\.|^\.|\.$|^system\.|\.system\.|^~[0-9a-f]{64}$|^$")
_INDEXES = [
    IndexModel("key"),
    IndexModel("expires_at", name="keyvalue_expires_at", expireAfterSeconds=0, partialFilterExpression={"value.object": {"$exists": True}}),
]


class MongoDBV1CollectionSanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """The names of collections as letters, digits and `_` of ASCII, at most 200; what is changed gets 8 digits of a SHA-256."""

    def __init__(self) -> None:
        super().__init__(max_length=200, allowed_characters=sanitization.ALPHANUMERIC + "_")


class _Database:
    """The collections of a database. Making the client's object of one takes long, so they are kept."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self._collections: dict[str, Any] = {}

    def close(self) -> Any:
        return self.database.client.close()

    def __getitem__(self, name: str) -> Any:
        collection = self._collections.get(name)
        if collection is None:
            if len(self._collections) >= _KEPT:
                self._collections.clear()
            collection = self._collections[name] = self.database[name]
        return collection


class _Written(NamedTuple):
    """What came of many writes.

    Attributes:
        late: Which of them failed because another had made the document meanwhile.
        new: Which of them made one, or may have: all, if they had to be sent again.
        found: How many documents the others are in.
    """

    late: Sequence[int]
    new: Sequence[int]
    found: int


class MongoDBStore(EnumerableStore):
    """Keeps entries in a database of MongoDB (4.4 or later), each collection in one of the same name.

    Format: one document an entry, with these fields:

    - `_id`: `~` and the SHA-256 in hexadecimal of `<characters in the collection>:<collection>:<key>`, so that there is one document for a
      pair, however many put it first. py-key-value-aio leaves it to MongoDB; its documents are found by `collection` and `key` where
      there is none with that `_id`; a `put` keeps them, a `put_many` takes their place. If both libraries make one at the same moment
      there are two: puts and gets then mean the one with that `_id`, and a delete leaves none;
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
        client: A client to use, of either colour. It is never closed. A synchronous one works on every runtime; an asynchronous one only
            on the event loop where it is first used.
        url: `mongodb://` or `mongodb+srv://`, with all options that pymongo takes; instead of a client. Default: this machine's server.
        db_name: The database. Default "kv-store-adapter".
        coll_name: Not used; py-key-value-aio has it.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
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
    tls: ClassVar[TlsOptions] = TlsOptions(
        "write ?tls=true in the URL", "leave out tls=true", "name the file with its certificate by tlsCAFile in the URL"
    )
    errors = (
        ErrorRule(
            errors.ServerSelectionTimeoutError,
            StoreConnectionError,
            "could not reach the server; is it running, and are host and port right?",
        ),
        ErrorRule(
            errors.WaitQueueTimeoutError,
            StoreConnectionError,
            "all connections of the client are taken; something else uses it too, so give it a larger maxPoolSize",
        ),
        ErrorRule(errors.ConnectionFailure, StoreConnectionError, "the connection was lost"),
        ErrorRule(errors.CursorNotFound, StoreConnectionError, "the server forgot how far the listing had come"),
        ErrorRule(errors.OperationFailure, StoreRefusedError, "the server refused the command"),
        ErrorRule(errors.ConfigurationError, StoreRefusedError, "the client can't work with these options"),
        ErrorRule(errors.PyMongoError, StoreRefusedError, "the client refused"),
        ErrorRule(BSONError, StoreRefusedError, "the client refused"),
    )

    @arguments.checked
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
        arguments.seconds(timeout, "timeout")
        database = db_name or _DATABASE
        if re.search(r'[ ./\\"$\0]', database):
            raise ValueError('No database of MongoDB can have that name; leave out spaces and the characters . / \\ " $')
        namer = sanitization.namer(collection_sanitization_strategy, "collection_sanitization_strategy")
        self._name = lru_cache(_KEPT)(partial(_name, database, namer))
        self._auto_create = auto_create
        self._checked: dict[str, runtime.Once] = {}
        self._unswept: set[tuple[str, str]] = set()  # pairs that py-key-value-aio may have, beside a document of their own
        self._since = time.monotonic()
        if client is not None:
            if isinstance(client, AsyncMongoClient):
                self._client = Client(
                    "MongoDBStore",
                    given_async=_Database(client.get_database(database, RAW)),
                    limit_owner=client,
                    shielded=True,
                    capacity=_capacity,
                )
            elif isinstance(client, MongoClient):
                self._client = Client(
                    "MongoDBStore",
                    given=_Database(client.get_database(database, RAW)),
                    limit_owner=client,
                    capacity=_capacity,
                    interruptible=False,
                )
            else:
                raise TypeError(f"The client must be a MongoClient or an AsyncMongoClient, not {arguments.article(client)}")
            if not client.write_concern.acknowledged:
                raise ValueError(_UNACKNOWLEDGED)
            return
        url = url and url.replace("#", "%23")  # pymongo takes it for a part of the password, other parsers for the end of the host
        options = _options(url, timeout)
        self._host = "localhost:27017" if url is None else urlsplit(url).netloc.rpartition("@")[2]

        def make(kind: Any = MongoClient, **more: Any) -> _Database:
            try:
                return _Database(kind(url, **more, **options).get_database(database, RAW))
            except (OSError, errors.ConfigurationError) as error:
                reason = tls_problem(error, self.tls) or (f"TLS: {error.strerror}" if isinstance(error, OSError) else None)
                if reason is None:
                    raise
                given = _given(url or "") or {}
                files = [f"{option}={given[option]!r}" for option in ("tlscafile", "tlscertificatekeyfile") if option in given]
                raise StoreSetupError(f"MongoDBStore: {reason} ({', '.join(files)})") from error

        self._client = Client(
            "MongoDBStore",
            make=lambda: make(connect=False),  # what goes wrong in connecting is mapped in use
            make_async=lambda: make(AsyncMongoClient),
            peer=None if url is None else _peer(url, self.tls),
            shielded=True,  # cancelled while it connects, pymongo leaves the socket open
            capacity=_capacity,
            interruptible=False,  # its locks and its C code don't bear it
        )

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        name = self._name(collection)
        places = [digest_of(collection, key) for key in keys]
        found: list[Any] = []
        for start in range(0, len(places), _PLACES):
            batch = places[start : start + _PLACES]
            found += await self._find(name, {"_id": batch[0] if len(places) == 1 else {"$in": batch}}, len(batch))
        entries = await self._entries(found, collection, keys)
        now = clock.now()
        others = [key for key in keys if (entry := entries.get(key)) is None or not entry.is_live(now)]
        if others:  # it is not there, or in a document of py-key-value-aio
            found = []
            for batch in _batches(collection, others):
                found += await self._find(name, pairs_in(collection, batch), len(batch))
            entries |= await self._entries(found, collection, others)
        return [entries.get(key) for key in keys]

    @staticmethod
    async def _entries(found: Sequence[Any], collection: str, keys: Sequence[str]) -> dict[str, Entry]:
        is_large = sum(len(document.raw) for document in found) > codec.LARGE
        return await runtime.run_in_worker(lambda: entries_of(found, collection, keys)) if is_large else entries_of(found, collection, keys)

    async def _find(self, name: str, query: Fields, most: int, fields: Fields | None = None) -> list[Any]:
        size = most + 1  # one more, so that the server need not be asked whether that was all
        return await self._use(lambda database: database[name].find(query, fields, batch_size=size).to_list(), repeatable=True)

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        name = self._name(collection)
        is_large = sum(len(entry.json) for entry in entries) > codec.LARGE
        made = await runtime.run_in_worker(lambda: documents(entries)) if is_large else documents(entries)
        await self._check(name)
        theirs = await self._put_by_place(name, collection, made)
        late, is_sure = await self._put_by_key(name, theirs) if theirs else ((), True)
        for place, fields in late:
            await self._use(lambda database, place=place, fields=fields: database[name].replace_one({"_id": place}, fields, upsert=True))
        if not is_sure:
            await self._leave_one(collection, [fields["key"] for _, fields in theirs])

    async def _put_by_place(self, name: str, collection: str, made: Sequence[tuple[str, Fields]]) -> Sequence[tuple[str, Fields]]:
        """Put entries into the documents that have their `_id`, which is the quickest.

        Those of py-key-value-aio, whose `_id` is another, are looked for only where an entry has none of its own yet.

        Returns:
            Those that may have other documents: of py-key-value-aio, or of another put that was quicker.
        """
        if len(made) == 1:
            place, fields = made[0]
            result = await self._use(lambda database: database[name].replace_one({"_id": place}, fields))
            return () if result.matched_count else made
        keys = {(collection, fields["key"]) for _, fields in made}
        before = keys & self._unswept
        self._unswept |= keys  # in case that it fails or is cancelled
        said = await self._write_many(name, [ReplaceOne({"_id": place}, fields, upsert=True) for place, fields in made])
        late = {made[index][1]["key"] for index in said.late}
        new = {made[index][1]["key"] for index in said.new} | {key for _, key in before}
        for batch in _batches(collection, sorted(new - late)):  # what is late has not been put yet
            query = foreign_in(collection, batch)
            await self._use(lambda database, query=query: database[name].delete_many(query))
        self._unswept -= keys
        if len(self._unswept) > _KEPT:
            self._unswept.clear()
        return [made[index] for index in said.late]

    async def _put_by_key(self, name: str, made: Sequence[tuple[str, Fields]]) -> tuple[Sequence[tuple[str, Fields]], bool]:
        """Put entries into whatever documents hold their keys.

        Returns:
            Those for which another put was quicker in making the document; and whether there is just one document for each entry.
        """
        updates = [_update(place, fields) for place, fields in made]
        if len(updates) > 1:
            said = await self._write_many(name, [UpdateMany(*update, upsert=True) for update in updates])
            return [made[index] for index in said.late], not said.late and said.found <= len(made)
        try:
            result = await self._use(lambda database: database[name].update_many(*updates[0], upsert=True))
        except StoreRefusedError as error:
            if not isinstance(error.__cause__, errors.DuplicateKeyError):
                raise
            return made, False
        return (), result.matched_count <= 1

    async def _write_many(self, name: str, models: Sequence[Any]) -> _Written:
        """Make many writes, each of which makes a document if it finds none."""
        calls: list[object] = []

        def write(database: Any) -> Any:
            calls.append(database)
            return database[name].bulk_write(models, ordered=False)

        late: Sequence[int] = ()
        try:
            result = await self._use(write)
            new, matched = list(result.upserted_ids), result.matched_count
        except StoreRefusedError as error:
            cause = error.__cause__
            if not isinstance(cause, errors.BulkWriteError) or cause.details["writeConcernErrors"]:
                raise
            failed: list[Any] = cause.details["writeErrors"]
            if any(one.get("code") != _DUPLICATE for one in failed):
                raise
            late = [one["index"] for one in failed]
            new, matched = [one["index"] for one in cause.details["upserted"]], cause.details["nMatched"]
        return _Written(late, new if len(calls) == 1 else range(len(models)), len(new) + matched)

    async def _leave_one(self, collection: str, keys: Sequence[str]) -> None:
        """Delete all documents but one of each key. They hold the same, as all were put into."""
        name = self._name(collection)
        for batch in _batches(collection, keys):
            places = surplus(await self._find(name, pairs_in(collection, batch), len(batch), {"key": 1}), collection)
            if places:
                query = {**pairs_in(collection, batch), "_id": {"$in": places}}
                await self._use(lambda database, query=query: database[name].delete_many(query))

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        name = self._name(collection)
        gone = expired(clock.now())
        count = 0
        for batch in _batches(collection, keys):
            theirs = pairs_in(collection, batch)
            result = await self._use(lambda database, theirs=theirs: database[name].delete_many({**theirs, "$nor": gone}))
            deleted = min(result.deleted_count, len(batch))
            if deleted < len(batch):
                await self._use(lambda database, theirs=theirs: database[name].delete_many({**theirs, "$or": gone}))
            count += deleted
        return [True] * count + [False] * (len(keys) - count)

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[ListedEntry], None]:
        for name in await self._names() if collection is None else [self._name(collection)]:
            cursor: Any = None

            def more(database: Any, name: str = name) -> Any:
                nonlocal cursor
                if cursor is None:
                    cursor = database[name].find(entries_in(collection), HEAD, batch_size=_PAGE)
                return cursor.to_list(_PAGE)

            while page := await self._use(more):
                rows = [row_of(document) for document in page]
                yield [row for row in rows if row is not None and self._name(row.collection) == name]

    async def _cull(self, now: float) -> None:
        for name in await self._names():
            query = {**entries_in(None), "$or": expired(now)}
            await self._use(lambda database, name=name, query=query: database[name].delete_many(query))

    async def _names(self) -> list[str]:
        """Return the names of the collections that there are in MongoDB."""
        names: list[str] = await self._use(lambda database: database.database.list_collection_names(filter={"type": "collection"}))
        return [name for name in names if not name.startswith("system.")]

    async def _check(self, name: str) -> None:
        """See that a collection is there and has its indexes, now and then: it may be dropped at any time."""
        now = time.monotonic()
        if now - self._since > _LATELY or len(self._checked) > _KEPT:
            self._checked.clear()
            self._since = now
        once = self._checked.get(name)
        if once is None:
            once = self._checked.setdefault(name, runtime.Once())
        if not once.done:
            await once.run(lambda: self._prepare(name))

    async def _prepare(self, name: str) -> None:
        try:
            await (self._create(name) if self._auto_create else self._require(name))
        except StoreRefusedError as error:
            # Who may write need not be allowed to make indexes or to list collections. No write depends on an index but that on `_id`.
            if not _is_unauthorized(error.__cause__):
                raise

    async def _create(self, name: str) -> None:
        # If they conflict with somebody's own index, that one serves, and the others are made alone.
        for indexes in (_INDEXES, *([index] for index in _INDEXES)):
            try:
                await self._use(lambda database, indexes=indexes: database[name].create_indexes(indexes))
            except StoreRefusedError as error:
                if getattr(error.__cause__, "code", None) not in _CONFLICTS:
                    raise
            else:
                if indexes is _INDEXES:
                    return

    async def _require(self, name: str) -> None:
        if name not in await self._use(lambda database: database.database.list_collection_names(filter={"name": name})):
            raise StoreSetupError(f"The collection {name!r} does not exist in MongoDB; create it, or leave out auto_create=False")

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return isinstance(error, errors.AutoReconnect) and not error.timeout

    def _translate_error(self, error: Exception) -> KeyValueStoreError | None:
        if isinstance(error, errors.OperationFailure):
            index = _forget_values(error)
            if index is not None and not self._closed:
                advice = f"another document has the same value, and the index {index!r}, which is not the store's, allows no two; drop it"
                return self._error(StoreRefusedError, advice, error)
            if _INVALID in _codes(error) and not self._closed:
                advice = f"the server refused the command: the validator of the collection does not allow the value (code {_INVALID})"
                return self._error(StoreRefusedError, advice, error)
        mapped = super()._translate_error(error)
        if isinstance(mapped, StoreClosedError):
            return mapped
        if isinstance(error, errors.PyMongoError) and error.timeout and isinstance(mapped, StoreRefusedError):
            mapped = self._error(StoreConnectionError, "the server did not finish in time", error)
        elif _passes(error):
            mapped = self._error(StoreConnectionError, "the server can't do it now; try again later", error)
        elif (
            _is_unauthorized(error)
            or getattr(error, "code", None) == _UNAUTHENTICATED
            or (type(error) is errors.ServerSelectionTimeoutError and _DENIAL in str(error))
        ):
            mapped = self._error(StoreRefusedError, "the server refused; check username, password and rights", error)
        elif isinstance(error, errors.ConfigurationError) and type(error.__cause__).__module__.startswith("dns."):
            mapped = self._error(StoreConnectionError, "could not look up the server; is the name right?", error)
        if isinstance(mapped, StoreConnectionError):
            self._checked.clear()  # it may be another server that answers next
        return mapped


def _forget_values(error: errors.OperationFailure) -> str | None:
    """Remove from an error what may quote the value, and return the name of another program's index that refused it, if one did."""
    message = str(error)
    told: Any = error.details or {}
    found = re.search(r"E11000 .*? index: (\S+)", " ".join([message, *(str(one.get("errmsg")) for one in told.get("writeErrors", ()))]))
    error.args = (re.split(r", full error:| dup key:|\{", message, maxsplit=1)[0],)
    error._message = error.args[0]  # pyright: ignore[reportPrivateUsage] # pymongo keeps its text twice
    kept: dict[str, Any] = {name: value for name, value in told.items() if name in _TOLD}
    for name in ("writeErrors", "writeConcernErrors", "upserted"):
        if name in told:
            kept[name] = [{part: one[part] for part in ("index", "code") if part in one} for one in told[name]]
    error.__dict__["_OperationFailure__details"] = kept
    return None if found is None or found[1] == "_id_" else found[1]


def _is_unauthorized(error: BaseException | None) -> bool:
    """Return whether the server refused for want of rights."""
    code: Any = getattr(error, "code", None)
    return code == _UNAUTHORIZED or (code == _ATLAS and _ATLAS_DENIAL.search(str(error)) is not None)


def _codes(error: errors.OperationFailure) -> set[int | None]:
    """Return the server's codes for an error: of a bulk write, whose own code says nothing, those of its parts."""
    details: Any = error.details or {}
    return {one.get("code") for one in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()))} or {error.code}


def _passes(error: Exception) -> bool:
    """Return whether the server refused what it may do later."""
    if not isinstance(error, errors.OperationFailure) or error.details is None:
        return False
    told = _codes(error) - {_DUPLICATE}
    if isinstance(error, errors.BulkWriteError) and told:
        return told <= _PASSING
    return error.code in _PASSING or any(map(error.has_error_label, _SHED))


def _given(url: str) -> dict[str, str] | None:
    """Return the options that a URL gives, or None if it can't be parsed."""
    try:
        scheme, _, rest = url.partition("://")
        if scheme != "mongodb+srv":
            parse_uri(url, validate=False)
        elif not urlsplit("//" + rest).hostname:
            return None
        query = urlsplit(url).query.replace(";", "&")
        return {option.lower(): value for option, value in parse_qsl(query, keep_blank_values=True)}
    except (errors.PyMongoError, ValueError):  # its message may quote a part of the password
        return None


def _peer(url: str, tls: TlsOptions) -> Peer | None:
    """Return where the server of a URL is, if it names a single one."""
    if url.startswith("mongodb+srv") or len(nodes := parse_uri(url, validate=False)["nodelist"]) != 1:
        return None
    options = _given(url) or {}
    is_secure = any(options.get(option, "").lower() == "true" for option in ("tls", "ssl"))
    host, port = nodes[0]
    return None if port is None else Peer(host, port, is_secure, _judge, tls, timeouts=(errors.NetworkTimeout,))


def _judge(answer: bytes) -> str | None:
    """Judge an answer for a `Peer`."""
    return None if b"MongoDB" in answer else stranger("MongoDB", answer)


def _capacity(client: _Database) -> int | None:
    """Return how many connections a client has to a server, at most."""
    return client.database.client.options.pool_options.max_pool_size


def _options(url: str | None, timeout: float) -> dict[str, Any]:
    """Return the options of a client that its URL does not give."""
    given = {} if url is None else arguments.url("MongoDBStore", url, _given, "mongodb://user:password@localhost:27017")
    if re.fullmatch("0+", given.get("w", "")):
        raise ValueError(_UNACKNOWLEDGED)
    # Retrying is a wrapper's business, beyond what `_use_again` does; and pymongo's `timeoutMS`, which covers all, costs much on each call.
    options: dict[str, Any] = {"retryReads": False, "retryWrites": False}
    if "timeoutms" not in given:
        options |= dict.fromkeys(_TIMEOUTS, timeout * 1000)
    return {option: value for option, value in options.items() if option.lower() not in given}


def _name(database: str, namer: Callable[[str], str] | None, collection: str) -> str:
    """Return the name of a collection in MongoDB."""
    name = namer(collection) if namer else collection
    return digest(collection) if _UNUSABLE.search(name) or len(f"{database}.{name}".encode()) > 255 else name


def _update(place: str, fields: Fields) -> tuple[Fields, Fields]:
    """Return what update puts an entry into all documents of its pair, or makes one."""
    update: Fields = {"$set": fields, "$setOnInsert": {"_id": place}}
    if "expires_at" not in fields:
        update["$unset"] = {"expires_at": ""}
    return pairs_in(fields["collection"], [fields["key"]]), update


def _batches(collection: str, keys: Sequence[str]) -> Generator[list[str], None, None]:
    """Yield keys in batches that fit into a command; those that fit into no document are left out."""
    room = MAX_SIZE - OVERHEAD - len(collection.encode())
    most = min(_BATCH, room)
    batch: list[str] = []
    size = 0
    for key in keys:
        length = 4 * len(key) + 80
        if length > most and (length := len(key.encode())) > room:
            continue
        if batch and size + length > most:
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += length
    if batch:
        yield batch
