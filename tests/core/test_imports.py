"""What importing does, what may import what, and what is there to import."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import typing
from contextlib import suppress
from pathlib import Path

import pytest

import keyvalue
from keyvalue import protocols
from keyvalue._core.extras import needs
from keyvalue._core.lazy import owners_of
from keyvalue.protocols import key_value
from tests.interpreter import run_fresh

ROOT = Path(keyvalue.__file__).parent
SYNCHRONOUS = ROOT / "adapters" / "_blocking.py"
"""Part of `keyvalue.blocking`, which is above all adapters."""


def test_importing_pulls_in_no_client_and_installs_no_hook() -> None:
    program = """
import sys
before = list(sys.meta_path), list(sys.path_hooks)
import keyvalue, keyvalue.protocols, keyvalue.protocols.key_value, keyvalue.errors
assert "orjson" not in sys.modules
import keyvalue.stores, keyvalue.stores.base, keyvalue.stores.memory, keyvalue.wrappers.base, keyvalue.blocking
assert (list(sys.meta_path), list(sys.path_hooks)) == before
print(sorted({"anyio", "trio", "beartype", "redis", "diskcache", "rocksdict", "pydantic", "sqlite3"} & set(sys.modules)))
"""
    assert run_fresh(program) == "[]"


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("_core", {"_core", "protocols", "errors"}),
        ("protocols", {"protocols"}),
        ("stores", {"_core", "protocols", "errors"}),
        ("wrappers", {"_core", "protocols", "errors"}),
        ("adapters", {"_core", "protocols", "errors"}),
    ],
)
def test_imports_point_one_way_and_only_the_core_knows_a_runtime(folder: str, allowed: set[str]) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for module in re.findall(r"^ *(?:from|import) keyvalue\b\.?(\S*)", text, re.MULTILINE):
            # Modules that several stores may share are private.
            own = f"{folder}." if path.name == "__init__.py" or path == SYNCHRONOUS else f"{folder}._"
            assert module.split(".")[0] in allowed or module.startswith(own), f"{path}: {module}"
        if folder in ("stores", "wrappers") and path.name not in ("memcached_async.py", "redis_client.py"):  # of clients rather than stores
            assert "import asyncio" not in text.replace("import redis.asyncio", ""), path
            assert "import trio" not in text, path


def test_the_names_of_the_package() -> None:
    """That those of every module are there is for `tests/test_release.py` to see."""
    assert sorted(keyvalue.__all__) == ["AsyncKeyValue", "KeyValue", "KeyValueError", "__version__"]


@pytest.mark.parametrize("package", ["keyvalue", "keyvalue.stores", "keyvalue.wrappers", "keyvalue.adapters"])
def test_names_that_are_imported_when_asked_for(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))  # what type checkers see
    typed = {(alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    lazy = set(owners_of(package, vars(module)["_MODULES"]))
    assert {name for name, _ in typed} == lazy
    assert lazy <= set(dir(module))
    for name, owner in typed:
        assert owner is not None
        with suppress(ImportError):  # an extra that is not installed
            assert getattr(module, name) is getattr(importlib.import_module(owner), name)
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from {package} import Nonsense")


def test_a_name_imports_its_own_client_only() -> None:
    program = """
import sys
from keyvalue import MemoryStore
from keyvalue.stores import SimpleStore
from keyvalue.wrappers import RetryWrapper
from keyvalue.adapters import RaiseOnMissingAdapter
import keyvalue
assert keyvalue.stores.memory.MemoryStore is MemoryStore
print(sorted({"anyio", "trio", "redis", "diskcache", "rocksdict", "pydantic", "sqlite3", "cryptography"} & set(sys.modules)))
"""
    assert run_fresh(program) == "[]"


@pytest.mark.parametrize(
    ("older", "name"),
    [
        ("stores.memory.store", "MemoryStore"),
        ("wrappers.retry.wrapper", "RetryWrapper"),
        ("wrappers.routing.collection_routing", "CollectionRoutingWrapper"),
        ("adapters.raise_on_missing.adapter", "RaiseOnMissingAdapter"),
        ("errors.key_value", "MissingKeyError"),
    ],
)
def test_modules_have_the_deeper_names_of_py_key_value_aio(older: str, name: str) -> None:
    module = older.rpartition(".")[0]
    program = f"""
import sys, keyvalue
for other in list(sys.modules.values()):
    hasattr(other, "__file__"), getattr(other, "__path__", None), getattr(other, "__wrapped__", None)
assert not {{"keyvalue.stores.memory", "keyvalue.wrappers.retry"}} & set(sys.modules)
import keyvalue.{older} as deeper
from keyvalue.{older} import {name}
from keyvalue.{module} import {name} as same
assert same is {name} is deeper.{name}
import importlib.util
assert importlib.util.find_spec("keyvalue.{older}").name == "keyvalue.{older}"
from unittest import mock
with mock.patch("keyvalue.{older}.{name}", 1):
    import keyvalue.{module} as real
    assert real.{name} == 1
assert real.{name} is same and "{name}" in dir(deeper)
"""
    assert run_fresh(program) == ""


@pytest.mark.parametrize("name", [name for name in key_value.__all__ if name.startswith("Async")])
def test_async_and_sync_protocols_have_the_same_methods(name: str) -> None:
    asynchronous, synchronous = getattr(key_value, name), getattr(key_value, name.removeprefix("Async"))
    assert getattr(protocols, name) is asynchronous
    public = {method for method in dir(asynchronous) if not method.startswith("_")}
    members = typing.get_protocol_members(asynchronous) if sys.version_info >= (3, 13) else asynchronous.__abstractmethods__ | public
    for method in members:
        one, other = getattr(asynchronous, method), getattr(synchronous, method.replace("__a", "__"))
        assert inspect.iscoroutinefunction(one)
        assert not inspect.iscoroutinefunction(other)
        assert inspect.signature(one) == inspect.signature(other)
        assert one.__doc__ == other.__doc__


def test_a_missing_client_names_the_command_that_installs_it() -> None:
    with (
        pytest.raises(ImportError, match=r"keyvalue's extra 'redis'; install it with: pip install 'redis>=[\d.]+'$") as caught,
        needs("redis"),
    ):
        import no_such_module  # pyright: ignore[reportMissingImports, reportUnusedImport]  # noqa: F401
    assert caught.value.name == "no_such_module"
