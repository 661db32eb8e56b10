"""The public names of the installed py-key-value-aio: what is not here, or not the same, is in a table of `docs/moving.md`."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_origin

import pytest

import keyvalue
import keyvalue.errors
import keyvalue.protocols
from tests import fake_winreg

aio = pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "moving.md"
EMPTY, POSITIONAL_OR_KEYWORD = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
NEITHER = (TypeVar, logging.Logger)  # details of a module, whatever they are called


def test_what_differs_is_in_the_table() -> None:
    """Each row names a module or class in its first column, and names in it in the second."""
    table = PAGE.read_text(encoding="utf-8").partition("## Every name")[2]
    said: list[str] = []
    for owners, names in re.findall(r"^\| (`[^|]*`) \| (`[^|]*`) \| [^|]+ \|$", table, re.MULTILINE):
        said += [f"{owner}.{name}" for owner in re.findall("`([^`]+)`", owners) for name in re.findall("`([^`]+)`", names)]
    assert len(said) == len(set(said))
    with fake_winreg.installed():
        assert sorted(set(differences())) == sorted(said)


def differences() -> Iterator[str]:
    for name in public_modules():
        if has_module(f"keyvalue.{name}"):
            old, new = (importlib.import_module(f"{package}.{name}") for package in ("key_value.aio", "keyvalue"))
            yield from differences_of_modules(name, old, new)
        else:
            yield name


def public_modules() -> list[str]:
    found: list[str] = []
    for module in pkgutil.walk_packages(aio.__path__, "key_value.aio.", onerror=lambda _: None):
        name = module.name.removeprefix("key_value.aio.")
        missing = not has_module(f"keyvalue.{name.rpartition('.')[0]}".rstrip("."))  # said of what it is in
        if not missing and not any(part.startswith("_") for part in name.split(".")):
            found.append(name)
    return found


def has_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def differences_of_modules(name: str, old: ModuleType, new: ModuleType) -> Iterator[str]:
    for member in public_names(old):
        theirs = getattr(old, member)
        if isinstance(theirs, NEITHER):
            continue
        if not hasattr(new, member):
            yield f"{name}.{member}"
            continue
        ours = getattr(new, member)
        assert is_class(theirs) == is_class(ours), member
        if is_class(theirs):
            yield from differences_of_classes(member, theirs, ours)
        elif inspect.isfunction(theirs):
            yield from differences_of_calls(member, theirs, ours)
        elif not callable(theirs) and theirs != ours:
            yield f"{name}.{member}"


def public_names(module: ModuleType) -> list[str]:
    """Return what a module lists, or what it defines itself."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def is_class(what: object) -> bool:
    return inspect.isclass(what) and get_origin(what) is None  # on Python 3.10, `dict[str, int]` says it is a class


def differences_of_classes(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    there, here = public_attributes(theirs), public_attributes(ours)
    yield from (f"{owner}.{attribute}" for attribute, owner in there.items() if attribute not in here)
    constructor = next(base for base in theirs.__mro__ if "__init__" in vars(base))
    yield from differences_of_calls(constructor.__name__ if is_its(constructor) else name, theirs, ours)
    for attribute in there.keys() & here.keys():
        its, own = getattr(theirs, attribute, None), getattr(ours, attribute, None)
        if inspect.isfunction(its) and inspect.isfunction(own):
            yield from differences_of_calls(f"{there[attribute]}.{attribute}", its, own)


def is_its(kind: Any) -> bool:
    return kind.__module__.startswith("key_value.")


def public_attributes(kind: Any) -> dict[str, str]:
    """Return the attributes of a class and of its objects, each with the class that has it, which may be a base of the same library."""
    found: dict[str, str] = {}
    for base in kind.__mro__:
        if is_its(base) or base.__module__.startswith("keyvalue."):
            names = {*vars(base), *vars(base).get("__annotations__", ())}
            names |= set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", inspect.getsource(base)))
            found = {name: base.__name__ for name in names if not name.startswith("_")} | found
    return found


def differences_of_calls(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    """Each parameter that it names itself is here, in the same place and with the same default; no other one is required."""
    there, here = (inspect.signature(what).parameters for what in (theirs, ours))
    named = [parameter for parameter in there.values() if parameter.kind not in VARIABLE]
    for parameter in named:
        same = here.get(parameter.name)
        if same is None or parameter.default not in (EMPTY, same.default):
            yield f"{name}.{parameter.name}="
        else:
            assert same.kind in (parameter.kind, POSITIONAL_OR_KEYWORD), f"{name}({parameter.name}=)"
    for parameter in here.values():
        if parameter.default is EMPTY and parameter.kind not in VARIABLE and parameter.name not in there:
            yield f"{name}.{parameter.name}="
    positional = [parameter.name for parameter in named if parameter.kind is POSITIONAL_OR_KEYWORD and parameter.name in here]
    assert list(here)[: len(positional)] == positional, name


def test_the_package_has_the_protocol() -> None:
    assert keyvalue.AsyncKeyValue is keyvalue.protocols.AsyncKeyValue


def test_the_errors_have_the_same_parents() -> None:
    from key_value.aio import errors as old_errors

    for name in filter(lambda name: is_class(getattr(old_errors, name)), old_errors.__all__):
        theirs, ours = getattr(old_errors, name), getattr(keyvalue.errors, name)
        for parent in theirs.__mro__[1:]:
            if parent.__module__.startswith("key_value"):
                assert issubclass(ours, getattr(keyvalue.errors, parent.__name__)), name
