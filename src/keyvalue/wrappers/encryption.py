"""Wrappers that encrypt values: Fernet, AES-GCM, and a base for others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from keyvalue._core import arguments, clock, constructor
from keyvalue._core.capabilities import capabilities_of
from keyvalue._core.envelope import compute, from_base64, from_json, to_base64, to_json
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.errors import CorruptedDataError, DecryptionError, EncryptionError, EncryptionVersionError, KeyValueOperationError
from keyvalue.protocols.key_value import AsyncKeyValue
from keyvalue.wrappers._ciphers import AESGCMCipher, Cipher, Fernet, FernetCipher, FunctionCipher, MultiFernet, Sealed, explain_failure

__all__ = ["AESGCMEncryptionWrapper", "BaseEncryptionWrapper", "FernetEncryptionWrapper"]

_LOGGER = logging.getLogger("keyvalue.encryption")

_DATA, _VERSION, _KEY_ID = "__encrypted_data__", "__encryption_version__", "__encryption_key_id__"
_PAGE = 100  # entries that `rotate` reads at a time


class BaseEncryptionWrapper(BaseWrapper):
    """Encrypts values by functions of the caller's. Keys, collections and times to live stay readable.

    Place: next to the store, below all wrappers that look at values or change names.

    Stored: `{"__encrypted_data__": <base64>, "__encryption_version__": <int>}`, and `"__encryption_key_id__": <str>` if there is one. The
    data is the encrypted JSON text of the value.

    Args:
        key_value: What to wrap.
        encryption_fn: Encrypts bytes. It should authenticate them too. For large values it is called in a worker thread.
        decryption_fn: Decrypts bytes that were stored with a version, and raises if it can't. Called in a worker thread for large values.
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
        self._set_up(
            key_value, FunctionCipher(encryption_fn, decryption_fn, encryption_version), raise_on_decryption_error, allow_plaintext
        )

    def _set_up(self, key_value: AsyncKeyValue, cipher: Cipher, raise_on_decryption_error: bool, allow_plaintext: bool) -> None:
        self._cipher = cipher
        self.encryption_version: int = cipher.version
        self.raise_on_decryption_error = raise_on_decryption_error
        self.allow_plaintext = allow_plaintext
        self._default_collection = DEFAULT_COLLECTION
        super().__init__(key_value)

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
        await self._cipher.prepare()
        plain = await to_json(value)

        def seal() -> tuple[Sealed, str]:
            sealed = self._cipher.seal(plain, collection or self._default_collection, key)
            return sealed, to_base64(sealed.data)

        try:
            sealed, data = await compute(seal, len(plain))
        except Exception as error:
            raise EncryptionError("The value could not be encrypted", _facts(collection, key)) from error
        return {_DATA: data, _VERSION: sealed.version, **({} if sealed.key_id is None else {_KEY_ID: sealed.key_id})}

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
        if skip_current and self._cipher.is_current(sealed):
            return None
        await self._cipher.prepare()
        reason: str | None = "what was encrypted is no JSON object"
        try:
            plain = await compute(lambda: self._cipher.unseal(sealed, collection or self._default_collection, key), len(text))
            with suppress(ValueError):  # its error carries the whole text
                return await from_json(plain)
        except EncryptionVersionError as error:
            raise EncryptionVersionError(error.message, facts) from None
        except Exception as error:
            reason = explain_failure(error)
            if reason is None:
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
        self._set_up(key_value, FernetCipher(fernet, source_material, salt), raise_on_decryption_error, allow_plaintext)


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
        self._set_up(key_value, AESGCMCipher(keys), raise_on_decryption_error, allow_plaintext)
        self._default_collection = arguments.check_name(default_collection or DEFAULT_COLLECTION, "collection")


def _facts(collection: str | None, key: str, key_id: str | None = None) -> dict[str, Any]:
    facts: dict[str, Any] = {"collection": collection, "key": key}
    return facts if key_id is None else {"key_id": key_id[:100], **facts}
