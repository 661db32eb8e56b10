"""How MongoDB is reached: clients and their URLs, collections and their indexes, errors."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from keyvalue._core import arguments, runtime
from keyvalue._core.extras import needs
from keyvalue._core.sockets import Peer, TlsOptions, stranger, tls_problem
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError

with needs("mongodb"):
    from pymongo import AsyncMongoClient, IndexModel, MongoClient, errors

    # isort: split
    from bson.codec_options import CodecOptions
    from bson.errors import BSONError
    from bson.raw_bson import RawBSONDocument
    from pymongo.uri_parser import parse_uri

Fields = dict[str, Any]
Use = Callable[[Callable[[Any], Any]], Awaitable[Any]]
"""Calls a function of the database, and once more if the connection was lost."""

_UNACKNOWLEDGED = "MongoDBStore needs writes to be acknowledged, because it must know what they did; leave out w=0"

_RAW = CodecOptions(document_class=RawBSONDocument)  # documents as they came, so that large ones can be decoded in a worker thread
_KEPT = 5000  # collections that are remembered
_RECHECKED_AFTER = 60.0  # seconds; until then collections are taken to be as they were found
_TIMEOUTS = ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS")
_INDEXES = (
    IndexModel("key"),
    IndexModel("expires_at", name="keyvalue_expires_at", expireAfterSeconds=0, partialFilterExpression={"value.object": {"$exists": True}}),
)
_DUPLICATE = 11000  # what the server calls it: DuplicateKey
_VALIDATION = 121  # DocumentValidationFailure
_CONFLICTS = (85, 86)  # IndexOptionsConflict, IndexKeySpecsConflict
_UNAUTHORIZED = 13  # Unauthorized
_UNAUTHENTICATED = 18  # AuthenticationFailed
_ATLAS = 8000  # what Atlas calls AtlasError: missing rights, but also a used-up quota
_ATLAS_DENIAL = re.compile("not allowed|not authorized|bad auth|authentication failed", re.IGNORECASE)
_SELECTION_DENIAL = "Authentication failed"  # for a while, what pymongo says of a server after that
# What the server says of what passes by itself, unless pymongo takes it for a lost connection: HostUnreachable, HostNotFound, LockTimeout,
# LockBusy, StaleShardVersion, NetworkTimeout, WriteConflict, FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet, StaleEpoch,
# NetworkInterfaceExceededTimeLimit, ExceededTimeLimit, TemporarilyUnavailable, rate limits, SocketException, Interrupted, StaleConfig.
_PASSING = {6, 7, 24, 46, 63, 89, 112, 133, 134, 150, 202, 262, 365, 433, 462, 9001, 11601, 13388}
_PASSING_LABELS = ("RetryableError", "RetryableWriteError", "SystemOverloadedError")  # the same by labels
_BEFORE_VALUE = re.compile(r", full error:| dup key:|\{")  # what a message may quote the value after
_INVALID = f"the server refused the command: the validator of the collection does not allow the value (code {_VALIDATION})"
_UNREACHABLE = "could not reach the server; is it running, and are host and port right?"
_CROWDED = "all connections of the client are taken; something else uses it too, so give it a larger maxPoolSize"
_SAFE_DETAILS = frozenset({"ok", "code", "codeName", "errorLabels", "n", "nInserted", "nUpserted", "nMatched", "nModified", "nRemoved"})
"""What of the server's answer to a refused write an error keeps: all else may quote the value."""


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
    given = {} if url is None else arguments.url("MongoDBStore", url, parse_options, "mongodb://user:password@localhost:27017")
    if re.fullmatch("0+", given.get("w", "")):
        raise ValueError(_UNACKNOWLEDGED)
    # Retrying is a wrapper's business, beyond what `_use_again` does; and pymongo's `timeoutMS`, which covers all, costs much on each call.
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


def check_client(client: object) -> None:
    """Refuse a client that a store can't use.

    Raises:
        TypeError: It is not one of pymongo.
        ValueError: Its writes are not acknowledged.
    """
    if not isinstance(client, MongoClient | AsyncMongoClient):
        raise TypeError(f"The client must be a MongoClient or an AsyncMongoClient, not {arguments.article(client)}")
    if not client.write_concern.acknowledged:
        raise ValueError(_UNACKNOWLEDGED)


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
        self._prepared: dict[str, runtime.Once] = {}
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
            once = self._prepared.setdefault(name, runtime.Once())
        if not once.done:
            await once.run(lambda: self._prepare(use, name))

    async def list_names(self, use: Use, **query: str) -> list[str]:
        """Return the names of the collections that there are."""
        query = {"type": "collection", **query}
        names: list[str] = await use(lambda database: database.database.list_collection_names(filter=query))
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
            await use(lambda database: database[name].create_indexes([index]))
        except StoreRefusedError as error:
            if getattr(error.__cause__, "code", None) not in _CONFLICTS:  # with somebody's own index, which serves as well
                raise


class ErrorRule(NamedTuple):
    """What to raise for an error of the client. Of these, the first that matches counts.

    Attributes:
        types: The class of the client's error.
        error: The class to raise.
        advice: What went wrong and what to do, or a function of the client's error that returns that.
        when: A further condition: a function of the client's error.
        unsent: Whether the request surely never reached the server.
    """

    types: type[Exception]
    error: type[KeyValueStoreError]
    advice: str | Callable[[Any], str]
    when: Callable[[Any], bool] | None = None
    unsent: bool = False

    def advice_for(self, error: Exception) -> str:
        """Return what to say of an error."""
        return self.advice if isinstance(self.advice, str) else self.advice(error)


