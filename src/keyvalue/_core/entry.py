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

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, cast

import orjson

from keyvalue._core import codec
from keyvalue.errors import DeserializationError

__all__ = ["Entry"]


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
        value: Mapping[str, Any] | None = None,
        *,
        json: bytes | None = None,
        created_at: float | None = None,
        expires_at: float | None = None,
    ) -> None:
        self.collection = collection
        self.key = key
        self._value = value
        self._json = json
        self._document: bytes | None = None
        self.created_at = created_at
        self.expires_at = expires_at

    @property
    def json(self) -> bytes:
        """The value as JSON text in UTF-8."""
        if self._json is None:
            self._json = codec.encode(cast("Mapping[str, Any]", self._value))
        return self._json

    def value(self) -> dict[str, Any]:
        """Return the value, as an object of the caller's own."""
        if self._json is not None:
            return codec.decode(self._json)
        return cast("dict[str, Any]", self._value)

    def is_live(self, now: float) -> bool:
        """Return whether the entry has not expired at `now`."""
        return self.expires_at is None or self.expires_at > now

    def document(self) -> bytes:
        """Return the JSON document of this entry; if it was read from one, that one."""
        if self._document is not None:
            return self._document
        head: dict[str, Any] = {"version": 1, "collection": self.collection, "key": self.key}
        if self.created_at is not None:
            head["created_at"] = _to_iso(self.created_at)
        if self.expires_at is not None:
            head["expires_at"] = _to_iso(self.expires_at)
        return b'%b,"value":%b}' % (orjson.dumps(head)[:-1], self.json)

    @classmethod
    def from_document(cls, document: bytes, collection: str, key: str) -> Entry:
        """Read a document.

        Args:
            document: The JSON text, in UTF-8.
            collection: The collection it was looked for under; taken for its own if it names none.
            key: The key, likewise.

        Raises:
            DeserializationError: It is not such a document.
        """
        try:
            fields = codec.decode(document)
            if not isinstance(fields, dict):
                raise ValueError("it is not a JSON object")
            entry = cls._from_fields(cast("dict[str, Any]", fields), collection, key)
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            raise unreadable(collection, key, _reason(error)) from None  # a decoder's error carries the whole text
        entry._document = document
        return entry

    @classmethod
    def _from_fields(cls, fields: dict[str, Any], collection: str, key: str) -> Entry:
        value = fields.get("value")
        if isinstance(value, str):
            value = codec.decode(value)
        if not isinstance(value, dict):
            raise ValueError("it has no field `value` that is an object")
        if fields.get("version", 1) != 1:
            raise ValueError("its version is not 1; a newer version of this library may read it")
        own_collection, own_key = fields.get("collection"), fields.get("key")
        return cls(
            collection if own_collection is None else own_collection,
            key if own_key is None else own_key,
            cast("dict[str, Any]", value),
            created_at=_from_iso(fields.get("created_at")),
            expires_at=_from_iso(fields.get("expires_at")),
        )


def unreadable(collection: str, key: str, why: str) -> DeserializationError:
    """Return the error for an entry that is there and can't be read."""
    return DeserializationError(
        f"The stored entry can't be read: {why}. Delete or overwrite the key to be rid of it", {"collection": collection, "key": key}
    )


def _reason(error: Exception) -> str:
    # A decoder's message may quote the text, which may be a secret.
    return str(error) if type(error) is ValueError else "it is not a valid JSON document"


def _to_iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _from_iso(text: object) -> float | None:
    if not text:
        return None
    if not isinstance(text, str):
        raise ValueError("one of its dates is not a string")
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise ValueError("one of its dates is not ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
