"""Names that py-key-value-aio loses or mixes up: its entries are found at their old places, and no two pairs meet there any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from keyvalue.testing._samples import nested
from keyvalue.testing._suite import assert_collections, assert_keys, has_capability

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from tests.predecessor import Both, Data

Open = Callable[..., AbstractAsyncContextManager[Data]]
Pair = tuple[str, str]

COMPOUND = ("disk", "rocksdb", "redis", "valkey", "memcached", "keyring", "vault")
"""The backends where a pair is named by `<collection>::<key>`."""
PLANTED = (*COMPOUND, "dynamodb", "windows-registry")
"""Those that keep texts, which `Data.plant` puts there."""

# Pairs that have a place of their own now, and where the predecessor puts them

MISTAKABLE = [("tenant::42", "k"), ("urn:", "e"), ("a::b", "c"), ("::", "::"), (":", ":"), ("a::", "x::y"), ("a~::", "~0")]  # H-5
DIGITS = "~" + "0123456789abcdef" * 4
MOVED: dict[str, list[tuple[str, str, str]]] = {
    **{backend: [(collection, key, f"{collection}::{key}") for collection, key in MISTAKABLE] for backend in COMPOUND},
    "multi-disk": [("x/y", "k", "xy/k")],
    "filetree": [("a/b", "k", "a/b/k.json")],
    # To Windows, `\a\\b\` is `a\b`, and `\` is the key with all the collections.
    "windows-registry": [("a\\", "k", "a/k"), ("a\\\\b", "k", "a/b/k"), ("\\a\\\\b\\", "k", "a/b/k"), ("\\", "k", "k")],
    "dynamodb": [(collection, key, f"{collection}::{key}") for collection, key in ((DIGITS, "k"), ("c", DIGITS), (DIGITS, DIGITS))],
    "elasticsearch": [("Foo", "k", "kv-foo/k")],  # H-10
}
ODD_KEYS = [("k/", "k"), ("/", ""), ("x//y", "x/y"), ("x/./z/../y", "x/y"), ("😀", "😀"), ("x" * 148, "x" * 148)]
MOVED["vault"] += [
    *(("c", key, f"c::{place}") for key, place in ODD_KEYS),
    ("/c", "k", "c::k"),
    ("a//b", "k", "a/b::k"),
    ("a/../b", "k", "b::k"),
    ("a//b::", "k", "a/b::::k"),
]


@pytest.mark.backends(*MOVED)
async def test_an_entry_at_its_old_place_is_found_until_it_moves(opened: Open, backend: str) -> None:
    async with opened() as data:
        for collection, key, place in MOVED[backend]:
            # It is found where it is, and listed once.
            await data.old.put(key, {"old": True}, collection=collection, ttl=50)
            assert data.names() == {place}
            assert await data.new.get_many([key, "missing"], collection=collection) == [{"old": True}, None]
            value, left = await data.new.ttl(key, collection=collection)
            assert value == {"old": True}
            assert 40 < left <= 50
            await assert_keys(data.new, [key], collection)
            await assert_collections(data.new, [collection])
            assert data.names() == {place}

            # The next put takes it over.
            await data.new.put(key, {"new": True}, collection=collection)
            assert place not in data.names()
            assert len(data.names()) == 1
            assert await data.new.get(key, collection=collection) == {"new": True}
            assert await data.old.get(key, collection=collection) is None
            await assert_keys(data.new, [key], collection)
            await data.old.put(key, {"old": True}, collection=collection)
            await data.new.put_many(["other", key], [{}, {"newer": True}], collection=collection, ttl=50)
            assert place not in data.names()
            assert await data.new.get(key, collection=collection) == {"newer": True}
            await assert_keys(data.new, [key, "other"], collection)
            assert await data.new.delete("other", collection=collection) is True

            # What is put there after that counts no more, and goes with the entry.
            await data.old.put(key, {"old": True}, collection=collection)
            assert len(data.names()) == 2
            assert await data.new.get(key, collection=collection) == {"newer": True}
            await assert_keys(data.new, [key], collection)
            assert await data.new.delete_many([key, key], collection=collection) == 1
            assert data.names() == set()
            await data.old.put(key, {"old": True}, collection=collection)
            assert await data.new.delete(key, collection=collection) is True
            assert await data.new.delete(key, collection=collection) is False
            assert data.names() == set()
            if has_capability(data.new, "keys"):
                await data.old.put_many([key, "l"], [{}, {}], collection=collection)
                assert await data.new.destroy_collection(collection) is True
                assert data.names() == set()


@pytest.mark.backends(*PLANTED)
async def test_what_is_no_entry_at_an_old_place_does_not_disturb_the_new_one(opened: Open, backend: str) -> None:
    collection, key, place = MOVED[backend][0]
    async with opened() as data:
        for text in ("no document", '{"value": {"names": "no pair"}}'):
            data.plant(collection, key, text)
            assert await data.new.get(key, collection=collection) is None
            assert await data.new.delete(key, collection=collection) is False
            await data.new.put(key, {"a": 1}, collection=collection)
            assert await data.new.get(key, collection=collection) == {"a": 1}
            assert await data.new.delete(key, collection=collection) is True
            if has_capability(data.new, "keys"):
                assert await data.new.destroy() is True
            assert data.names() == {place}


# Two pairs that have one place there, H-5, H-7, H-10

SHARED: dict[str, Sequence[tuple[Pair, Pair]]] = {
    **dict.fromkeys(COMPOUND, ((("a", "b::c"), ("a::b", "c")), (("a", ":b"), ("a:", "b")), (("a", "b::c::d"), ("a::b::c", "d")))),
    "multi-disk": [
        ((plain, "k"), (moved, "k"))
        for moved, plain in (("x/y", "xy"), ("a:b", "ab"), ("x?", "x"), ("x ", "x"), ("x.", "x"), ("a" * 255 + "1", "a" * 255))
    ],
    "windows-registry": [(("a", "k"), ("a\\", "k")), (("a\\b", "k"), ("a\\\\b", "k")), (("foo", "k"), ("Foo", "K"))],
    "elasticsearch": [(("foo", "k"), ("Foo", "k"))],
}
UNWRITABLE: dict[str, Any] = {**nested(901), "big": 2**70, "inf": float("inf"), "\ud800": "\udfff"}
"""What the predecessor writes and this library reads, but does not write: what holds it can't be moved."""


