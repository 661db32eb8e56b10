"""The real adapters of py-key-value-aio beside this library's: the same rows, each on the other's stores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from keyvalue.adapters.base_model import BaseModelAdapter
from keyvalue.adapters.dataclass import DataclassAdapter
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.stores.memory import MemoryStore
from tests.typed_cases import KEPT, Area, Cat, Node, Outer, User

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio.adapters.base_model import BaseModelAdapter as OldBaseModelAdapter
from key_value.aio.adapters.dataclass import DataclassAdapter as OldDataclassAdapter
from key_value.aio.adapters.pydantic import PydanticAdapter as OldPydanticAdapter
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
OUTER = Outer(KEPT["nested dataclasses"][1].inner.__class__(KEPT["naive time"][1]))
SHARED: dict[str, tuple[Any, Any, Any, Any]] = {
    **{
        case: (OldPydanticAdapter, PydanticAdapter, kind, value)
        for case, (kind, value) in KEPT.items()
        if not any(case in cases for cases in ITS_FAULTS.values())
    },
    "BaseModelAdapter": (OldBaseModelAdapter, BaseModelAdapter, User, User(name="Ada")),
    "BaseModelAdapter, list": (OldBaseModelAdapter, BaseModelAdapter, list[User], [User(name="Ada")]),
    "BaseModelAdapter, recursive": (OldBaseModelAdapter, BaseModelAdapter, Node, KEPT["recursive"][1]),
    "DataclassAdapter": (OldDataclassAdapter, DataclassAdapter, Outer, OUTER),
    "DataclassAdapter, list": (OldDataclassAdapter, DataclassAdapter, list[Outer], [OUTER]),
}


@pytest.mark.parametrize("case", SHARED)
async def test_rows_of_either_are_read_by_the_other(case: str) -> None:
    old, new, kind, value = SHARED[case]
    for below in (MemoryStore(), OldMemoryStore()):
        theirs, ours = old(below, kind), new(below, kind)
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
