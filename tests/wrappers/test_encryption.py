"""Encryption: that nothing readable is stored, what is refused when it is read, several keys, rotation."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

pytest.importorskip("cryptography")

from cryptography.fernet import Fernet, MultiFernet

from keyvalue.errors import CorruptedDataError, DecryptionError, EncryptionError, EncryptionVersionError, KeyValueOperationError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.testing import Clock
from keyvalue.wrappers import _ciphers
from keyvalue.wrappers.encryption import AESGCMEncryptionWrapper, BaseEncryptionWrapper, FernetEncryptionWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from tests.runtimes import Runtime
from tests.scripted import ScriptedStore, on_loops

ONE, TWO = bytes(range(32)), bytes(range(1, 33))
SECRET = {"password": "hunter2", "__encrypted_data__": "its own"}


def fernets(*secrets: bytes) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(secret)) for secret in secrets])


def aes_gcm(store: AsyncKeyValue, *secrets: bytes) -> AESGCMEncryptionWrapper:
    return AESGCMEncryptionWrapper(store, keys={f"key-{secret[0]}": secret for secret in secrets})


def make_encrypting(kind: str, store: AsyncKeyValue, secret: bytes = ONE, **kwargs: Any) -> BaseEncryptionWrapper:
    if kind == "fernet":
        return FernetEncryptionWrapper(store, fernet=fernets(secret), **kwargs)
    if kind == "aes-gcm":
        return AESGCMEncryptionWrapper(store, keys={"key-1": secret}, **kwargs)
    return BaseEncryptionWrapper(store, fernets(secret).encrypt, lambda data, _: fernets(secret).decrypt(data), 7, **kwargs)


each_encryption = pytest.mark.parametrize("kind", ["fernet", "aes-gcm", "base"])


@each_encryption
async def test_nothing_readable_is_stored(kind: str, runtime: Runtime) -> None:
    memory = MemoryStore()
    kv = runtime.adapt(make_encrypting(kind, memory))
    await kv.put("k", SECRET, ttl=60)
    await kv.put_many(["l", "m"], [SECRET, {"big": "x" * 300_000}])
    assert await kv.get_many(["k", "l", "m"]) == [SECRET, SECRET, {"big": "x" * 300_000}]
    one, two = [row or {} for row in await memory.get_many(["k", "l"])]
    assert one != two
    for row in (one, two):
        assert row["__encryption_version__"] == {"fernet": 1, "aes-gcm": 2, "base": 7}[kind]
        assert "hunter2" not in json.dumps(row)
        assert b"hunter2" not in base64.b64decode(row["__encrypted_data__"])


def flip_bit(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(data).decode()


@each_encryption
async def test_what_can_not_be_decrypted_is_an_error_that_tells_no_secrets(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    memory = MemoryStore()
    await make_encrypting(kind, memory).put("k", SECRET, collection="c")
    row = await memory.get("k", collection="c") or {}
    text = row["__encrypted_data__"]
    rows: list[tuple[dict[str, Any], type[Exception]]] = [
        ({**row, "__encrypted_data__": flip_bit(text)}, DecryptionError),
        ({**row, "__encrypted_data__": text[: len(text) // 8 * 4]}, DecryptionError),
        ({**row, "__encrypted_data__": ""}, DecryptionError),
        ({**row, "__encrypted_data__": "!"}, CorruptedDataError),
        ({**row, "__encrypted_data__": 5}, CorruptedDataError),
        ({**row, "__encryption_version__": True}, CorruptedDataError),
        ({**row, "__encryption_version__": -5}, CorruptedDataError),
        ({**row, "__encryption_key_id__": 5}, CorruptedDataError),
        ({"__encrypted_data__": text}, CorruptedDataError),
        ({"password": "hunter2"}, DecryptionError),
    ]
    if kind != "base":
        rows.append(({**row, "__encryption_version__": 99}, EncryptionVersionError))
    for bad, error in rows:
        await memory.put("k", bad, collection="c")
        with pytest.raises(error) as caught:
            await make_encrypting(kind, memory).get("k", collection="c")
        assert isinstance(caught.value, DecryptionError)
        lenient = make_encrypting(kind, memory, raise_on_decryption_error=False)
        assert await lenient.get("k", collection="c") is None
        assert await lenient.ttl_many(["k"], collection="c") == [(None, None)]
        assert "hunter2" not in f"{caught.value} {caplog.text}"
    await memory.put("k", row, collection="c")
    with pytest.raises(DecryptionError) as caught:
        await make_encrypting(kind, memory, TWO).get("k", collection="c")
    assert ("key-1" in str(caught.value)) == (kind == "aes-gcm")


@each_encryption
async def test_plaintext_is_refused_unless_allowed(kind: str) -> None:
    memory = MemoryStore(seed={"c": {"k": {"plain": 1}}})
    with pytest.raises(DecryptionError, match="allow_plaintext") as caught:
        await make_encrypting(kind, memory).get("k", collection="c")
    assert caught.value.extra_info == {"collection": "c", "key": "k"}
    moving = make_encrypting(kind, memory, allow_plaintext=True)
    assert await moving.get("k", collection="c") == {"plain": 1}
    assert await moving.rotate("c") == 1
    assert await make_encrypting(kind, memory).get("k", collection="c") == {"plain": 1}


async def test_beneath_a_prefix_the_row_of_a_tenant_is_no_good_as_anothers() -> None:  # which is why the docs order them so
    memory = MemoryStore()
    one, two = (PrefixKeysWrapper(aes_gcm(memory, ONE), name) for name in ("tenant-1", "tenant-2"))
    await one.put("session", {"admin": True})
    (key,) = await memory.keys()
    await memory.put(key.replace("-1", "-2"), await memory.get(key) or {})
    with pytest.raises(DecryptionError, match="moved"):
        await two.get("session")
    assert await one.get("session") == {"admin": True}


async def test_a_row_that_was_moved_elsewhere_is_refused() -> None:
    memory = MemoryStore()
    kv = aes_gcm(memory, ONE)
    await kv.put("k", {"v": 1}, collection="c")
    row = await memory.get("k", collection="c") or {}
    for key, collection in (("l", "c"), ("k", "d"), ("k", None)):
        await memory.put(key, row, collection=collection)
        with pytest.raises(DecryptionError, match="moved"):
            await kv.get(key, collection=collection)
    assert await kv.get("k", collection="c") == {"v": 1}
    for default in ("default_collection", "d"):
        kv = AESGCMEncryptionWrapper(MemoryStore(default_collection=default), keys={"one": ONE}, default_collection=default)
        await kv.put("n", {"v": 2})
        assert await kv.get("n", collection=default) == {"v": 2}


async def test_several_keys_at_once_and_rotation(clock: Clock) -> None:
    clock.freeze()
    memory = MemoryStore()
    both, new = aes_gcm(memory, TWO, ONE), aes_gcm(memory, TWO)
    keys = [f"k{number}" for number in range(250)]
    await aes_gcm(memory, ONE).put_many(keys, [{"v": key} for key in keys], collection="c")
    await aes_gcm(memory, ONE).put("mortal", {"v": 1}, collection="c", ttl=60)
    await both.put("current", {"v": 2}, collection="c")
    current = await memory.get("current", collection="c")
    assert await both.get_many([*keys, "mortal"], collection="c") == [*({"v": key} for key in keys), {"v": 1}]
    with pytest.raises(DecryptionError, match="key-0"):
        await new.get("k0", collection="c")
    assert await both.rotate("c") == 251
    assert await both.rotate("c") == 0
    assert await memory.get("current", collection="c") == current
    assert await new.get_many(keys, collection="c") == [{"v": key} for key in keys]
    assert await new.ttl("mortal", collection="c") == ({"v": 1}, pytest.approx(60, abs=1e-3))


async def test_rotation_keeps_deadlines_however_long_it_takes(clock: Clock) -> None:
    clock.freeze()
    memory = MemoryStore()
    keys = [f"k{number}" for number in range(20)]
    await aes_gcm(memory, ONE).put_many(keys, [{}] * 20, ttl=100)
    start = clock.now()
    slow = ScriptedStore(memory)
    slow.before = slow.after = lambda: clock.advance(3)
    assert await aes_gcm(slow, TWO, ONE).rotate() == 15
    left = [left for _, left in await memory.ttl_many(keys)]
    assert all(one is None or one <= 100 - (clock.now() - start) for one in left)


async def test_rotating_fernet() -> None:
    memory = MemoryStore()
    await FernetEncryptionWrapper(memory, fernet=fernets(ONE)).put("k", {"v": 1})
    assert await FernetEncryptionWrapper(memory, fernet=fernets(TWO, ONE)).rotate() == 1
    assert await FernetEncryptionWrapper(memory, fernet=fernets(TWO)).get("k") == {"v": 1}


async def test_rotation_goes_on_past_what_it_can_not_read() -> None:
    memory = MemoryStore()
    await aes_gcm(memory, ONE).put_many(["a", "c"], [{"v": 1}] * 2)
    await memory.put("b", {"plain": 1})
    with pytest.raises(DecryptionError, match="not encrypted"):
        await aes_gcm(memory, TWO, ONE).rotate()
    assert await aes_gcm(memory, TWO).get_many(["a", "c"]) == [{"v": 1}] * 2
    assert await memory.get("b") == {"plain": 1}
    with pytest.raises(KeyValueOperationError, match="list its keys"):
        await aes_gcm(NullStore(), TWO).rotate()


async def test_what_is_no_json_when_decrypted_is_not_kept_in_the_error() -> None:
    kv = BaseEncryptionWrapper(MemoryStore(), lambda data: data[:-1], lambda data, _: data, 1)
    await kv.put("k", SECRET)
    with pytest.raises(DecryptionError, match="no JSON object") as caught:
        await kv.get("k")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_encrypting_can_fail() -> None:
    def fail(_: bytes) -> bytes:
        raise RuntimeError("no entropy")

    with pytest.raises(EncryptionError, match="could not be encrypted"):
        await BaseEncryptionWrapper(MemoryStore(), fail, lambda data, _: data, 1).put("k", SECRET)


@on_loops
async def test_keys_are_derived_off_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[threading.Thread] = []
    derive: Callable[..., bytes] = _ciphers._derive_key  # pyright: ignore[reportPrivateUsage] # where it runs is what counts
    go_on = threading.Event()

    def note(*args: str) -> bytes:
        derived.append(threading.current_thread())
        assert go_on.wait(10), "the loop stood still"
        return derive(*args)

    monkeypatch.setattr(_ciphers, "_derive_key", note)
    monkeypatch.setattr(_ciphers, "_PBKDF2_ITERATIONS", 1)
    kv = FernetEncryptionWrapper(MemoryStore(), source_material="secret", salt="salt")
    assert derived == []
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(kv.put, f"k{number}", {"v": 1})
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert await kv.get("k1") == {"v": 1}
    assert len(derived) == 1
    assert derived[0] is not threading.current_thread()


FERNET, AES_GCM = FernetEncryptionWrapper, AESGCMEncryptionWrapper
GIVE = "Give FernetEncryptionWrapper either fernet, or "


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [
        (FERNET, {"source_material": "x"}, ValueError, GIVE),
        (FERNET, {"salt": "x"}, ValueError, GIVE),
        (FERNET, {"source_material": " ", "salt": "x"}, ValueError, GIVE),
        (FERNET, {"source_material": "x", "salt": ""}, ValueError, GIVE),
        (FERNET, {"fernet": fernets(ONE), "salt": "x"}, ValueError, GIVE),
        (FERNET, {"fernet": fernets(ONE), "source_material": "x"}, ValueError, GIVE),
        (FERNET, {"fernet": b"k" * 32}, TypeError, r"fernet must be a Fernet or MultiFernet, not bytes; give Fernet\(key\)"),
        (AES_GCM, {"keys": {}}, ValueError, "key"),
        (AES_GCM, {"keys": {"": ONE}}, ValueError, "key"),
        (AES_GCM, {"keys": {"one": b"short"}}, ValueError, "key"),
        (AES_GCM, {"keys": {"1": "k" * 32}}, TypeError, "The key '1' must be bytes, not a str"),
        (AES_GCM, {"keys": {1: b"k" * 32}}, TypeError, "id of a key must be a str, not an int"),
        (AES_GCM, {"keys": b"k" * 32}, TypeError, "keys must be a mapping of ids to keys"),
        (BaseEncryptionWrapper, {"encryption_fn": bytes, "decryption_fn": bytes, "encryption_version": 0}, ValueError, "1 or more"),
    ],
)
def test_each_needs_a_key_and_a_version(kind: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        kind(MemoryStore(), **arguments)
    assert "short" not in str(caught.value)
    assert "k" * 32 not in str(caught.value)
