"""Our stores, wrappers and adapters where py-key-value-aio's protocols are asked for, and the other way round.

Checked by mypy and by basedpyright in the nox session `types`, never run; `tests/interop/test_protocols.py` is the same with `isinstance`.
"""

from __future__ import annotations

from typing import Protocol

from key_value.aio.adapters.pydantic import PydanticAdapter as OldPydanticAdapter
from key_value.aio.protocols import key_value as old
from key_value.aio.stores.disk import DiskStore as OldDiskStore
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore
from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper as OldPrefixKeysWrapper
from typing_extensions import assert_type

from keyvalue import blocking, protocols
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.stores.base import BaseStore, EnumerableStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper


def is_theirs(kv: old.AsyncKeyValue, base: old.AsyncKeyValueProtocol) -> None: ...


class TheirListing(
    old.AsyncKeyValue,
    old.AsyncEnumerateKeysProtocol,
    old.AsyncEnumerateCollectionsProtocol,
    old.AsyncDestroyStoreProtocol,
    old.AsyncDestroyCollectionProtocol,
    old.AsyncCullProtocol,
    Protocol,
): ...


def lists_as_theirs(kv: TheirListing) -> None: ...


def is_ours(kv: protocols.AsyncKeyValue, base: protocols.AsyncKeyValueProtocol) -> None: ...


class OurListing(
    protocols.AsyncKeyValue,
    protocols.AsyncEnumerateKeysProtocol,
    protocols.AsyncEnumerateCollectionsProtocol,
    protocols.AsyncDestroyStoreProtocol,
    protocols.AsyncDestroyCollectionProtocol,
    Protocol,
): ...


def is_managed(kv: protocols.AsyncLifecycleProtocol) -> None: ...


LISTING_OF_THEIRS: type[OurListing] = OldMemoryStore


def stores(base: BaseStore, enumerable: EnumerableStore) -> None:
    """Every store derives from one of these two; that its own methods fit them is checked where it is defined."""
    is_theirs(base, enumerable)
    lists_as_theirs(enumerable)
    is_managed(base)
    lists_as_theirs(base)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def wrappers(any_wrapper: BaseWrapper, store: MemoryStore) -> None:
    is_theirs(any_wrapper, any_wrapper)
    is_managed(any_wrapper)
    OldPrefixKeysWrapper(key_value=any_wrapper, prefix="app")
    OldPrefixKeysWrapper(key_value=store, prefix="app")


async def theirs_with_ours(ours: protocols.AsyncKeyValue, theirs: old.AsyncKeyValue, base: old.AsyncKeyValueProtocol) -> None:
    is_ours(theirs, theirs)
    is_theirs(ours, ours)
    is_ours(OldMemoryStore(), OldMemoryStore())
    is_ours(OldDiskStore(directory="d"), base)
    is_ours(OldPrefixKeysWrapper(key_value=ours, prefix="app"), OldPrefixKeysWrapper(key_value=ours, prefix="app"))
    PrefixKeysWrapper(theirs, "app")
    assert_type(await PydanticAdapter(theirs, int).get("k"), int | None)
    await OldPydanticAdapter[int](key_value=ours, pydantic_model=int).put("k", 1)
    assert_type(blocking.BlockingKeyValue(theirs).delete("k"), bool)


def in_sync(managed: protocols.LifecycleProtocol) -> None:
    with managed as entered:
        assert_type(entered, protocols.LifecycleProtocol)


async def lifecycle(managed: protocols.AsyncLifecycleProtocol, facade: blocking.BlockingKeyValue, bare: protocols.AsyncKeyValue) -> None:
    async with managed as entered:
        assert_type(entered, protocols.AsyncLifecycleProtocol)
    in_sync(facade)
    is_managed(bare)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    is_managed(facade)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