@pytest.mark.backends(*(backend for backend in SHARED if backend != "elasticsearch"))  # where it makes way: see below
@pytest.mark.parametrize("bulk", [False, True])
async def test_a_guest_at_the_place_of_its_host_is_the_guests(opened: Open, backend: str, bulk: bool) -> None:
    async with opened() as data:
        for host, guest in SHARED[backend]:
            # The host neither sees nor destroys it.
            await data.old.put(guest[1], UNWRITABLE, collection=guest[0], ttl=50)
            (place,) = data.names()
            assert await data.old.get(host[1], collection=host[0]) == UNWRITABLE
            assert await data.new.ttl(host[1], collection=host[0]) == (None, None)
            assert await data.new.get_many([host[1], "x"], collection=host[0]) == [None, None]
            await assert_keys(data.new, [], host[0])
            await assert_collections(data.new, [guest[0]])
            assert await data.new.delete(host[1], collection=host[0]) is False
            assert await data.new.delete_many([host[1], "x"], collection=host[0]) == 0
            await data.new.put("x", {}, collection=host[0])
            if has_capability(data.new, "keys"):
                assert await data.new.destroy_collection(host[0]) is True
                assert await data.new.destroy_collection(host[0]) is False
                await data.new.cull()
            else:
                assert await data.new.delete("x", collection=host[0]) is True
            assert await data.new.get(guest[1], collection=guest[0]) == UNWRITABLE
            assert data.names() == {place}

            # The host's own entry lies elsewhere for as long.
            if bulk:
                await data.new.put_many(["x", host[1]], [{}, {"host": True}], collection=host[0])
            else:
                await data.new.put(host[1], {"host": True}, collection=host[0])
            assert await data.new.ttl(host[1], collection=host[0]) == ({"host": True}, None)
            found, left = await data.new.ttl(guest[1], collection=guest[0])
            assert found == UNWRITABLE
            assert 40 < left <= 50
            await assert_keys(data.new, [guest[1]], guest[0])
            await assert_keys(data.new, [host[1], *["x"] * bulk], host[0])
            await assert_collections(data.new, [host[0], guest[0]])
            assert await data.old.get(guest[1], collection=guest[0]) == UNWRITABLE
            assert await data.new.delete(guest[1], collection=guest[0]) is True
            assert await data.new.get(host[1], collection=host[0]) == {"host": True}
            await data.new.put_many([host[1]], [{"host": "back"}], collection=host[0])
            assert await data.old.get(host[1], collection=host[0]) == {"host": "back"}
            await assert_keys(data.new, [host[1], *["x"] * bulk], host[0])
            assert await data.new.delete_many([host[1], "x"], collection=host[0]) == 1 + bulk
            assert data.names() == set()


