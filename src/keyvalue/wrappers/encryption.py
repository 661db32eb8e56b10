"""Wrappers that encrypt values: Fernet, AES-GCM, and a base for others."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from keyvalue._core import arguments, clock, constructor, runtime, wording
from keyvalue._core.capabilities import capabilities_of
from keyvalue._core.envelope import compute, from_base64, from_json, to_base64, to_json
from keyvalue._core.extras import needs
from keyvalue._core.once import Once
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.errors import (
    CorruptedDataError,
    DecryptionError,
    EncryptionError,
    EncryptionVersionError,
    ExtraInfoType,
    KeyValueOperationError,
)
from keyvalue.protocols.key_value import AsyncKeyValue

with needs("wrappers-encryption"):
    from cryptography.exceptions import InvalidTag
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["AESGCMEncryptionWrapper", "BaseEncryptionWrapper", "FernetEncryptionWrapper", "Sealed"]

_LOGGER = logging.getLogger("keyvalue.encryption")

_DATA, _VERSION, _KEY_ID = "__encrypted_data__", "__encryption_version__", "__encryption_key_id__"
_FERNET_VERSION, _AESGCM_VERSION = 1, 2
_PBKDF2_ITERATIONS = 1_200_000  # what py-key-value-aio derives its keys with, twice OWASP's minimum of 2023 for PBKDF2-HMAC-SHA256
_PAGE = 100  # entries that `rotate` reads at a time


class Sealed(NamedTuple):
    """An encrypted value.

    Attributes:
        data: The ciphertext, with all that decrypting it needs but the key.
        version: What tells how it was encrypted.
        key_id: Which key it was encrypted with, or None if there is only one or `data` tells.
    """

    data: bytes
    version: int
    key_id: str | None = None


class BaseEncryptionWrapper(BaseWrapper):
    """Encrypts values by functions of the caller's. Keys, collections and times to live stay readable.

    Place: next to the store, below all wrappers that look at values or change names.

    Stored: `{"__encrypted_data__": <base64>, "__encryption_version__": <int>}`, and `"__encryption_key_id__": <str>` if there is one. The
    data is the encrypted JSON text of the value.

    Args:
        key_value: What to wrap.
        encryption_fn: Encrypts bytes. It should authenticate them too. For large values it is called in a worker thread.
        decryption_fn: Decrypts bytes that were stored with a version, and raises if it can't. Likewise.
        encryption_version: The version to store, 1 or more.
        raise_on_decryption_error: Whether a row that can't be decrypted raises, instead of being called missing. Default True.
        allow_plaintext: Whether rows that are not encrypted are returned, instead of being taken for such that can't be decrypted. Then
            whoever can write to the store can forge values, so allow it only while moving; `rotate` encrypts such rows. Default False.

    Raises:
        SerializationError: On a put: the value is not JSON.
        EncryptionError: On a put: encrypting failed.
        DecryptionError: On a read: the row can't be decrypted, or is not encrypted.
        CorruptedDataError: On a read: the row is damaged, so far that decrypting it was not tried.
        EncryptionVersionError: On a read: the row is of a version that is not known here.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        encryption_fn: Callable[[bytes], bytes],
        decryption_fn: Callable[[bytes, int], bytes],
        encryption_version: int,
        raise_on_decryption_error: bool = True,
        *,
        allow_plaintext: bool = False,
    ) -> None:
        if encryption_version < 1:
            raise ValueError("encryption_version must be 1 or more")
        self._encryption_fn = encryption_fn
        self._decryption_fn = decryption_fn
        self.encryption_version = encryption_version
        self.raise_on_decryption_error = raise_on_decryption_error
        self.allow_plaintext = allow_plaintext
        super().__init__(key_value)

    # The hooks of subclasses.

    async def _prepare(self) -> None:
        """Make ready what takes long, once; called before each use of the others."""

    def _seal(self, plain: bytes, collection: str, key: str) -> Sealed:
        """Encrypt the value of a key."""
        return Sealed(self._encryption_fn(plain), self.encryption_version)

    def _unseal(self, sealed: Sealed, collection: str, key: str) -> bytes:
        """Decrypt the value of a key; anything may be raised."""
        return self._decryption_fn(sealed.data, sealed.version)

    def _is_current(self, sealed: Sealed) -> bool:
        """Return whether a value is known to be encrypted as it would be now, so that `rotate` leaves it alone."""
        return False

    def _bound_collection(self, collection: str | None) -> str:
        return collection or DEFAULT_COLLECTION

    # What they are for.

    async def rotate(self, collection: str | None = None) -> int:
        """Encrypt the entries of a collection again, with the key that new values are encrypted with.

        Times to live are kept. An entry that is written by someone else at the very moment may lose that write, so do it while nothing
        else writes to the collection. Entries that can't be decrypted stay as they are.

        Args:
            collection: The collection. None is the default collection.

        Returns:
            How many entries were encrypted again.

        Raises:
            KeyValueOperationError: What is wrapped can't list its keys.
            EncryptionError: An entry can't be decrypted; of several, the first one's error. All others have been rotated.
        """
        if "keys" not in capabilities_of(self.key_value):
            raise KeyValueOperationError("This store can't list its keys; read each entry and put it again instead")
        store: Any = self.key_value
        names: list[str] = await store.keys(collection)
        listed = iter(names)
        rotated, failure = 0, None
        while page := list(islice(listed, _PAGE)):
            lasting: dict[str, Mapping[str, Any]] = {}
            asked = clock.now()
            for key, (row, left) in zip(page, await store.ttl_many(page, collection=collection), strict=True):
                try:
                    value = None if row is None else await self._open(row, key, collection, skip_current=True)
                except EncryptionError as error:
                    failure = failure or error
                    continue
                if value is None:
                    continue
                sealed = await self._encode_value(value, key, collection)
                if left is None:
                    lasting[key] = sealed
                elif (left := left - (clock.now() - asked)) > 0:
                    await store.put(key, sealed, collection=collection, ttl=left)
                    rotated += 1
            if lasting:
                await store.put_many(list(lasting), list(lasting.values()), collection=collection)
                rotated += len(lasting)
        if failure is not None and self.raise_on_decryption_error:
            raise failure
        return rotated

    async def _encode_value(self, value: Mapping[str, Any], key: str, collection: str | None) -> Mapping[str, Any]:
        await self._prepare()
        plain = await to_json(value)
        try:
            sealed, data = await compute(lambda: self._seal_value(plain, self._bound_collection(collection), key), len(plain))
        except Exception as error:
            raise EncryptionError("The value could not be encrypted", _facts(collection, key)) from error
        return {_DATA: data, _VERSION: sealed.version, **({} if sealed.key_id is None else {_KEY_ID: sealed.key_id})}

    def _seal_value(self, plain: bytes, collection: str, key: str) -> tuple[Sealed, str]:
        sealed = self._seal(plain, collection, key)
        return sealed, to_base64(sealed.data)

    async def _decode_value(self, value: dict[str, Any], key: str, collection: str | None) -> dict[str, Any] | None:
        try:
            return await self._open(value, key, collection)
        except EncryptionError as error:
            if self.raise_on_decryption_error:
                raise
            _LOGGER.warning("An entry was called missing: %s", error)
            return None

    async def _open(self, row: dict[str, Any], key: str, collection: str | None, *, skip_current: bool = False) -> dict[str, Any] | None:
        """Return the value in a row; None if it is to be skipped."""
        if _DATA not in row:
            if self.allow_plaintext:
                return row
            raise DecryptionError("The entry is not encrypted; give allow_plaintext=True to read such entries", _facts(collection, key))
        text, version, key_id = row[_DATA], row.get(_VERSION), row.get(_KEY_ID)
        facts = _facts(collection, key, key_id if type(key_id) is str else None)
        if type(text) is not str or type(version) is not int or version < 1 or not (key_id is None or type(key_id) is str):
            raise CorruptedDataError("The entry's encryption envelope is damaged", facts)
        try:
            sealed = Sealed(await compute(lambda: from_base64(text), len(text)), version, key_id)
        except ValueError:
            raise CorruptedDataError("The entry's encryption envelope is damaged", facts) from None
        if skip_current and self._is_current(sealed):
            return None
        await self._prepare()
        try:
            plain = await compute(lambda: self._unseal(sealed, self._bound_collection(collection), key), len(text))
            with suppress(ValueError):  # whose error carries the whole text
                return await from_json(plain)
            reason = "what was encrypted is no JSON object"
        except EncryptionVersionError as error:
            raise EncryptionVersionError(error.message, facts) from None
        except InvalidTag:
            reason = "the key is another one, or the entry was changed or moved here from elsewhere"
        except InvalidToken:
            reason = "the key is another one, or the entry was changed"
        except EncryptionError as error:
            reason = error.message
        except Exception as error:
            raise DecryptionError("The entry could not be decrypted", facts) from error
        raise DecryptionError(f"The entry could not be decrypted: {reason}", facts)


