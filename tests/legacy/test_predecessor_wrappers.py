"""The real wrappers of py-key-value-aio beside this library's: the same names, each on the other's stores, and the same rows."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet

from keyvalue.errors import DecryptionError
from keyvalue.stores.memory import MemoryStore
from tests import backends

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio import wrappers as old_wrappers
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore

MODULES = [module.name for module in pkgutil.iter_modules(old_wrappers.__path__) if module.ispkg]
FERNET = Fernet(Fernet.generate_key())
BIG = {"text": "la" * 5000, "nested": {"é": [1, 2.5, None, True]}}
VALUES: list[dict[str, Any]] = [{"a": 1}, {}, BIG]


def old(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"key_value.aio.wrappers.{module}"), name)


def new(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"keyvalue.wrappers.{module}"), name)


def test_all_seventeen_are_compared() -> None:
    assert len(MODULES) == 16  # two of them are in one package
    assert {"compression", "encryption", "passthrough_cache", "routing"} < set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_names_and_parameters_are_the_same(module: str) -> None:
    for name in importlib.import_module(f"key_value.aio.wrappers.{module}").__all__:
        theirs, ours = old(module, name), new(module, name)
        if not inspect.isclass(theirs):
            continue
        assert name in importlib.import_module(f"keyvalue.wrappers.{module}").__all__
        old_parameters, new_parameters = (list(inspect.signature(kind).parameters.values()) for kind in (theirs, ours))
        positional = [parameter.name for parameter in old_parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        assert [parameter.name for parameter in new_parameters][: len(positional)] == positional
        assert {parameter.name for parameter in old_parameters} <= {parameter.name for parameter in new_parameters}
        required = {parameter.name for parameter in old_parameters if parameter.default is parameter.empty}
        assert {parameter.name for parameter in new_parameters if parameter.default is parameter.empty} == required


Wrap = Callable[[Any, Callable[[str, str], Any]], Any]


def stack(store: Any, kind: Callable[[str, str], Any]) -> Any:
    single = kind("single_collection", "SingleCollectionWrapper")(store, "one", separator="::")
    encrypted = kind("encryption", "FernetEncryptionWrapper")(single, fernet=FERNET)
    return kind("prefix_collections", "PrefixCollectionsWrapper")(kind("compression", "CompressionWrapper")(encrypted), "app")


CROSS: dict[str, Wrap] = {
    "compression": lambda store, kind: kind("compression", "CompressionWrapper")(store),
    "compression of everything": lambda store, kind: kind("compression", "CompressionWrapper")(store, min_size_to_compress=0),
    "fernet": lambda store, kind: kind("encryption", "FernetEncryptionWrapper")(store, fernet=FERNET),
    "fernet from a secret": lambda store, kind: kind("encryption", "FernetEncryptionWrapper")(store, source_material="secret", salt="salt"),
    "base": lambda store, kind: kind("encryption", "BaseEncryptionWrapper")(store, lambda data: data[::-1], lambda data, _: data[::-1], 3),
    "prefix-keys": lambda store, kind: kind("prefix_keys", "PrefixKeysWrapper")(store, "app"),
    "prefix-keys with a hyphen": lambda store, kind: kind("prefix_keys", "PrefixKeysWrapper")(store, prefix="my-app_1"),
    "prefix-collections": lambda store, kind: kind("prefix_collections", "PrefixCollectionsWrapper")(store, "app"),
    "prefix-collections with a default": lambda store, kind: kind("prefix_collections", "PrefixCollectionsWrapper")(store, "app", "mine"),
    "single-collection": lambda store, kind: kind("single_collection", "SingleCollectionWrapper")(store, "one"),
    "single-collection with a separator": lambda store, kind: kind("single_collection", "SingleCollectionWrapper")(
        store, "one", "mine", "::"
    ),
    "a stack": lambda store, kind: stack(store, kind),
}


@pytest.mark.parametrize("wrap", CROSS.values(), ids=CROSS)
@pytest.mark.parametrize("store", [MemoryStore, OldMemoryStore], ids=["on our store", "on its store"])
async def test_rows_of_either_are_read_by_the_other(wrap: Wrap, store: Callable[[], Any]) -> None:
    below = store()
    theirs, ours = wrap(below, old), wrap(below, new)
    keys = ["k", "with__two", "é/😀"]
    for writer, reader in ((theirs, ours), (ours, theirs)):
        for collection in (None, "c", "users-1"):
            await writer.put_many(keys, VALUES, collection=collection, ttl=600)
            assert await reader.get_many(keys, collection=collection) == VALUES
            await writer.put("k", BIG, collection=collection, ttl=60)
            value, left = await reader.ttl("k", collection=collection)
            assert value == BIG
            assert 50 < left <= 60
            assert await reader.delete("k", collection=collection) is True
            assert await writer.get("k", collection=collection) is None
    await theirs.put("k", {}, collection="c")
    listed = await ours.keys("c") if isinstance(below, MemoryStore) else None
    assert listed is None or sorted(listed) == sorted(keys)


async def test_names_that_it_mixes_up_are_not_shared() -> None:
    """Where the predecessor's joined name may mean several pairs, ours is another one."""
    below = MemoryStore()
    theirs, ours = (kind("prefix_keys", "PrefixKeysWrapper")(below, "a__b") for kind in (old, new))
    await theirs.put("c", {"of": "theirs"})
    assert await ours.get("c") is None
    await ours.put("c", {"of": "ours"})
    assert await theirs.get("c") == {"of": "theirs"}
    assert sorted(await ours.keys()) == ["c"]


