"""The types that callers of the adapters see: checked by mypy and by basedpyright in the nox session `types`, never run."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from keyvalue import blocking
from keyvalue.adapters.base_model import BaseModelAdapter
from keyvalue.adapters.dataclass import DataclassAdapter
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.protocols import AsyncKeyValue, KeyValue
from tests.typed_cases import Checked, User


async def of_models(store: AsyncKeyValue, user: User) -> None:
    users = PydanticAdapter(store, User)
    assert_type(users, PydanticAdapter[User])
    assert_type(await users.get("k"), User | None)
    assert_type(await users.get("k", collection="c", default=None), User | None)
    assert_type(await users.get("k", default=user), User)
    assert_type(await users.get_many(["k"]), list[User | None])
    assert_type(await users.get_many(["k"], default=user), list[User])
    assert_type(await users.ttl("k"), tuple[User | None, float | None])
    assert_type(await users.ttl_many(["k"]), list[tuple[User | None, float | None]])
    assert_type(await users.delete("k"), bool)
    assert_type(await users.delete_many(["k"]), int)
    await users.put("k", user, ttl=1.5)
    await users.put("k", "user")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await users.put_many(["k"], [user])
    await users.put_many(["k"], [1])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    await users.get("k", default=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


async def of_other_types(store: AsyncKeyValue, checked: Checked) -> None:
    assert_type(await PydanticAdapter(store, list[User]).get("k"), list[User] | None)
    assert_type(await PydanticAdapter(store, int).get("k", default=1), int)
    either = PydanticAdapter[int | None](store, int | None)
    assert_type(await either.get("k"), int | None)
    assert_type(await BaseModelAdapter(store, User).get("k"), User | None)
    assert_type(await BaseModelAdapter(store, list[User]).get("k"), list[User] | None)
    assert_type(await DataclassAdapter(store, Checked).get("k"), Checked | None)
    assert_type(await DataclassAdapter(store, Checked).get("k", default=checked), Checked)
    assert_type(await DataclassAdapter(store, list[Checked]).get_many(["k"]), list[list[Checked] | None])


async def of_dicts(store: AsyncKeyValue, raises: bool) -> None:
    adapter = RaiseOnMissingAdapter(store)
    assert_type(await adapter.get("k"), dict[str, Any] | None)
    assert_type(await adapter.get("k", raise_on_missing=False), dict[str, Any] | None)
    assert_type(await adapter.get("k", raise_on_missing=raises), dict[str, Any] | None)
    assert_type(await adapter.get("k", raise_on_missing=True), dict[str, Any])
    assert_type(await adapter.get_many(["k"]), list[dict[str, Any] | None])
    assert_type(await adapter.get_many(["k"], raise_on_missing=True), list[dict[str, Any]])
    assert_type(await adapter.ttl("k"), tuple[dict[str, Any] | None, float | None])
    assert_type(await adapter.ttl("k", raise_on_missing=True), tuple[dict[str, Any], float | None])
    assert_type(await adapter.ttl_many(["k"], raise_on_missing=True), list[tuple[dict[str, Any], float | None]])


def synchronous(store: KeyValue, user: User, checked: Checked) -> None:
    users = blocking.PydanticAdapter(store, User)
    assert_type(users, blocking.PydanticAdapter[User])
    assert_type(users.get("k"), User | None)
    assert_type(users.get("k", default=user), User)
    assert_type(users.get_many(["k"]), list[User | None])
    assert_type(users.get_many(["k"], default=user), list[User])
    assert_type(users.ttl("k"), tuple[User | None, float | None])
    assert_type(users.ttl_many(["k"]), list[tuple[User | None, float | None]])
    users.put("k", "user")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert_type(blocking.BaseModelAdapter(store, list[User]).get("k"), list[User] | None)
    assert_type(blocking.DataclassAdapter(store, Checked).get("k", default=checked), Checked)
    adapter = blocking.RaiseOnMissingAdapter(store)
    assert_type(adapter.get("k"), dict[str, Any] | None)
    assert_type(adapter.get("k", raise_on_missing=True), dict[str, Any])
    assert_type(adapter.get_many(["k"], raise_on_missing=True), list[dict[str, Any]])
    assert_type(adapter.ttl("k", raise_on_missing=True), tuple[dict[str, Any], float | None])