class FernetEncryptionWrapper(BaseEncryptionWrapper):
    """Encrypts values with Fernet (https://github.com/fernet/spec): AES-128-CBC with HMAC-SHA256.

    It does not tell entries apart: whoever can write to the store can put one entry's row in another's place. `AESGCMEncryptionWrapper`
    notices that.

    Place and stored form: see `BaseEncryptionWrapper`; version 1, what py-key-value-aio writes and reads. The Fernet token, which is
    base64 text already, is the data.

    Args:
        key_value: What to wrap.
        fernet: What encrypts. A `MultiFernet` encrypts with its first key and decrypts with all; `rotate` encrypts with the first again.
        source_material: Instead, a secret to derive the key from, by PBKDF2-HMAC-SHA256 with 1,200,000 iterations, at first use, in a
            worker thread (about 0.3 s).
        salt: With it, the salt. It need not be secret, but must stay the same.
        raise_on_decryption_error: See `BaseEncryptionWrapper`. Default True.
        allow_plaintext: See `BaseEncryptionWrapper`. Default False.

    Raises:
        ValueError: Neither `fernet` nor both of the others are given, or all.
        TypeError: `fernet` is neither a `Fernet` nor a `MultiFernet`, or one of the others not a str.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        *,
        fernet: Fernet | MultiFernet | None = None,
        source_material: str | None = None,
        salt: str | None = None,
        raise_on_decryption_error: bool = True,
        allow_plaintext: bool = False,
    ) -> None:
        for name, text in (("source_material", source_material), ("salt", salt)):
            if text is not None and not isinstance(text, str):
                advice = "; give its hex(), and always the same" if isinstance(text, bytes) else ""
                raise TypeError(f"{name} of FernetEncryptionWrapper must be a str, not {wording.describe(text)}{advice}")
        if fernet is None:
            if not (source_material or "").strip() or not (salt or "").strip():
                raise ValueError("Give FernetEncryptionWrapper either fernet, or both source_material and salt, neither of them empty")
        elif source_material is not None or salt is not None:
            raise ValueError("Give FernetEncryptionWrapper either fernet, or source_material and salt, not both")
        elif not isinstance(fernet, Fernet | MultiFernet):
            advice = "; give Fernet(key)" if isinstance(fernet, bytes | str) else ""
            raise TypeError(f"fernet must be a Fernet or MultiFernet, not {type(fernet).__name__}{advice}")
        self._fernet = fernet
        self._source_material, self._salt = source_material or "", salt or ""
        self._deriving = Once()
        super().__init__(
            key_value, self._encrypt, self._decrypt, _FERNET_VERSION, raise_on_decryption_error, allow_plaintext=allow_plaintext
        )

    async def _prepare(self) -> None:
        if self._fernet is None:
            await self._deriving.run(self._derive)

    async def _derive(self) -> None:
        self._fernet = Fernet(await runtime.run_in_worker(lambda: _derive_key(self._source_material, self._salt)))

    def _encrypt(self, data: bytes) -> bytes:
        assert self._fernet is not None
        return self._fernet.encrypt(data)

    def _decrypt(self, data: bytes, version: int) -> bytes:
        if version != _FERNET_VERSION:
            raise EncryptionVersionError(f"The entry is encrypted in version {version}; Fernet's is {_FERNET_VERSION}")
        assert self._fernet is not None
        return self._fernet.decrypt(data)


class AESGCMEncryptionWrapper(BaseEncryptionWrapper):
    """Encrypts values with AES-GCM (NIST SP 800-38D), each bound to its collection and key: a row that was moved elsewhere is refused.

    Several keys can be read at once, each under an id that is stored with the value. To change the key, put a new one first, and call
    `rotate` for each collection before taking the old one out.

    Place: see `BaseEncryptionWrapper`; below wrappers that change names, because rows are bound to the names that this one sees: above a
    prefix, the rows of one prefix would be good under another.

    Stored: see `BaseEncryptionWrapper`; version 2, with the key's id. The data is a random nonce of 96 bits, the ciphertext, and the tag of
    128 bits. The additional data is `keyvalue/2`, the key's id, the collection and the key, in UTF-8, each after its length in bytes as
    8 bytes, big-endian.

    Args:
        key_value: What to wrap.
        keys: Keys of 16, 24 or 32 bytes, such as `AESGCM.generate_key(256)`, by their ids. The first one encrypts. Because nonces are
            random, a key should encrypt no more than 2**32 values (NIST SP 800-38D, section 8.3).
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        raise_on_decryption_error: See `BaseEncryptionWrapper`. Default True.
        allow_plaintext: See `BaseEncryptionWrapper`. Default False.

    Raises:
        ValueError: There is no key, or one of a wrong length, or an id is empty.
        TypeError: `keys` is no mapping, or an id no str, or a key no bytes.
        DecryptionError: On a read: the row is encrypted with a key that is not among `keys`, or was changed, or moved from elsewhere.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        *,
        keys: Mapping[str, bytes],
        default_collection: str | None = None,
        raise_on_decryption_error: bool = True,
        allow_plaintext: bool = False,
    ) -> None:
        if not isinstance(keys, Mapping):
            raise TypeError(
                f"keys must be a mapping of ids to keys, such as {{'2026': AESGCM.generate_key(256)}}, not {wording.describe(keys)}"
            )
        if not keys:
            raise ValueError("Give AESGCMEncryptionWrapper at least one key")
        for key_id, secret in keys.items():
            if not key_id:
                raise ValueError("The id of a key must not be empty")
            if not isinstance(key_id, str):
                raise TypeError(f"The id of a key must be a str, not {wording.describe(key_id)}")
            if not isinstance(secret, bytes | bytearray | memoryview):
                problem = f"must be bytes, not {wording.describe(secret)}; AESGCM.generate_key(256) makes such a key"
                raise TypeError(f"The key {key_id!r} {problem}")
            if len(secret) not in (16, 24, 32):
                raise ValueError(f"The key {key_id!r} has {len(secret)} bytes; AES takes 16, 24 or 32")
        self._ciphers = {key_id: AESGCM(secret) for key_id, secret in keys.items()}
        self._key_id = next(iter(keys))
        self._default_collection = arguments.check_name(default_collection or DEFAULT_COLLECTION, "collection")
        super().__init__(key_value, _refuse_call, _refuse_call, _AESGCM_VERSION, raise_on_decryption_error, allow_plaintext=allow_plaintext)

    def _bound_collection(self, collection: str | None) -> str:
        return collection or self._default_collection

    def _seal(self, plain: bytes, collection: str, key: str) -> Sealed:
        nonce = os.urandom(12)
        sealed = self._ciphers[self._key_id].encrypt(nonce, plain, _bind(self._key_id, collection, key))
        return Sealed(nonce + sealed, _AESGCM_VERSION, self._key_id)

    def _unseal(self, sealed: Sealed, collection: str, key: str) -> bytes:
        if sealed.version != _AESGCM_VERSION:
            raise EncryptionVersionError(f"The entry is encrypted in version {sealed.version}; AES-GCM's is {_AESGCM_VERSION}")
        cipher = self._ciphers.get(sealed.key_id or "")
        if cipher is None:
            raise DecryptionError("there is no key of its id here")
        if len(sealed.data) < 28:
            raise InvalidTag
        return cipher.decrypt(sealed.data[:12], sealed.data[12:], _bind(sealed.key_id or "", collection, key))

    def _is_current(self, sealed: Sealed) -> bool:
        return sealed.version == _AESGCM_VERSION and sealed.key_id == self._key_id


def _facts(collection: str | None, key: str, key_id: str | None = None) -> ExtraInfoType:
    facts: ExtraInfoType = {"collection": collection, "key": key}
    return facts if key_id is None else {"key_id": key_id[:100], **facts}


def _refuse_call(*_: object) -> bytes:
    raise NotImplementedError  # the methods that would call it are overridden


def _bind(key_id: str, collection: str, key: str) -> bytes:
    parts = [part.encode() for part in ("keyvalue/2", key_id, collection, key)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _derive_key(source_material: str, salt: str) -> bytes:
    # hashlib leaves the interpreter to other threads meanwhile.
    return base64.urlsafe_b64encode(hashlib.pbkdf2_hmac("sha256", source_material.encode(), salt.encode(), _PBKDF2_ITERATIONS, 32))
