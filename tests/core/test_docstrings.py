"""What an editor shows of a method: the methods of the protocols are documented in full on whatever has them."""

from __future__ import annotations

import inspect
import re
import types
from abc import ABCMeta
from typing import Any, Generic, TypeVar

import pytest

from keyvalue._core.capabilities import ALL
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.blocking import BlockingKeyValue
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import BaseWrapper
from tests.fake_winreg import installed
from tests.site import public_modules

METHODS = ("get", "ttl", "put", "delete", "get_many", "ttl_many", "put_many", "delete_many")
MODULES = sorted(name for name in public_modules() if re.fullmatch(r"keyvalue\.((stores|wrappers|adapters)\.\w+|blocking)", name))


def check_docstring(owner: object, name: str) -> None:
    """Fail unless a method's docstring has a section for each of its parameters, for what it returns, and for what it raises."""
    method = getattr(owner, name)
    text = inspect.getdoc(method) or ""
    signature = inspect.signature(method)
    for parameter in signature.parameters:
        assert parameter == "self" or re.search(rf"^    {parameter}: ", text, re.MULTILINE), (owner, name, parameter)
    sections = re.findall(r"^(Args|Returns|Raises):$", text, re.MULTILINE)
    returns = ["Returns"] if signature.return_annotation not in ("None", None) else []
    assert [section for section in sections if section != "Args"] == [*returns, "Raises"], (owner, name)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_documents_the_eight_methods(module: str) -> None:
    with installed():
        imported: Any = pytest.importorskip(module, exc_type=ImportError)
    kinds = [kind for name in imported.__all__ if isinstance(kind := getattr(imported, name), type) and hasattr(kind, "put_many")]
    assert kinds
    for kind in kinds:
        for name in (*METHODS, *ALL):
            if name in METHODS or hasattr(kind, name):
                check_docstring(kind, name)


@pytest.mark.parametrize("name", sorted(ALL))
def test_optional_methods_are_documented_wherever_they_are(name: str) -> None:
    owners = (MemoryStore(), BaseWrapper(MemoryStore()), BlockingKeyValue(MemoryStore()))
    for owner in owners:
        check_docstring(owner, name)
    assert len({inspect.getdoc(getattr(owner, name)) for owner in owners}) == 1


@pytest.mark.parametrize("owner", [MemoryStore, BaseWrapper, BlockingKeyValue])
@pytest.mark.parametrize("name", ["setup", "close"])
def test_opening_and_closing_are_documented(owner: Any, name: str) -> None:
    assert inspect.getdoc(getattr(owner, name))


T = TypeVar("T")


@pytest.mark.parametrize("kind", [MemoryStore, BaseWrapper, BlockingKeyValue, RaiseOnMissingAdapter])
def test_docstrings_cost_no_freedom_to_combine_classes(kind: type[Any]) -> None:
    """Classes that derived from a protocol would have its metaclass, and could follow neither it nor `Generic` among the bases."""

    class Meta(ABCMeta):
        pass

    class Other(metaclass=Meta):
        pass

    generic: Any = Generic
    for bases in ((Other, kind), (generic[T], kind), (AsyncKeyValue, kind)):
        with_bases: Any = types.new_class("Combined", bases)
        assert issubclass(with_bases, kind)
    combined: Any = types.new_class("Combined", (Other, kind))
    if kind is not MemoryStore:
        assert combined(MemoryStore()).get
