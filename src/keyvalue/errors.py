"""All errors that this library raises on purpose.

```
KeyValueError
├── KeyValueOperationError       one call can't be done as asked
│   ├── SerializationError       the value is not JSON (also a ValueError)
│   ├── DeserializationError     what is stored can't be read
│   ├── InvalidKeyError          an invalid key or collection name
│   ├── InvalidTTLError          an invalid TTL
│   │   └── InvalidTTLTypeError  the TTL is not a number (also a TypeError)
│   ├── MissingKeyError          a required key does not exist
│   ├── ValueTooLargeError       larger than the backend accepts
│   ├── EntryTooLargeError       larger than your own limit
│   ├── EntryTooSmallError       smaller than your own limit
│   ├── ReadOnlyError            a write through a read-only wrapper
│   └── EncryptionError
│       └── DecryptionError
│           ├── CorruptedDataError
│           └── EncryptionVersionError
└── KeyValueStoreError           the store can't serve calls as it stands
    ├── StoreSetupError          it could not be opened
    ├── StoreConnectionError     the backend could not be reached: worth retrying
    ├── StoreRefusedError        the backend answered and refused: not worth retrying
    ├── StoreClosedError         it is closed
    └── PathSecurityError        a path would leave its directory
```

Wrong argument types raise `TypeError`, wrong combinations of arguments `ValueError`. All errors survive pickling and copying with their
attributes. No message holds a whole value or a secret.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

__all__ = [
    "BaseKeyValueError",
    "CorruptedDataError",
    "DecryptionError",
    "DeserializationError",
    "EncryptionError",
    "EncryptionVersionError",
    "EntryTooLargeError",
    "EntryTooSmallError",
    "ExtraInfoType",
    "InvalidKeyError",
    "InvalidTTLError",
    "InvalidTTLTypeError",
    "KeyValueError",
    "KeyValueOperationError",
    "KeyValueStoreError",
    "MissingKeyError",
    "PathSecurityError",
    "ReadOnlyError",
    "SerializationError",
    "StoreClosedError",
    "StoreConnectionError",
    "StoreRefusedError",
    "StoreSetupError",
    "ValueTooLargeError",
]

ExtraInfoType = dict[str, str | int | float | bool | None]
"""Facts of an error for programs, such as names and sizes."""


def _restore(cls: type[KeyValueError], args: tuple[Any, ...], state: dict[str, Any]) -> KeyValueError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class KeyValueError(Exception):
    """The base of all errors of this library.

    Args:
        message: What went wrong and what to do about it.
        extra_info: Facts for programs and logs; appended to the text as `(name: value;name: value)`.
    """

    message: str
    extra_info: ExtraInfoType | None

    def __init__(self, message: str | None = None, extra_info: ExtraInfoType | None = None) -> None:
        self._text = message
        self.extra_info = extra_info
        self.message = self._compose()
        super().__init__(self.message)

    def _compose(self) -> str:
        parts = [self._text] if self._text else []
        if self.extra_info:
            info = ";".join(f"{name}: {value}" for name, value in self.extra_info.items())
            parts.append(f"({info})" if self._text else info)
        return ": ".join(parts)

    def add_info(self, **info: str | float | bool | None) -> None:
        """Add facts to `extra_info` and to the text."""
        self.extra_info = {**(self.extra_info or {}), **info}
        self.message = self._compose()
        Exception.__init__(self, self.message)  # sets `args`

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls cls(*args), which mangles subclasses that build their own message.
        return _restore, (type(self), self.args, self.__dict__.copy())


BaseKeyValueError = KeyValueError
"""The name of `KeyValueError` in py-key-value-aio."""


class KeyValueOperationError(KeyValueError):
    """One call can't be done as asked."""


class SerializationError(KeyValueOperationError, ValueError):
    """JSON can't hold the value exactly."""


class DeserializationError(KeyValueOperationError):
    """The entry exists but can't be read. It does not count as missing."""


class InvalidKeyError(KeyValueOperationError):
    """A key or a collection is empty or can't be encoded as UTF-8."""


