"""The strategies for names, against the real predecessor's."""

from __future__ import annotations

import string
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyvalue._core.layout import KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError
from keyvalue.stores import filetree
from keyvalue.stores._drivers.elasticsearch import IndexLayout
from keyvalue.stores.elasticsearch import ElasticsearchStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.keyring import KeyringStore
from keyvalue.stores.memcached import MemcachedStore
from keyvalue.stores.mongodb import MongoDBStore
from tests import fake_winreg
from tests.fake_keyrings import FakeKeyring

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio._utils import sanitization as old_sanitization
from key_value.aio.errors import InvalidKeyError as OldInvalidKeyError
from key_value.aio.stores import filetree as old_filetree

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*violates type hint:UserWarning"),  # its hints are narrower than what it takes
    pytest.mark.filterwarnings("ignore:.*_sanitization_strategy should be:UserWarning"),  # what is no strategy
]

names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.text("ab_-/é.", min_size=1, max_size=300),
    st.sampled_from(["H_x", "S_x", "/", "//", "..", "https://example.com/?client=1", "0b7a2a0e-6f5e-4c57-b3f1-0d1a2c3b4d5e", "a" * 251]),
)
modes = st.sampled_from(list(sanitization.HashFragmentMode))
alphabets = st.sampled_from([None, string.ascii_letters, string.ascii_letters + string.digits + "_"])


@given(names, st.integers(24, 300), alphabets, modes, st.integers(1, 12))
@example("仦乇", 240, string.ascii_letters, sanitization.HashFragmentMode.ONLY_IF_CHANGED, 8)
def test_hybrid(name: str, length: int, alphabet: str | None, mode: sanitization.HashFragmentMode, fragment: int) -> None:
    ours = sanitization.HybridSanitizationStrategy(length, alphabet, hash_fragment_mode=mode, hash_fragment_length=fragment)
    theirs = old_sanitization.HybridSanitizationStrategy(
        length, alphabet, hash_fragment_mode=old_sanitization.HashFragmentMode(mode.value), hash_fragment_length=fragment
    )
    assert ours.sanitize(name) == theirs.sanitize(name)


@given(names, st.integers(9, 64), st.integers(8, 300))
def test_hashes(name: str, digits: int, length: int) -> None:
    assert sanitization.AlwaysHashStrategy(digits).sanitize(name) == old_sanitization.AlwaysHashStrategy(digits).sanitize(name)
    ours, theirs = sanitization.HashExcessLengthStrategy(length), old_sanitization.HashExcessLengthStrategy(length)
    assert ours.sanitize(name) == theirs.sanitize(name)
    assert sanitization.PassthroughStrategy().sanitize(name) == name


@pytest.mark.parametrize("digits", [8, 65, -1])
def test_a_hash_length_that_makes_no_sense_is_refused(digits: int) -> None:
    with pytest.raises(ValueError, match="between 9 and 64"):
        sanitization.AlwaysHashStrategy(digits)


STRATEGIES = ["FileTreeV1KeySanitizationStrategy", "FileTreeV1CollectionSanitizationStrategy"]


@given(name=names, strategy=st.sampled_from(STRATEGIES), directory=st.sampled_from([".", "/", "/tmp", Path("/tmp")]))
def test_those_of_the_file_tree(name: str, strategy: str, directory: Any) -> None:
    assert getattr(filetree, strategy)(directory).sanitize(name) == getattr(old_filetree, strategy)(directory).sanitize(name)


ALL = ["PassthroughStrategy", "AlwaysHashStrategy", "HashExcessLengthStrategy", "HybridSanitizationStrategy"]


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("name", ["k", "H_k", "S_k", "x" * 300])
def test_validating_and_going_back(strategy: str, name: str) -> None:
    ours, theirs = (getattr(library, strategy)() for library in (sanitization, old_sanitization))
    said: list[Any] = []
    for one in (ours, theirs):
        try:
            said.append((one.validate(name), one.validate(value=name), one.try_unsanitize(value=name)))
        except (InvalidKeyError, OldInvalidKeyError) as error:
            said.append(type(error).__name__)
    assert said[0] == said[1]
    assert ours.try_unsanitize(name) == theirs.try_unsanitize(name)


class ByPosition:
    def sanitize(self, name: str, /) -> str:
        return f"mine-{name}"


class ByKeyword:
    def sanitize(self, *, value: str) -> str:
        return f"mine-{value}"


class ByAnything:
    def sanitize(self, *given: str, **named: str) -> str:
        return f"mine-{[*given, *named.values()][0]}"


class ByAnyKeyword:
    def sanitize(self, **named: str) -> str:
        return f"mine-{named['value']}"


class OfItsKind(old_sanitization.SanitizationStrategy):
    def sanitize(self, value: str) -> str:
        return f"mine-{value}"

    def validate(self, value: str) -> None:
        raise AssertionError("a store tells apart all names")


def shared_names(layout: KeyLayout) -> list[str]:
    return [slot.name for slot in layout.slots("c", "k")][:1]


@pytest.mark.parametrize("kind", [ByPosition, ByKeyword, ByAnything, ByAnyKeyword, OfItsKind])
def test_a_strategy_of_ones_own_takes_its_name_by_position_or_keyword(kind: Any, tmp_path: Path) -> None:
    with fake_winreg.installed():
        from keyvalue.stores.windows_registry import WindowsRegistryStore
    mine = kind()
    both: Any = {"key_sanitization_strategy": mine, "collection_sanitization_strategy": mine}
    assert shared_names(FileTreeStore(data_directory=tmp_path, **both).layout) == ["mine-c/mine-k.json"]
    assert shared_names(WindowsRegistryStore(**both).layout) == ["mine-c\0mine-k"]
    assert shared_names(MemcachedStore(key_sanitization_strategy=mine).layout) == ["mine-c::k"]
    assert shared_names(IndexLayout("p", mine, mine)) == ["p-mine-c/mine-k"]
    mongodb: Any = MongoDBStore(url="mongodb://localhost", collection_sanitization_strategy=mine)
    assert mongodb._name("c") == "mine-c"
    backend = FakeKeyring()
    with BlockingKeyValue(KeyringStore(backend=backend, **both)) as kv:
        kv.put("k", {}, collection="c")
    assert backend.users == {"mine-c::mine-k"}


def test_what_is_no_strategy_is_told_so_by_all_stores(tmp_path: Path) -> None:
    with fake_winreg.installed():
        from keyvalue.stores.windows_registry import WindowsRegistryStore
    wrong: Any = str
    for part in ("key", "collection"):
        option = {f"{part}_sanitization_strategy": wrong}
        makers: list[Any] = [
            partial(FileTreeStore, data_directory=tmp_path),
            WindowsRegistryStore,
            KeyringStore,
            partial(ElasticsearchStore, url="http://localhost", index_prefix="p"),
            MemcachedStore if part == "key" else partial(MongoDBStore, url="mongodb://localhost"),
        ]
        for make in makers:
            with pytest.raises(TypeError, match=rf"{part}_sanitization_strategy must be an object with a method sanitize\(name\)"):
                make(**option)
