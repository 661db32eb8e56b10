"""Mistakes with WindowsRegistryStore, over the fake registry: the hive, the path, rights, and what lies there."""

# pyright: reportArgumentType=false, reportCallIssue=false
# Wrong arguments are what these tests are about.

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from keyvalue.errors import DeserializationError, StoreClosedError, StoreConnectionError, StoreRefusedError, ValueTooLargeError
from tests import fake_winreg
from tests.messages import Mistake, check

with fake_winreg.installed():
    from keyvalue.stores import windows_registry as module
    from keyvalue.stores._drivers import windows_registry as driver

WindowsRegistryStore: Any = module.WindowsRegistryStore
PATH = "Software\\keyvalue-tests-of-messages"
pytestmark = pytest.mark.filterwarnings("ignore:WindowsRegistryStore:UserWarning")  # which say less than the errors do


async def without_rights(hive: str, call: Callable[[Any], Any]) -> None:
    store = WindowsRegistryStore(hive=hive, registry_path=PATH)
    await store.put("k", {"a": "secret-text"})
    with fake_winreg.deny(getattr(fake_winreg, hive), f"{PATH}\\default_collection", fake_winreg.KEY_ALL_ACCESS & ~0x20000):
        await call(store)


async def with_error(number: int) -> None:
    store = WindowsRegistryStore(registry_path=PATH)
    with patch.object(fake_winreg, "SetValueEx", side_effect=fake_winreg.failure(number)):
        await store.put("k", {"a": "secret-text"})


async def put_large() -> None:
    with patch.object(driver, "_LARGEST", 1000):
        await WindowsRegistryStore(registry_path=PATH).put("k", {"a": "secret-text" * 1000})


async def read_what_another_program_wrote() -> None:
    with fake_winreg.CreateKeyEx(fake_winreg.HKEY_CURRENT_USER, f"{PATH}\\c") as key:
        fake_winreg.SetValueEx(key, "k", 0, fake_winreg.REG_SZ, "secret-text")
    await WindowsRegistryStore(registry_path=PATH).get("k", collection="c")


async def use_closed() -> None:
    store = WindowsRegistryStore(registry_path=PATH)
    await store.close()
    await store.get("k")


HIVES = ['"HKEY_CURRENT_USER" or "HKEY_LOCAL_MACHINE"']
WITHOUT = ["No registry_path can be", "without the hive, without \\ at its ends"]
REGISTRY = [
    Mistake("a hive by its short name", lambda: WindowsRegistryStore(hive="HKCU"), ValueError, HIVES),
    Mistake("another hive", lambda: WindowsRegistryStore(hive="HKEY_USERS"), ValueError, HIVES),
    Mistake("a hive that is a number", lambda: WindowsRegistryStore(hive=0x80000001), ValueError, HIVES),
    Mistake("a path that starts with a backslash", lambda: WindowsRegistryStore(registry_path="\\Software"), ValueError, WITHOUT),
    Mistake("a path that ends with a backslash", lambda: WindowsRegistryStore(registry_path="Software\\"), ValueError, WITHOUT),
    Mistake("two backslashes", lambda: WindowsRegistryStore(registry_path="Software\\\\x"), ValueError, ["No registry_path can be"]),
    Mistake("too deep a path", lambda: WindowsRegistryStore(registry_path="\\".join("a" * 40)), ValueError, ["at most 31 levels deep"]),
    Mistake("another argument", lambda: WindowsRegistryStore(path=PATH), TypeError, ["'path'", "it takes by name: hive, registry_path"]),
    Mistake(
        "a strategy that is a class",
        lambda: WindowsRegistryStore(collection_sanitization_strategy=module.WindowsRegistryV1CollectionSanitizationStrategy),
        TypeError,
        ["collection_sanitization_strategy must be an object with a method sanitize"],
    ),
    *(
        Mistake(
            f"no rights in {hive}, {name}",
            lambda hive=hive, call=call: without_rights(hive, call),
            StoreRefusedError,
            [says, f"{hive}\\{PATH}"],
            not_says,
            ["secret-text"],
        )
        for name, call in {"put": lambda kv: kv.put("k", {"a": "secret-text"}), "get": lambda kv: kv.get("k")}.items()
        for hive, says, not_says in (
            ("HKEY_CURRENT_USER", "has no rights to that key of the registry; change its permissions", ["administrators"]),
            ("HKEY_LOCAL_MACHINE", "only administrators may write to HKEY_LOCAL_MACHINE", []),
        )
    ),
    Mistake("no memory", lambda: with_error(14), StoreConnectionError, ["no memory left", PATH], ["rights"], ["secret-text"]),
    Mistake("another error", lambda: with_error(1009), StoreRefusedError, ["the registry refused", PATH], [], ["secret-text"]),
    Mistake("too large a value", put_large, ValueTooLargeError, ["larger than the backend takes", "size: ", "key: k"], [], ["secret-text"]),
    Mistake(
        "what another program wrote",
        read_what_another_program_wrote,
        DeserializationError,
        ["can't be read", "key: k"],
        [],
        ["secret-text"],
    ),
    Mistake("a closed store", use_closed, StoreClosedError, ["WindowsRegistryStore is closed; make a new one"]),
]


@pytest.mark.parametrize("mistake", REGISTRY, ids=lambda mistake: mistake.name)
def test_registry(mistake: Mistake) -> None:
    check(mistake)