def forget_values(error: Exception) -> None:
    """Remove from a client's error what may quote the value."""
    if not isinstance(error, errors.OperationFailure):
        return
    error.args = (_BEFORE_VALUE.split(str(error), maxsplit=1)[0],)
    error._message = error.args[0]  # pyright: ignore[reportPrivateUsage] # pymongo keeps its text twice
    details: Any = error.details or {}
    kept: Fields = {name: value for name, value in details.items() if name in _SAFE_DETAILS}
    for name in {"writeErrors", "writeConcernErrors"} & details.keys():
        parts = [(item.get("index"), item.get("code"), str(item.get("errmsg"))) for item in details[name]]
        kept[name] = [{"index": index, "code": code, "errmsg": _BEFORE_VALUE.split(text, maxsplit=1)[0]} for index, code, text in parts]
    error.__dict__["_OperationFailure__details"] = kept


def split_error(error: BaseException | None) -> tuple[int, dict[int, errors.WriteError]]:
    """Return, for the error of many writes, how many documents the others found, and the error of each that failed, by its index.

    There are none if more went wrong than these.
    """
    details: Any = error.details if isinstance(error, errors.BulkWriteError) else {}
    failed: list[Fields] = [] if details.get("writeConcernErrors") else details.get("writeErrors", [])
    causes = {item["index"]: errors.WriteError(item["errmsg"], item.get("code"), item) for item in failed}
    return details.get("nMatched", 0), causes


def is_duplicate(error: BaseException | None) -> bool:
    """Return whether another document, made at the same moment, was in the way of a new one."""
    return getattr(error, "code", None) == _DUPLICATE


def is_unauthorized(error: BaseException | None) -> bool:
    """Return whether the server refused for want of rights."""
    code: Any = getattr(error, "code", None)
    return code == _UNAUTHORIZED or (code == _ATLAS and _ATLAS_DENIAL.search(str(error)) is not None)


def is_denied(error: errors.PyMongoError) -> bool:
    """Return whether username, password or rights are wrong."""
    return (
        is_unauthorized(error)
        or getattr(error, "code", None) == _UNAUTHENTICATED
        or (type(error) is errors.ServerSelectionTimeoutError and _SELECTION_DENIAL in str(error))
    )


def breaks_index(error: errors.OperationFailure) -> bool:
    """Return whether an index that is not the store's own refused a value as not unique."""
    return _find_index(error) not in (None, "_id_")


def fails_validation(error: errors.OperationFailure) -> bool:
    """Return whether the collection's validator refused a value."""
    return _VALIDATION in _find_codes(error)


def timed_out(error: errors.PyMongoError) -> bool:
    """Return whether the server was reached and did not finish in time."""
    return error.timeout and not isinstance(error, errors.ConnectionFailure)


def passes(error: errors.OperationFailure) -> bool:
    """Return whether the server refused what it may do later."""
    if error.details is None:
        return False
    codes = _find_codes(error) - {_DUPLICATE}
    if isinstance(error, errors.BulkWriteError) and codes:
        return codes <= _PASSING
    return error.code in _PASSING or any(map(error.has_error_label, _PASSING_LABELS))


def is_unresolved(error: errors.ConfigurationError) -> bool:
    """Return whether the name of a server could not be looked up."""
    return type(error.__cause__).__module__.startswith("dns.")


def _find_codes(error: errors.OperationFailure) -> set[int | None]:
    """Return the server's codes for an error: of a bulk write, whose own code says nothing, those of its parts."""
    details: Any = error.details or {}
    return {item.get("code") for item in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()))} or {error.code}


def _find_index(error: errors.OperationFailure) -> str | None:
    """Return the name of the index that a duplicate was found in."""
    details: Any = error.details or {}
    found = re.search(r"E11000 .*? index: (\S+)", " ".join([str(error), *(item["errmsg"] for item in details.get("writeErrors", ()))]))
    return None if found is None else found[1]


def _advise_on_index(error: errors.OperationFailure) -> str:
    index = _find_index(error)
    return f"another document has the same value, and the index {index!r}, which is not the store's, allows no two; drop it"


ERRORS = (
    ErrorRule(errors.OperationFailure, StoreRefusedError, _advise_on_index, breaks_index),
    ErrorRule(errors.OperationFailure, StoreRefusedError, _INVALID, fails_validation),
    ErrorRule(errors.PyMongoError, StoreConnectionError, "the server did not finish in time", timed_out),
    ErrorRule(errors.OperationFailure, StoreConnectionError, "the server can't do it now; try again later", passes),
    ErrorRule(errors.PyMongoError, StoreRefusedError, "the server refused; check username, password and rights", is_denied),
    ErrorRule(errors.ConfigurationError, StoreConnectionError, "could not look up the server; is the name right?", is_unresolved, True),
    ErrorRule(errors.ServerSelectionTimeoutError, StoreConnectionError, _UNREACHABLE, unsent=True),
    ErrorRule(errors.WaitQueueTimeoutError, StoreConnectionError, _CROWDED, unsent=True),
    ErrorRule(errors.ConnectionFailure, StoreConnectionError, "the connection was lost"),
    ErrorRule(errors.CursorNotFound, StoreConnectionError, "the server forgot how far the listing had come"),
    ErrorRule(errors.OperationFailure, StoreRefusedError, "the server refused the command"),
    ErrorRule(errors.ConfigurationError, StoreRefusedError, "the client can't work with these options"),
    ErrorRule(errors.PyMongoError, StoreRefusedError, "the client refused"),
    ErrorRule(BSONError, StoreRefusedError, "the client refused"),
)
"""How pymongo's errors are mapped."""


def find_rule(error: Exception) -> ErrorRule | None:
    """Return the rule for an error, if it is one that looks at more than its class."""
    return next((rule for rule in ERRORS if rule.when is not None and isinstance(error, rule.types) and rule.when(error)), None)
