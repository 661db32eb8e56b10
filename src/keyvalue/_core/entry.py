"""One stored entry, and the JSON document that most backends hold it as.

The document, an object in UTF-8 (the layout of py-key-value-aio, which reads and writes the same):

| field        | type   |                                                                            |
|--------------|--------|----------------------------------------------------------------------------|
| `version`    | int    | always 1; missing is taken for 1                                           |
| `collection` | str    | the collection's name as the caller gave it                                |
| `key`        | str    | the key as the caller gave it                                              |
| `created_at` | str    | ISO 8601 with offset, microseconds; may be missing                         |
| `expires_at` | str    | the same; missing if the entry never expires. It alone decides on expiry   |
| `value`      | object | the value, in its own key order; a str is taken for JSON text of the value |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, cast

import orjson

from keyvalue._core import codec
from keyvalue.errors import DeserializationError

__all__ = ["Entry"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LONG = 2**16  # bytes; an integer of so many digits takes some 10 ms to read


class Entry:
    """One entry: what a store is given to keep, and what it gives back.

    Attributes:
        key: The key, as the caller gave it.
        collection: The collection, as the caller gave it.
        created_at: Seconds since the epoch, or None if that was not kept.
        expires_at: Seconds since the epoch, or None if it never expires.
    """

    __slots__ = ("_document", "_json", "_value", "collection", "created_at", "expires_at", "key")

    def __init__(
        self,
        collection: str,
        key: str,
        value: dict[str, Any] | None = None,
        json: bytes | None = None,
        created_at: float | None = None,
        expires_at: float | None = None,
        document: bytes | None = None,
    ) -> None:
        self.collection: str = collection
        self.key: str = key
        self._value = value
        self._json = json
        self.created_at: float | None = created_at
        self.expires_at: float | None = expires_at
        self._document = document

    @property
    def json(self) -> bytes:
        """The value as JSON text in UTF-8."""
        if self._json is None:
            self._json = codec.encode(self.value())
        return self._json

    @property
    def is_large(self) -> bool:
        """Whether `value` takes so long that no event loop should wait for it."""
        if self._value is not None:
            return False
        # The value is left unread where it holds integers that take long.
        return len(self._document or b"") > _LONG if self._json is None else len(self._json) > codec.LARGE

    def value(self) -> dict[str, Any]:
        """Return the value, as an object of the caller's own."""
        value, self._value = self._value, None
        if value is not None:
            return value
        if self._json is None and self._document is not None:
            value = codec.decode(self._document)["value"]
            return codec.decode(value) if type(value) is str else value
        return codec.decode(self.json)

    @staticmethod
    def values(entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Return what `value` returns, for many entries."""
        if any(entry._json is None or entry._value is not None for entry in entries):
            return [entry.value() for entry in entries]
        return codec.decode_many([entry.json for entry in entries])

    def is_live(self, now: float) -> bool:
        """Return whether the entry has not expired at `now`."""
        return self.expires_at is None or self.expires_at > now

    def document(self) -> bytes:
        """Return the JSON document of this entry; if it was read from one, that one."""
        if self._document is not None:
            return self._document
        return b'%b%b,"value":%b}' % (_head(self.collection, self.created_at, self.expires_at), orjson.dumps(self.key), self.json)

    @classmethod
    def from_document(cls, document: bytes, collection: str, key: str) -> Entry:
        """Read a document, in time that is linear in its length. `created_at` is not read, because it is not used.

        Args:
            document: The JSON text, in UTF-8.
            collection: The collection it was looked for under; taken for its own if it names none.
            key: The key, likewise.

        Raises:
            DeserializationError: It is not such a document.
        """
        long_integers: list[str] = []
        try:
            fields = codec.decode(document, long_integers)
            if type(fields) is not dict:
                raise ValueError("it is not a JSON object")
            get = cast("dict[str, Any]", fields).get
            value = get("value")
            if type(value) is str:
                value = codec.decode(value, long_integers)
            if type(value) is not dict:
                raise ValueError("it has no field `value` that is an object")
            if get("version", 1) != 1:
                raise ValueError("its version is not 1; a newer version of this library may read it")
            own_collection, own_key, expires_at = get("collection"), get("key"), get("expires_at")
            if not (own_collection is None or type(own_collection) is str) or not (own_key is None or type(own_key) is str):
                raise ValueError("its collection or key is not a string")
            return cls(
                collection if own_collection is None else own_collection,
                key if own_key is None else own_key,
                None if long_integers else cast("dict[str, Any]", value),
                None,
                None,
                None if expires_at is None or expires_at == "" else _from_iso(expires_at),
                document,
            )
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            reason = _reason(error)
        # Raised out here, so that it does not hold on to the decoder's error, which carries the whole text.
        raise unreadable(collection, key, reason)


@lru_cache(16)  # entries that are put together share theirs
def _head(collection: str, created_at: float | None, expires_at: float | None) -> bytes:
    """Return the document of an entry up to the key."""
    head: dict[str, Any] = {"version": 1, "collection": collection}
    if created_at is not None:
        head["created_at"] = _moment(created_at)
    if expires_at is not None:
        head["expires_at"] = _moment(expires_at)
    return orjson.dumps(head)[:-1] + b',"key":'


def unreadable(collection: str, key: str, why: str) -> DeserializationError:
    """Return the error for an entry that is there and can't be read."""
    return DeserializationError(
        f"The stored entry can't be read: {why}. Delete or overwrite the key to be rid of it", {"collection": collection, "key": key}
    )


def _reason(error: Exception) -> str:
    # A decoder's message may quote the text, which may be a secret.
    return str(error) if type(error) is ValueError else "it is not a valid JSON document"


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(0, seconds)  # orjson writes it as isoformat() does; fromtimestamp() ends with the year 3000 on Windows


def _from_iso(text: object) -> float:
    if not isinstance(text, str):
        raise ValueError("one of its dates is not a string")
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise ValueError("one of its dates is not ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
