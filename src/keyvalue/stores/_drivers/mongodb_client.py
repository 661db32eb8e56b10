"""How MongoDB is reached: clients and their URLs, collections and their indexes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from keyvalue._core import urls
from keyvalue._core.extras import needs
from keyvalue._core.once import Once
from keyvalue.errors import KeyValueError, KeyValueStoreError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers.mongodb_errors import is_index_conflict, is_unauthorized, split_error
from keyvalue.stores._drivers.peer import Peer, stranger
from keyvalue.stores._drivers.tls import TlsOptions, tls_problem
from keyvalue.stores._drivers.use import Use

with needs("mongodb"):
    from pymongo import AsyncMongoClient, IndexModel, MongoClient, errors

    # isort: split
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument
    from pymongo.uri_parser import parse_uri

Fields = dict[str, Any]

_UNACKNOWLEDGED = "MongoDBStore needs writes to be acknowledged, because it must know what they did; leave out w=0"

_RAW = CodecOptions(document_class=RawBSONDocument)  # documents as they came, so that large ones can be decoded in a worker thread
_PAGE = 500  # documents in a page of a listing
_KEPT = 5000  # collections that are remembered
_RECHECKED_AFTER = 60.0  # seconds; until then collections are taken to be as they were found
_TIMEOUTS = ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS")
_INDEXES = (
    IndexModel("key"),
    IndexModel("expires_at", name="keyvalue_expires_at", expireAfterSeconds=0, partialFilterExpression={"value.object": {"$exists": True}}),
)


class Database:
    """The collections of a database. Creating the client's object for one takes long, so they are kept."""

    def __init__(self, client: Any, name: str) -> None:
        self.database = client.get_database(name, _RAW)
        self._collections: dict[str, Any] = {}

    def close(self) -> Any:
        return self.database.client.close()

    def capacity(self) -> int | None:
        """Return how many connections the client has to a server, at most."""
        return self.database.client.options.pool_options.max_pool_size

    def find(self, name: str, query: Fields, most: int, fields: Fields | None = None) -> Any:
        """Return all documents that a query matches, which should be so many at most."""
        size = most + 1  # one more, so that the server need not be asked whether that was all
        return self[name].find(query, fields, batch_size=size).to_list()

    def __getitem__(self, name: str) -> Any:
        collection = self._collections.get(name)
        if collection is None:
            if len(self._collections) >= _KEPT:
                self._collections.clear()
            collection = self._collections[name] = self.database[name]
        return collection


class Listing:
    """The documents of a collection that a query matches, page by page.

    Args:
        name: The name of the collection.
        query: The query.
        fields: Which fields to read.
    """

    def __init__(self, name: str, query: Fields, fields: Fields) -> None:
        self._find = {"filter": query, "projection": fields, "batch_size": _PAGE}
        self._name = name
        self._cursor: Any = None

    def read_page(self, database: Database) -> Any:
        """Return some more documents, none after the last; may return an awaitable."""
        if self._cursor is None:
            self._cursor = database[self._name].find(**self._find)
        return self._cursor.to_list(_PAGE)


async def write_many(
    use: Use, translate: Callable[[Exception], KeyValueError | None], name: str, models: Sequence[Any]
) -> tuple[int, list[KeyValueError | None]]:
    """Make many writes to a collection.

    Args:
        use: Calls the client.
        translate: Returns the error to raise for one of the client's.
        name: The name of the collection.
        models: pymongo's of the writes.

    Returns:
        How many documents they found, and the error of each, or None.
    """
    outcomes: list[KeyValueError | None] = [None] * len(models)
    try:
        result = await use(lambda database: database[name].bulk_write(models, ordered=False))
    except KeyValueStoreError as error:
        matched, causes = split_error(error.__cause__)
        if not causes:
            raise
        for index, cause in causes.items():
            outcomes[index] = translate(cause)
        return matched, outcomes
    return result.matched_count, outcomes


def connect(kind: Any, url: str | None, name: str, tls: TlsOptions, **options: Any) -> Database:
    """Create a client, which connects later, and return its database of a name.

    Raises:
        StoreSetupError: The files for TLS can't be used.
    """
    try:
        return Database(kind(url, **options), name)
    except (OSError, errors.ConfigurationError) as error:
        reason = tls_problem(error, tls) or (f"TLS: {error.strerror}" if isinstance(error, OSError) else None)
        if reason is None:
            raise
        given = parse_options(url or "") or {}
        files = [f"{option}={given[option]!r}" for option in ("tlscafile", "tlscertificatekeyfile") if option in given]
        raise StoreSetupError(f"MongoDBStore: {reason} ({', '.join(files)})") from error


