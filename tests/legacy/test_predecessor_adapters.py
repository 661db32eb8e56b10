"""The real adapters of py-key-value-aio beside this library's: the same rows, each on the other's stores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from keyvalue.adapters.base_model import BaseModelAdapter
from keyvalue.adapters.dataclass import DataclassAdapter
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.errors import MissingKeyError
from keyvalue.stores.memory import MemoryStore
from tests.typed_cases import KEPT, Aliased, Area, Areas, Cat, Login, Node, Numbers, Outer, User

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio.adapters.base_model import BaseModelAdapter as OldBaseModelAdapter
from key_value.aio.adapters.dataclass import DataclassAdapter as OldDataclassAdapter
from key_value.aio.adapters.pydantic import PydanticAdapter as OldPydanticAdapter
from key_value.aio.adapters.raise_on_missing import RaiseOnMissingAdapter as OldRaiseOnMissingAdapter
from key_value.aio.errors import MissingKeyError as OldMissingKeyError
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore


class Place(BaseModel):
    kind: Literal["place"] = "place"
    area: Area


class Owners(BaseModel):
    pet: Annotated[Cat | Place, Field(discriminator="kind")]


# What it can't read back, or not as it was, even when it wrote the row itself (H-19 in its list of faults), or can't write.
ITS_FAULTS = {
    "it loads by alias what it stored by name": (
        "aliases",
        "aliases that are names of others",
        "a list of such",
        "a dict of such aliases",
        "an alias that is a name, no extras",
    ),
    "it stores what the model forbids": ("computed field, no extras", "nested computed fields"),
    "it stores asterisks": ("SecretStr", "secrets everywhere", "bare SecretStr", "list of SecretBytes"),
    "it takes None for a missing key": ("Optional, None", "Optional model, None", "None"),
    "it fails on bytes that are no text": (
        "generic of bytes",
        "nested dataclasses",
        "dataclass",
        "bytes that are no text",
        "bytes everywhere",
        "set of bytes",
    ),
    "it loads from Python's types, to which a date is another member, base64 is text, and integers have a limit": (
        "union of dates",
        "bytes in base64",
        "large integer",
    ),
    "it stores what it does not load": ("JSON",),
    "such a dict is stored escaped": ("a dict like marked bytes", "a dict like escaped marked bytes"),
}
SHARED = [case for case in KEPT if not any(case in cases for cases in ITS_FAULTS.values())]


@pytest.mark.parametrize("case", SHARED)
async def test_rows_of_either_are_read_by_the_other(case: str) -> None:
    kind, value = KEPT[case]
    for below in (MemoryStore(), OldMemoryStore()):
        theirs, ours = OldPydanticAdapter(below, kind), PydanticAdapter(below, kind)
        for writer, reader in ((theirs, ours), (ours, theirs)):
            await writer.put("k", value, ttl=60)
            assert await reader.get("k") == value
            found, left = await reader.ttl("k")
            assert found == value
            assert left is not None
            assert 50 < left <= 60
            await writer.put_many(["a", "b"], [value, value], collection="c")
            assert await reader.get_many(["a", "b"], collection="c") == [value, value]
            assert await reader.delete("k") is True


async def test_base_models_and_dataclasses() -> None:
    outer = Outer(KEPT["nested dataclasses"][1].inner.__class__(KEPT["naive time"][1]))
    cases: list[tuple[Any, Any, Any, Any]] = [
        (OldBaseModelAdapter, BaseModelAdapter, User, User(name="Ada")),
        (OldBaseModelAdapter, BaseModelAdapter, list[User], [User(name="Ada")]),
        (OldBaseModelAdapter, BaseModelAdapter, Node, KEPT["recursive"][1]),
        (OldDataclassAdapter, DataclassAdapter, Outer, outer),
        (OldDataclassAdapter, DataclassAdapter, list[Outer], [outer]),
    ]
    for below in (MemoryStore(), OldMemoryStore()):
        for old, new, kind, value in cases:
            theirs, ours = old(below, kind), new(below, kind)
            for writer, reader in ((theirs, ours), (ours, theirs)):
                await writer.put("k", value)
                assert await reader.get("k") == value
                assert await reader.delete("k") is True


async def test_it_is_read_where_it_can_not_read_itself() -> None:
    below: Any = MemoryStore()
    cases = ["aliases", "computed field, no extras", "nested computed fields", "Optional, None"]
    for kind, value in (*(KEPT[case] for case in cases), (Owners, Owners(pet=Place(area=Area(width=1, height=1))))):
        theirs: Any = OldPydanticAdapter(below, kind)
        ours: Any = PydanticAdapter(below, kind)
        missing = object()
        await theirs.put("k", value)
        assert await theirs.get("k", default=missing) in (missing, None)
        assert await ours.get("k", default=missing) == value
    for case in ("aliases that are names of others", "a dict of such aliases", "an alias that is a name, no extras"):
        kind, value = KEPT[case]
        await OldPydanticAdapter(below, kind).put("k", value)
        assert await PydanticAdapter(below, kind).get("k") == value


async def test_its_faults_are_faults() -> None:
    for kind, value in (KEPT["SecretStr"], KEPT["bytes that are no text"]):
        theirs = OldPydanticAdapter(MemoryStore(), kind)
        try:
            await theirs.put("k", value)
        except UnicodeDecodeError:
            continue
        assert await theirs.get("k") != value
    assert {kind for kind, _ in KEPT.values()} >= {Aliased, Area, Areas, Login}
    with pytest.raises((TypeError, UserWarning)):  # it warns first, which is an error here
        await OldBaseModelAdapter(MemoryStore(), Numbers).put("k", Numbers([1]))


async def test_raise_on_missing() -> None:
    for kind, error in ((RaiseOnMissingAdapter, MissingKeyError), (OldRaiseOnMissingAdapter, OldMissingKeyError)):
        for store in (MemoryStore(), OldMemoryStore()):
            adapter: Any = kind(store)
            await adapter.put("k", {"a": 1})
            assert await adapter.get("k", raise_on_missing=True) == {"a": 1}
            with pytest.raises(error, match="missing"):
                await adapter.get("missing", collection="c", raise_on_missing=True)
