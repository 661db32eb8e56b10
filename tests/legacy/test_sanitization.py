"""The strategies for names, against the real predecessor's."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyvalue._core import sanitization
from keyvalue.stores import filetree

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio._utils import sanitization as old_sanitization
from key_value.aio.stores import filetree as old_filetree

pytestmark = pytest.mark.filterwarnings("ignore:.*violates type hint:UserWarning")  # its hints are narrower than what it takes

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