async def assert_guest_leaves_host_alone(data: Data, host: Pair, guest: Pair) -> None:
    await data.old.put(host[1], {"host": True}, collection=host[0])
    for destroyed in (False, has_capability(data.new, "keys") and host[0] != guest[0]):
        assert await data.new.get(guest[1], collection=guest[0]) is None
        assert await data.new.delete(guest[1], collection=guest[0]) is False
        if destroyed:
            assert await data.new.destroy_collection(guest[0]) is False
        await data.new.put(guest[1], {"guest": True}, collection=guest[0])
        assert await data.new.get_many([guest[1]], collection=guest[0]) == [{"guest": True}]
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        await assert_collections(data.new, {host[0], guest[0]})
        if destroyed:
            assert await data.new.destroy_collection(guest[0]) is True
        else:
            assert await data.new.delete_many([guest[1]], collection=guest[0]) == 1
        assert await data.new.get(guest[1], collection=guest[0]) is None
    assert await data.old.get(host[1], collection=host[0]) == {"host": True}
    assert await data.new.delete(host[1], collection=host[0]) is True
    assert data.names() == set()


@pytest.mark.backends(*SHARED)
async def test_a_guest_leaves_the_row_of_its_host_alone(opened: Open, backend: str) -> None:
    async with opened() as data:
        for host, guest in SHARED[backend]:
            await assert_guest_leaves_host_alone(data, host, guest)


@pytest.mark.backends("keyring", "filetree-v1")
async def test_names_that_its_strategies_mix_up(opened: Open, backend: str) -> None:  # H-8
    host, guest = (("c", "x" * 300), ("c", "x" * 300 + "y")) if backend == "keyring" else (("a" * 300 + "1", "k"), ("a" * 300 + "2", "k"))
    async with opened(strategies="own") as data:
        await assert_guest_leaves_host_alone(data, host, guest)


@pytest.mark.backends("elasticsearch")
async def test_entries_that_lie_where_anothers_belong_make_way(opened: Open) -> None:  # H-10
    keys = [f"k{number}" for number in range(600)]
    async with opened() as data:
        await data.old.put_many(keys, [{"of": key} for key in keys], collection="Foo", ttl=500)
        for collection in ("foo", "FOO"):
            assert await data.new.get_many(["k0", "k1"], collection=collection) == [None, None]
            assert await data.new.delete_many(["k0", "k1"], collection=collection) == 0
            assert await data.new.keys(collection) == []
            assert await data.new.destroy_collection(collection) is False
        await data.new.put("k0", {"newer": True}, collection="Foo")
        await data.old.put("k0", {"older": True}, collection="FOO")
        await data.new.put_many(["k0", "k1"], [{"a": 1}, {"a": 2}], collection="foo")
        assert await data.new.get_many(["k0", "k1", "k2"], collection="foo") == [{"a": 1}, {"a": 2}, None]
        assert await data.new.get_many(keys, collection="Foo") == [{"newer": True}, *({"of": key} for key in keys[1:])]
        assert (await data.new.ttl("k1", collection="Foo"))[1] > 400
        assert await data.new.get("k0", collection="FOO") == {"older": True}
        assert sorted(await data.new.keys("foo")) == ["k0", "k1"]
        assert sorted(await data.new.keys("Foo")) == sorted(keys)
        assert await data.new.destroy_collection("Foo") is True
        assert await data.new.destroy_collection("FOO") is True
        assert data.names() == {"kv-foo/k0", "kv-foo/k1"}


