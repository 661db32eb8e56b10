"""The real wrappers of py-key-value-aio beside this library's: each on the other's stores and stacks, and the same rows."""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography.fernet import Fernet

from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.encryption import AESGCMEncryptionWrapper
from tests import backends

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio import wrappers as old_wrappers
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore

FERNET = Fernet(Fernet.generate_key())
BIG = {"text": "la" * 5000, "nested": {"é": [1, 2.5, None, True]}}
VALUES: list[dict[str, Any]] = [{"a": 1}, {}, BIG]
MODULES = [module.name for module in pkgutil.iter_modules(old_wrappers.__path__) if module.ispkg]
MODULE_OF = {name: module for module in MODULES for name in importlib.import_module(f"key_value.aio.wrappers.{module}").__all__}


def wrap(library: str, name: str, store: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(importlib.import_module(f"{library}.wrappers.{MODULE_OF[name]}"), name)(store, *args, **kwargs)


old, new = partial(wrap, "key_value.aio"), partial(wrap, "keyvalue")


def stack(wrap: Callable[..., Any], store: Any) -> Any:
    encrypted = wrap("FernetEncryptionWrapper", wrap("SingleCollectionWrapper", store, "one", separator="::"), fernet=FERNET)
    return wrap("PrefixCollectionsWrapper", wrap("CompressionWrapper", encrypted), "app")


CROSS: dict[str, Callable[[Callable[..., Any], Any], Any]] = {
    "compression": lambda wrap, store: wrap("CompressionWrapper", store),
    "compression of everything": lambda wrap, store: wrap("CompressionWrapper", store, min_size_to_compress=0),
    "fernet": lambda wrap, store: wrap("FernetEncryptionWrapper", store, fernet=FERNET),
    "fernet from a secret": lambda wrap, store: wrap("FernetEncryptionWrapper", store, source_material="secret", salt="salt"),
    "base": lambda wrap, store: wrap("BaseEncryptionWrapper", store, lambda data: data[::-1], lambda data, _: data[::-1], 3),
    "prefix-keys": lambda wrap, store: wrap("PrefixKeysWrapper", store, "app"),
    "prefix-keys with a hyphen": lambda wrap, store: wrap("PrefixKeysWrapper", store, prefix="my-app_1"),
    "prefix-collections": lambda wrap, store: wrap("PrefixCollectionsWrapper", store, "app"),
    "prefix-collections with a default": lambda wrap, store: wrap("PrefixCollectionsWrapper", store, "app", "mine"),
    "prefix-keys with an empty prefix": lambda wrap, store: wrap("PrefixKeysWrapper", store, ""),
    "prefix-collections with an empty prefix": lambda wrap, store: wrap("PrefixCollectionsWrapper", store, ""),
    "single-collection with an empty separator": lambda wrap, store: wrap("SingleCollectionWrapper", store, "one", separator=""),
    "single-collection": lambda wrap, store: wrap("SingleCollectionWrapper", store, "one"),
    "single-collection with a separator": lambda wrap, store: wrap("SingleCollectionWrapper", store, "one", "mine", "::"),
    "a stack": stack,
}


@pytest.mark.parametrize("name", CROSS)
async def test_rows_of_either_are_read_by_the_other(name: str) -> None:
    below = MemoryStore()
    theirs, ours = (CROSS[name](wrap, below) for wrap in (old, new))
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
    assert sorted(await ours.keys("c")) == sorted(keys)


async def test_rows_that_are_encrypted_otherwise_are_refused_by_it() -> None:
    below = MemoryStore()
    await AESGCMEncryptionWrapper(below, keys={"k": bytes(32)}).put("k", {"a": 1})
    with pytest.raises(Exception, match="decrypt"):
        await old("FernetEncryptionWrapper", below, fernet=FERNET).get("k")


async def test_a_value_that_looks_compressed() -> None:
    """The predecessor stores it raw and decodes it when it is read; what ours stores of it, both read rightly."""
    value = {"__compressed_data__": "H4sIAAAAAAAC", "more": 1}
    below = MemoryStore()
    await new("CompressionWrapper", below).put("k", value)
    for wrap in (old, new):
        assert await wrap("CompressionWrapper", below).get("k") == value


ARGUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "DefaultValueWrapper": lambda: {"default_value": {}},
    "FernetEncryptionWrapper": lambda: {"fernet": FERNET},
    "FallbackWrapper": lambda: {"fallback_key_value": MemoryStore()},
    "LimitSizeWrapper": lambda: {"max_size": 10**6},
    "PassthroughCacheWrapper": lambda: {"cache_key_value": MemoryStore()},
    "PrefixCollectionsWrapper": lambda: {"prefix": "p"},
    "PrefixKeysWrapper": lambda: {"prefix": "p"},
    "SingleCollectionWrapper": lambda: {"single_collection": "s"},
    "TTLClampWrapper": lambda: {"min_ttl": 1, "max_ttl": 100},
}