def parse_options(url: str) -> dict[str, str] | None:
    """Return the options that a URL gives, their names in lower case; None if it can't be parsed."""
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


def default_options(url: str | None, timeout: float) -> Fields:
    """Return the options of a client that its URL does not give.

    Raises:
        ValueError: The URL can't be parsed, or leaves writes unacknowledged.
    """
    given = {} if url is None else urls.parse_url("MongoDBStore", url, parse_options, "mongodb://user:password@localhost:27017")
    if re.fullmatch("0+", given.get("w", "")):
        raise ValueError(_UNACKNOWLEDGED)
    # Retrying is a wrapper's business, beyond what `_use` does; and pymongo's `timeoutMS`, which covers all, costs much on each call.
    options: Fields = {"retryReads": False, "retryWrites": False}
    if "timeoutms" not in given:
        options |= dict.fromkeys(_TIMEOUTS, timeout * 1000)
    return {option: value for option, value in options.items() if option.lower() not in given}


def check_database(name: str) -> str:
    """Return a name that a database can have.

    Raises:
        ValueError: No database can have it.
    """
    if re.search(r'[ ./\\"$\0]', name):
        raise ValueError('No database of MongoDB can have that name; leave out spaces and the characters . / \\ " $')
    return name


def borrow_database(client: MongoClient[Any] | AsyncMongoClient[Any], name: str) -> Database:
    """Return a database of a client that was passed to the store.

    Raises:
        ValueError: Its writes are not acknowledged.
    """
    if not client.write_concern.acknowledged:
        raise ValueError(_UNACKNOWLEDGED)
    return Database(client, name)


def find_peer(url: str | None, tls: TlsOptions) -> Peer | None:
    """Return where the server of a URL is, if it names a single one."""
    if url is None or url.startswith("mongodb+srv") or len(nodes := parse_uri(url, validate=False)["nodelist"]) != 1:
        return None
    options = parse_options(url) or {}
    is_secure = any(options.get(option, "").lower() == "true" for option in ("tls", "ssl"))
    host, port = nodes[0]
    return None if port is None else Peer(host, port, is_secure, _judge_answer, tls, timeouts=(errors.NetworkTimeout,))


def _judge_answer(answer: bytes) -> str | None:
    return None if b"MongoDB" in answer else stranger("MongoDB", answer)


class Collections:
    """Collections that were found or made lately, with their indexes. They may be dropped at any time.

    Args:
        auto_create: Whether to make what is not there.
    """

    def __init__(self, auto_create: bool) -> None:
        self._auto_create = auto_create
        self._prepared: dict[str, Once] = {}
        self._since = time.monotonic()

    def forget(self) -> None:
        """Look at all of them again: another server may answer next."""
        self._prepared.clear()

    async def prepare(self, use: Use, name: str) -> None:
        """See that a collection is there and has its indexes, unless that was seen lately.

        Raises:
            StoreSetupError: It is not there, and must not be made.
        """
        now = time.monotonic()
        if now - self._since > _RECHECKED_AFTER or len(self._prepared) > _KEPT:
            self._prepared.clear()
            self._since = now
        once = self._prepared.get(name)
        if once is None:
            once = self._prepared.setdefault(name, Once())
        if not once.done:
            await once.run(lambda: self._prepare(use, name))

    async def list_names(self, use: Use, **query: str) -> list[str]:
        """Return the names of the collections that there are."""
        query = {"type": "collection", **query}
        names: list[str] = await use(lambda database: database.database.list_collection_names(filter=query), repeatable=True)
        return [name for name in names if not name.startswith("system.")]

    async def _prepare(self, use: Use, name: str) -> None:
        try:
            if self._auto_create:
                for index in _INDEXES:
                    await self._create_index(use, name, index)
            elif name not in await self.list_names(use, name=name):
                raise StoreSetupError(f"The collection {name!r} does not exist in MongoDB; create it, or leave out auto_create=False")
        except StoreRefusedError as error:
            # Who may write need not be allowed to make indexes or to list collections. No write depends on an index but that on `_id`.
            if not is_unauthorized(error.__cause__):
                raise

    async def _create_index(self, use: Use, name: str, index: IndexModel) -> None:
        try:
            await use(lambda database: database[name].create_indexes([index]), repeatable=True)
        except StoreRefusedError as error:
            if not is_index_conflict(error.__cause__):
                raise