class InvalidTTLError(KeyValueOperationError):
    """A time to live is not a positive, finite number of seconds from now that ends before the year 10000, or it looks like a timestamp."""

    def __init__(self, ttl: object = None, extra_info: ExtraInfoType | None = None, *, advice: str = "") -> None:
        short = isinstance(ttl, float) or (isinstance(ttl, int) and ttl.bit_length() < 200)
        kind = type(ttl).__name__
        shown = repr(ttl) if short else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        if isinstance(ttl, timedelta):
            advice = "; give its total_seconds()"
        elif isinstance(ttl, str):
            advice = "; give float() of it"
        elif isinstance(ttl, date):
            advice = "; subtract the current time, and give the total_seconds() of the difference"
        message = "A TTL must be a positive, finite number of seconds from now that ends before the year 10000"
        super().__init__(f"{message}, not {shown[:60]}{advice}", extra_info)


class InvalidTTLTypeError(InvalidTTLError, TypeError):
    """A time to live that is not a number: both an invalid TTL and a wrong argument type."""


class MissingKeyError(KeyValueOperationError):
    """A required key does not exist."""

    def __init__(self, operation: str, collection: str | None = None, key: str | None = None) -> None:
        super().__init__(
            "A key was requested that was required but not found", {"operation": operation, "collection": collection, "key": key}
        )


class ValueTooLargeError(KeyValueOperationError):
    """The value is larger than the backend accepts (sizes in bytes; `max_size` is None if the backend does not report its limit).

    `limit` says what sets the limit, such as a setting of the server.
    """

    def __init__(
        self, size: int, max_size: int | None, collection: str | None = None, key: str | None = None, *, limit: str | None = None
    ) -> None:
        info: ExtraInfoType = {"size": size, "max_size": max_size, "collection": collection, "key": key}
        super().__init__(f"The value is larger than the backend takes{(limit and f': {limit}') or ''}", info)


class EntryTooLargeError(KeyValueOperationError):
    """The value is larger than your own limit (sizes in bytes)."""

    def __init__(
        self, size: int, max_size: int, collection: str | None = None, key: str | None = None, *, limit: str = "the maximum size"
    ) -> None:
        info: ExtraInfoType = {"size": size, "max_size": max_size, "collection": collection, "key": key}
        super().__init__(f"The entry is larger than {limit}", info)


class EntryTooSmallError(KeyValueOperationError):
    """The value is smaller than your own limit (sizes in bytes)."""

    def __init__(
        self, size: int, min_size: int, collection: str | None = None, key: str | None = None, *, limit: str = "the minimum size"
    ) -> None:
        info: ExtraInfoType = {"size": size, "min_size": min_size, "collection": collection, "key": key}
        super().__init__(f"The entry is smaller than {limit}", info)


class ReadOnlyError(KeyValueOperationError):
    """A write through a read-only wrapper."""

    def __init__(self, operation: str, collection: str | None = None, key: str | None = None) -> None:
        super().__init__("This store is read-only", {"operation": operation, "collection": collection, "key": key})


class EncryptionError(KeyValueOperationError):
    """Encrypting or decrypting failed."""


class DecryptionError(EncryptionError):
    """The ciphertext can't be decrypted with the keys at hand."""


class CorruptedDataError(DecryptionError):
    """The encryption envelope is damaged."""


class EncryptionVersionError(DecryptionError):
    """The encryption envelope has an unknown version."""


class KeyValueStoreError(KeyValueError):
    """The store can't serve calls as it stands."""


class StoreSetupError(KeyValueStoreError):
    """The store could not be opened. The next call tries again."""


class StoreConnectionError(KeyValueStoreError):
    """The backend could not be reached (refused, reset, timed out) or can't serve calls for now. The same call may succeed later."""


class StoreRefusedError(KeyValueStoreError):
    """The backend answered and refused (credentials, rights, limits). The same call will fail again."""


class StoreClosedError(KeyValueStoreError):
    """The store, wrapper or façade is closed; create a new one."""


class PathSecurityError(KeyValueStoreError):
    """A path would leave its directory."""