def its(name: str, store: Any) -> Any:
    """Make the predecessor's wrapper of a store."""
    if name == "CollectionRoutingWrapper":
        return old(name, {"c": store}, MemoryStore())
    return old(name, store, **ARGUMENTS.get(name, dict)())


async def use(kv: Any) -> None:
    await kv.put("k", {"a": 1}, collection="c", ttl=60)
    await kv.put_many(["l", "m"], [{"b": 1}, BIG], collection="c")
    assert await kv.get("k", collection="c") == {"a": 1}
    assert await kv.get_many(["l", "m"], collection="c") == [{"b": 1}, BIG]
    value, left = await kv.ttl("k", collection="c")
    assert value == {"a": 1}
    assert 0 < left <= 60
    assert await kv.delete("k", collection="c") is True
    assert await kv.delete_many(["l", "m", "n"], collection="c") == 2


ITS = [name for name in MODULE_OF if name.endswith("Wrapper") and name not in ("BaseEncryptionWrapper", "RoutingWrapper")]


@pytest.mark.parametrize("name", ITS)
async def test_its_wrappers_take_our_stores_and_stacks(name: str) -> None:
    assert len({MODULE_OF[name] for name in ITS}) == len(MODULES) == 16
    for below in (MemoryStore(), backends.WRAPPERS["prefix-keys"](backends.WRAPPERS["compression"](MemoryStore()))):
        kv = its(name, below)
        if name == "ReadOnlyWrapper":
            assert await kv.get_many(["k"], collection="c") == [None]
        else:
            await use(kv)


@pytest.mark.parametrize("name", backends.WRAPPERS)
async def test_our_wrappers_take_its_stores_and_stacks(name: str) -> None:
    for below in (OldMemoryStore(), its("PrefixKeysWrapper", its("CompressionWrapper", OldMemoryStore()))):
        kv: Any = backends.WRAPPERS[name](below)
        async with kv:
            await use(kv)


# What else its users may rely on

RENAMED = {"PassthroughCacheWrapper": {"unwrapped_cache_key_value"}}
"""Attributes that are not here, as the page on moving says."""


@pytest.mark.parametrize("name", ITS)
def test_its_attributes_are_here(name: str) -> None:
    store = MemoryStore()
    theirs = its(name, store)
    ours = new(name, {"c": store}, store) if name == "CollectionRoutingWrapper" else new(name, store, **ARGUMENTS.get(name, dict)())
    for attribute, value in vars(theirs).items():
        if not attribute.startswith("_") and attribute not in RENAMED.get(name, ()):
            assert hasattr(ours, attribute), attribute
            if isinstance(value, str | int | float):
                assert getattr(ours, attribute) == value, attribute


LOGGED: list[Callable[[Any], Any]] = [
    lambda kv: kv.put("k", {"a": 1}, ttl=10),
    lambda kv: kv.put_many(["l", "m"], [{"b": 1}, {}], collection="c"),
    lambda kv: kv.get("k"),
    lambda kv: kv.get("missing"),
    lambda kv: kv.ttl("missing"),
    lambda kv: kv.get_many(["l", "missing"], collection="c"),
    lambda kv: kv.ttl_many(["l", "missing"], collection="c"),
    lambda kv: kv.delete("k"),
    lambda kv: kv.delete("k"),
    lambda kv: kv.delete_many(["l", "m", "missing"], collection="c"),
]


async def test_structured_logs_have_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    records: list[list[dict[str, Any]]] = []
    for wrap in (old, new):
        kv = wrap("LoggingWrapper", MemoryStore(), structured_logs=True, log_values=True)
        caplog.clear()
        for call in LOGGED:
            await call(kv)
        records.append([json.loads(record.getMessage()) for record in caplog.records])
    theirs, ours = records
    assert len(theirs) == len(ours) == 2 * len(LOGGED)
    for their, our in zip(theirs, ours, strict=True):
        extra = their.pop("extra", {})
        assert {name: our[name] for name in their} == their
        # It repeats the keys of bulk calls there.
        assert {name: our["extra"][name] for name in extra if name != "keys"} == {name: extra[name] for name in extra if name != "keys"}
