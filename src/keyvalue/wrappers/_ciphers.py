"""What encrypts and decrypts bytes for the encryption wrappers: keys, algorithms, and why something can't be decrypted."""

from __future__ import annotations

import base64
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

from keyvalue._core import runtime, wording
from keyvalue._core.extras import needs
from keyvalue._core.once import Once
from keyvalue.errors import DecryptionError, EncryptionError, EncryptionVersionError

with needs("wrappers-encryption"):
    from cryptography.exceptions import InvalidTag
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["AESGCMCipher", "Cipher", "Fernet", "FernetCipher", "FunctionCipher", "MultiFernet", "Sealed", "explain_failure"]

_FERNET_VERSION, _AESGCM_VERSION = 1, 2
_PBKDF2_ITERATIONS = 1_200_000  # what py-key-value-aio derives its keys with, twice OWASP's minimum of 2023 for PBKDF2-HMAC-SHA256


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


class Cipher(ABC):
    """Encrypts and decrypts values.

    Attributes:
        version: The version to store.
    """

    version: int

    async def prepare(self) -> None:  # noqa: B027 # most have nothing to prepare
        """Make ready what takes long, once; called before each use of the others."""

    @abstractmethod
    def seal(self, plain: bytes, collection: str, key: str) -> Sealed:
        """Encrypt the value of a key."""

    @abstractmethod
    def unseal(self, sealed: Sealed, collection: str, key: str) -> bytes:
        """Decrypt the value of a key; anything may be raised."""

    def is_current(self, sealed: Sealed) -> bool:
        """Return whether a value is known to be encrypted as it would be now, so that rotating leaves it alone."""
        return False


class FunctionCipher(Cipher):
    """Two functions.

    Args:
        encrypt: Encrypts bytes.
        decrypt: Decrypts bytes that were stored with a version.
        version: The version to store.
    """

    def __init__(self, encrypt: Callable[[bytes], bytes], decrypt: Callable[[bytes, int], bytes], version: int) -> None:
        if version < 1:
            raise ValueError("encryption_version must be 1 or more")
        self._encrypt, self._decrypt = encrypt, decrypt
        self.version = version

    def seal(self, plain: bytes, collection: str, key: str) -> Sealed:
        """Encrypt the value of a key."""
        return Sealed(self._encrypt(plain), self.version)

    def unseal(self, sealed: Sealed, collection: str, key: str) -> bytes:
        """Decrypt the value of a key."""
        return self._decrypt(sealed.data, sealed.version)


class FernetCipher(Cipher):
    """Fernet, with a key that is given or derived; see `FernetEncryptionWrapper`."""

    version = _FERNET_VERSION

    def __init__(self, fernet: Fernet | MultiFernet | None, source_material: str | None, salt: str | None) -> None:
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

    async def prepare(self) -> None:
        """Derive the key, unless it was given."""
        if self._fernet is None:
            await self._deriving.run(self._derive)

    async def _derive(self) -> None:
        self._fernet = Fernet(await runtime.run_in_worker(lambda: _derive_key(self._source_material, self._salt)))

    def seal(self, plain: bytes, collection: str, key: str) -> Sealed:
        """Encrypt the value of a key."""
        assert self._fernet is not None
        return Sealed(self._fernet.encrypt(plain), _FERNET_VERSION)

    def unseal(self, sealed: Sealed, collection: str, key: str) -> bytes:
        """Decrypt the value of a key."""
        if sealed.version != _FERNET_VERSION:
            raise EncryptionVersionError(f"The entry is encrypted in version {sealed.version}; Fernet's is {_FERNET_VERSION}")
        assert self._fernet is not None
        return self._fernet.decrypt(sealed.data)


class AESGCMCipher(Cipher):
    """AES-GCM with several keys, of which the first encrypts; see `AESGCMEncryptionWrapper`."""

    version = _AESGCM_VERSION

    def __init__(self, keys: Mapping[str, bytes]) -> None:
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

    def seal(self, plain: bytes, collection: str, key: str) -> Sealed:
        """Encrypt the value of a key with the first key."""
        nonce = os.urandom(12)
        sealed = self._ciphers[self._key_id].encrypt(nonce, plain, _bind(self._key_id, collection, key))
        return Sealed(nonce + sealed, _AESGCM_VERSION, self._key_id)

    def unseal(self, sealed: Sealed, collection: str, key: str) -> bytes:
        """Decrypt the value of a key with the key that encrypted it."""
        if sealed.version != _AESGCM_VERSION:
            raise EncryptionVersionError(f"The entry is encrypted in version {sealed.version}; AES-GCM's is {_AESGCM_VERSION}")
        cipher = self._ciphers.get(sealed.key_id or "")
        if cipher is None:
            raise DecryptionError("there is no key of its id here")
        if len(sealed.data) < 28:
            raise InvalidTag
        return cipher.decrypt(sealed.data[:12], sealed.data[12:], _bind(sealed.key_id or "", collection, key))

    def is_current(self, sealed: Sealed) -> bool:
        """Return whether a value is encrypted with the first key."""
        return sealed.version == _AESGCM_VERSION and sealed.key_id == self._key_id


def explain_failure(error: Exception) -> str | None:
    """Return why `unseal` failed; None if its error doesn't tell."""
    if isinstance(error, InvalidTag):
        return "the key is another one, or the entry was changed or moved here from elsewhere"
    if isinstance(error, InvalidToken):
        return "the key is another one, or the entry was changed"
    return error.message if isinstance(error, EncryptionError) else None


def _bind(key_id: str, collection: str, key: str) -> bytes:
    parts = [part.encode() for part in ("keyvalue/2", key_id, collection, key)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _derive_key(source_material: str, salt: str) -> bytes:
    # hashlib leaves the interpreter to other threads meanwhile.
    return base64.urlsafe_b64encode(hashlib.pbkdf2_hmac("sha256", source_material.encode(), salt.encode(), _PBKDF2_ITERATIONS, 32))