@pytest.mark.backends("vault")
async def test_a_path_that_holds_anothers_entry_is_overwritten(opened: Open) -> None:
    async with opened() as data:
        pairs = [(("c", "k"), ("/c", "k")), (("c", "x/y"), ("c", "x//y")), (("b", "k"), ("a/../b", "k")), (("c", "k"), ("c", "k/"))]
        for host, guest in pairs:
            await assert_guest_leaves_host_alone(data, host, guest)
            await data.old.put(guest[1], {"guest": True}, collection=guest[0])
            assert data.names() == {f"{host[0]}::{host[1]}"}
            assert await data.new.get_many([host[1]], collection=host[0]) == [None]
            assert await data.new.delete(host[1], collection=host[0]) is False
            assert await data.new.delete_many([host[1]], collection=host[0]) == 0
            assert await data.new.get(guest[1], collection=guest[0]) == {"guest": True}
            await data.new.put(host[1], {"host": True}, collection=host[0])
            assert await data.new.get(guest[1], collection=guest[0]) is None
            assert await data.new.get(host[1], collection=host[0]) == {"host": True}
            assert await data.new.delete(host[1], collection=host[0]) is True


@pytest.mark.backends("vault")
async def test_what_it_wrote_beyond_its_names_is_left_alone(opened: Open) -> None:
    async with opened() as data:
        await data.old.put("x/../app/database", {"old": True}, collection="c")
        assert data.names() == {"app/database"}
        assert await data.new.get("x/../app/database", collection="c") is None
        assert await data.new.delete("x/../app/database", collection="c") is False
        await data.new.put("x/../app/database", {"new": True}, collection="c")
        assert await data.new.get("x/../app/database", collection="c") == {"new": True}
        assert await data.new.destroy() is True
        assert data.names() == {"app/database"}


# Names that keep their place, also where they look odd or are replaced by a strategy


async def assert_names_keep_their_place(data: Data, names: Mapping[str, Sequence[str]]) -> None:
    """Fail unless both write the keys of collections to the same places."""
    for collection, keys in names.items():
        await data.old.put_many(keys, [{"old": [collection, key]} for key in keys], collection=collection, ttl=500)
    places = data.names()
    assert len(places) == sum(map(len, names.values()))
    await assert_collections(data.new, names)
    for collection, keys in names.items():
        assert await data.new.get_many(keys, collection=collection) == [{"old": [collection, key]} for key in keys]
        await data.new.put_many(keys, [{"new": [collection, key]} for key in keys], collection=collection, ttl=900)
    assert data.names() == places
    for collection, keys in names.items():
        for key in keys:
            value, left = await data.old.ttl(key, collection=collection)
            assert value == {"new": [collection, key]}
            assert left > 800
        await assert_keys(data.new, keys, collection)
        await data.old.put(keys[-1], {"old": "again"}, collection=collection)
        assert await data.new.get(keys[-1], collection=collection) == {"old": "again"}
    for collection, keys in names.items():
        assert await data.new.delete_many(keys, collection=collection) == len(keys)
        assert await data.old.get_many(keys, collection=collection) == [None] * len(keys)
    assert data.names() == set()


KEPT: dict[str, Mapping[str, Sequence[str]]] = {
    "vault": {
        "c": ["c", "c/c", "../k", " k ", "%41%2F", "?#&=+*[]{}\\|^", "x" * 147],
        "users": ["alice"],
        "a/b": ["c/d/e"],
        "..": ["."],
        "é": ["日本"],
        "metadata": ["data"],
    },
    "windows-registry": {
        "a": ["b\\c"],
        "a\\b": ["c"],
        "a\\b\\c": ["k"],
        "k" * 255: ["v" * 16_383],
        "😀" * 127: ["😀" * 8191],
        "Foo": ["Bar"],
        "a/b": ["a::b"],
        "..": ["."],
        " a ": ["a."],
        "\n": ["\n\ufeff"],
        "%PATH%": ["~" + "0" * 63],
    },
}


@pytest.mark.backends(*KEPT)
async def test_names_that_the_backend_can_hold_keep_their_place(opened: Open, backend: str) -> None:
    async with opened() as data:
        await assert_names_keep_their_place(data, KEPT[backend])