LEGACY: dict[str, Callable[[Any], Any]] = {
    **{f"prefix-keys {name}": lambda kind, name=name: kind("prefix_keys", "PrefixKeysWrapper", name) for name in ("app_", "my__app")},
    **{
        f"prefix-collections {name}": lambda kind, name=name: kind("prefix_collections", "PrefixCollectionsWrapper", name)
        for name in ("app_", "my__app")
    },
    "single-collection": lambda kind: kind("single_collection", "SingleCollectionWrapper", "one"),
}


@pytest.mark.parametrize("make", LEGACY.values(), ids=LEGACY)
async def test_names_that_it_mixes_up_are_found_on_request(make: Callable[[Any], Any]) -> None:
    below = MemoryStore()
    theirs = make(lambda module, name, first: old(module, name)(below, first))
    ours = make(lambda module, name, first: new(module, name)(below, first, legacy_names=True))
    for writer, reader in ((theirs, ours), (ours, theirs)):
        for collection in ("c", "users_", "a__b"):
            await writer.put("k", {"by": repr(writer), "in": collection}, collection=collection)
            assert await reader.get("k", collection=collection) == {"by": repr(writer), "in": collection}
            assert "k" in await ours.keys(collection)


async def test_it_refuses_rows_of_aes_gcm() -> None:
    below = MemoryStore()
    await new("encryption", "AESGCMEncryptionWrapper")(below, keys={"k": bytes(32)}).put("k", {"a": 1})
    with pytest.raises(Exception, match="decrypt"):
        await old("encryption", "FernetEncryptionWrapper")(below, fernet=FERNET).get("k")


async def test_its_plaintext_rows_beside_encrypted_ones() -> None:
    below = MemoryStore()
    theirs = old("encryption", "FernetEncryptionWrapper")(below, fernet=FERNET)
    await below.put("plain", {"a": 1})
    await theirs.put("secret", {"a": 2})
    assert await theirs.get_many(["plain", "secret"]) == [{"a": 1}, {"a": 2}]
    kind = new("encryption", "FernetEncryptionWrapper")
    with pytest.raises(DecryptionError):
        await kind(below, fernet=FERNET).get("plain")
    assert await kind(below, fernet=FERNET, allow_plaintext=True).get_many(["plain", "secret"]) == [{"a": 1}, {"a": 2}]


async def test_a_value_that_looks_compressed() -> None:
    """The predecessor stores it raw and decodes it when it is read; what ours stores of it, both read rightly."""
    value = {"__compressed_data__": "H4sIAAAAAAAC", "more": 1}
    below = MemoryStore()
    theirs, ours = (kind("compression", "CompressionWrapper")(below) for kind in (old, new))
    await ours.put("k", value)
    assert await ours.get("k") == value
    assert await theirs.get("k") == value


OLD: dict[str, Callable[[Any], Any]] = {
    "compression": lambda store: old("compression", "CompressionWrapper")(store),
    "default_value": lambda store: old("default_value", "DefaultValueWrapper")(store, {}),
    "encryption": lambda store: old("encryption", "FernetEncryptionWrapper")(store, fernet=FERNET),
    "fallback": lambda store: old("fallback", "FallbackWrapper")(store, MemoryStore()),
    "limit_size": lambda store: old("limit_size", "LimitSizeWrapper")(store, max_size=10**6),
    "logging": lambda store: old("logging", "LoggingWrapper")(store),
    "passthrough_cache": lambda store: old("passthrough_cache", "PassthroughCacheWrapper")(store, MemoryStore()),
    "prefix_collections": lambda store: old("prefix_collections", "PrefixCollectionsWrapper")(store, "p"),
    "prefix_keys": lambda store: old("prefix_keys", "PrefixKeysWrapper")(store, "p"),
    "read_only": lambda store: old("read_only", "ReadOnlyWrapper")(store),
    "retry": lambda store: old("retry", "RetryWrapper")(store),
    "routing": lambda store: old("routing", "CollectionRoutingWrapper")({"c": store}, MemoryStore()),
    "single_collection": lambda store: old("single_collection", "SingleCollectionWrapper")(store, "s"),
    "statistics": lambda store: old("statistics", "StatisticsWrapper")(store),
    "timeout": lambda store: old("timeout", "TimeoutWrapper")(store),
    "ttl_clamp": lambda store: old("ttl_clamp", "TTLClampWrapper")(store, 1, 100),
}


def test_no_wrapper_of_its_is_left_out() -> None:
    assert sorted(OLD) == sorted(MODULES)


async def use(kv: Any, *, writes: bool = True) -> None:
    if not writes:
        assert await kv.get_many(["k"], collection="c") == [None]
        return
    await kv.put("k", {"a": 1}, collection="c", ttl=60)
    await kv.put_many(["l", "m"], [{"b": 1}, BIG], collection="c")
    assert await kv.get("k", collection="c") == {"a": 1}
    assert await kv.get_many(["l", "m"], collection="c") == [{"b": 1}, BIG]
    value, left = await kv.ttl("k", collection="c")
    assert value == {"a": 1}
    assert 0 < left <= 60
    assert await kv.delete("k", collection="c") is True
    assert await kv.delete_many(["l", "m", "n"], collection="c") == 2


@pytest.mark.parametrize("name", MODULES)
async def test_its_wrappers_take_our_stores_and_stacks(name: str) -> None:
    for below in (MemoryStore(), backends.WRAPPERS["prefix-keys"](backends.WRAPPERS["compression"](MemoryStore()))):
        await use(OLD[name](below), writes=name != "read_only")


@pytest.mark.parametrize("name", backends.WRAPPERS)
async def test_our_wrappers_take_its_stores_and_stacks(name: str) -> None:
    for below in (OldMemoryStore(), OLD["prefix_keys"](OLD["compression"](OldMemoryStore()))):
        async with backends.WRAPPERS[name](below) as kv:  # type: ignore[attr-defined] # pyright: ignore[reportGeneralTypeIssues]
            await use(kv)