async def test_a_keyring_of_windows_tells_no_case(monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring

    from tests.fake_keyrings import FakeWinVaultKeyring

    for strategies in (None, "own"):
        fake = FakeWinVaultKeyring()
        monkeypatch.setattr(keyring.core, "_keyring_backend", fake)
        data = Data(*Both(strategies)("keyring", "KeyringStore"), lambda fake=fake: fake.users)
        await assert_names_keep_their_place(data, {"C": ["k", "Upper", "with @ sign", "é"]})
        await assert_guest_leaves_host_alone(data, ("c", "x"), ("c", "X"))
        await data.new.close()


# Sanitization strategies

TOKENS = ["plain_key_1", "0b7a2a0e-6f5e-4c57-b3f1-0d1a2c3b4d5e", "https://client.example.com/oauth/metadata.json?v=1", "user@example.com"]
SANITIZED: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "memcached": (["c"], ["k", "x" * 237, "x" * 238, "x" * 5000, "é" * 120, "a/b"]),
    "keyring": (["k", TOKENS[2], "é😀"], [TOKENS[2], "a_b", "nul\0", "x" * 256, "x" * 257, "é" * 300]),
    "windows-registry": (["users", "a/b", "a\\b", "é", "x" * 95, "x" * 97], ["k", "a\\b"]),
    "mongodb": (["c", "a/b", "é", "x" * 300], ["k", "a/b", "é" * 300]),
    "elasticsearch": (["c.d", "Foo"], ["k", "k/1", "é" * 300]),
    # As FastMCP makes a tree for its tokens.
    "filetree-v1": (
        ["mcp-oauth-proxy-clients", "mcp_tokens", "default_collection", "https://idp.example.com/"],
        [*TOKENS, "é😀", "x" * 300, "..", "a/b"],
    ),
}
"""Collections and keys by backend."""


@pytest.mark.backends(*SANITIZED)
@pytest.mark.parametrize("whose", ["own", "its"])
async def test_names_of_its_strategies(opened: Open, backend: str, whose: str) -> None:
    collections, keys = SANITIZED[backend]
    async with opened(strategies=whose) as data:
        await assert_names_keep_their_place(data, dict.fromkeys(collections if whose == "own" else collections[-1:], keys))
        await data.new.put("S_x", {"a": 1}, collection="H_x")  # which look as if they were replaced; some strategies refuse them
        assert await data.new.get("S_x", collection="H_x") == {"a": 1}
        await assert_keys(data.new, ["S_x"], "H_x")


# Files that don't say what they are of


@pytest.mark.backends("filetree-v1")
async def test_keys_that_are_lost_are_listed_and_found_under_the_names_of_their_files(opened: Open) -> None:
    keys = SANITIZED["filetree-v1"][1]
    async with opened() as data:
        await data.old.put_many(keys, [{"token": key} for key in keys], collection="c/d")
        listed = await data.new.keys("c/d")
        assert len(listed) == len(keys)
        assert "plain_key_1" in listed
        assert sorted(value["token"] for value in await data.new.get_many(listed, collection="c/d")) == sorted(keys)
        assert await data.new.delete_many(listed, collection="c/d") == len(keys)
        assert data.names() == set()

        await data.old.put("a/b", {"a": 1}, collection="c/d")
        (name,) = await data.new.keys("c/d")
        assert name.startswith("S_a_b-")
        await data.new.put(name, {"a": 2}, collection="c/d")
        await assert_keys(data.new, [name], "c/d")
        await data.old.put("a/b", {"a": 1}, collection="c/d")
        assert await data.new.destroy_collection("c/d") is True
        assert data.names() == set()


@pytest.mark.backends("filetree")
async def test_a_collection_in_the_directory_of_another(opened: Open) -> None:
    async with opened() as data:
        await data.old.put("k", {"old": True}, collection="a/b", ttl=50)
        await data.old.put("k", {"other": True}, collection="a")
        await assert_keys(data.new, ["k"], "a/b")
        await assert_keys(data.new, ["k"], "a")
        await assert_collections(data.new, ["a", "a/b"])
        await data.new.put("k", {"new": True}, collection="a/b")
        await data.old.put("l", {"old": True}, collection="a/b")
        assert await data.new.destroy_collection("a/b") is True
        assert await data.new.get("k", collection="a") == {"other": True}
        assert await data.new.destroy() is True
        assert data.names() == set()


@pytest.mark.backends("filetree")
async def test_a_tree_that_was_moved(opened: Open, tmp_path: Path) -> None:  # H-55
    from keyvalue.stores.filetree import FileTreeStore

    async with opened() as data:
        await data.old.put("k", {"old": True}, collection="c")
    (tmp_path / "filetree").rename(tmp_path / "elsewhere")
    async with FileTreeStore(data_directory=tmp_path / "elsewhere") as kv:
        assert await kv.get("k", collection="c") == {"old": True}
        assert await kv.collections() == ["c"]
    assert not (tmp_path / "filetree").exists()
