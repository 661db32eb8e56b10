"""The contract of what a store keeps in its backend, section by section as `docs/contract.md` says it."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from keyvalue._core.capabilities import ALL
from keyvalue.errors import DeserializationError, InvalidKeyError, SerializationError, StoreClosedError
from keyvalue.testing._arguments import ArgumentContract
from keyvalue.testing._clock import Clock
from keyvalue.testing._runtime import Awaited, Runtime
from keyvalue.testing._samples import NAMES, VALUES, labels, nested, same
from keyvalue.testing._suite import assert_collections, assert_keys, at_once, has_capability, on_the_runtime

__all__ = ["StoreContract"]


class StoreContract(ArgumentContract):
    """The contract of a store as a class of tests. Derive a class with a name that begins with `Test`, and say how to create the store.

    ```
    class TestTableStore(StoreContract):
        def make(self, directory: Path) -> TableStore:
            return TableStore(str(directory / "entries.db"))
    ```

    The tests of this class check what the store keeps in its backend. The tests inherited from `ArgumentContract` check what `BaseStore`
    does before that; a store that overrides no public method passes them unchanged.

    Each test runs once on each runtime. A test of an optional method does nothing if the store lacks the method. A failing test quotes the
    contract.

    The tests are plain functions: they need no plugin for coroutines, and work with any. They use pytest's fixture `tmp_path` and the
    fixtures of this class, which a subclass can override. In the subclass, a fixture with `autouse=True` can prepare each test, for example
    by emptying a server.
    """

    persistent: bool = True
    """Whether a new store in the same directory has the entries of the store before it. Default True."""

    def damage(self, directory: Path, collection: str, key: str) -> None:
        """Overwrite an entry in the backend with bytes that are not an entry. Optional.

        If you override it, the suite tests that a damaged entry is an error for its own key alone.

        Args:
            directory: The directory of the test, as passed to `make`. The store is open.
            collection: The collection of the entry, a short word.
            key: Its key, a short word.
        """

    # Names

    @on_the_runtime
    async def test_any_names_work_and_never_meet(self, kv: Any) -> None:
        """Any str that is not empty and encodes as UTF-8 is a key and a collection.

        Different names are different entries, and are listed as they were given.
        """
        # Each name is a collection and a key, on slow stores of two others.
        keys_of = {name: NAMES if not self.slow else [name, NAMES[index * 3 % len(NAMES)]] for index, name in enumerate(NAMES)}
        keys_of = {collection: list(dict.fromkeys(keys)) for collection, keys in keys_of.items()}
        for collection, keys in keys_of.items():
            await kv.put_many(keys, [{"c": collection, "k": key} for key in keys], collection=collection)
        for collection, keys in keys_of.items():
            assert await kv.get_many(keys, collection=collection) == [{"c": collection, "k": key} for key in keys]
            await assert_keys(kv, keys, collection)
        await assert_collections(kv, NAMES)
        for collection in NAMES[::2]:
            assert await kv.delete_many(keys_of[collection], collection=collection) == len(keys_of[collection])
        for index, (collection, keys) in enumerate(keys_of.items()):
            expected = [None if index % 2 == 0 else {"c": collection, "k": key} for key in keys]
            assert await kv.get_many(keys, collection=collection) == expected
        await assert_collections(kv, NAMES[1::2])

    @on_the_runtime
    @pytest.mark.parametrize(("one", "other"), [(("a", "b::c"), ("a::b", "c")), (("a:", "b"), ("a", ":b")), (("Foo", "k"), ("foo", "k"))])
    async def test_neighbours_never_meet(self, kv: Any, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Two different pairs of collection and key never share an entry."""
        for (collection, key), (other_collection, other_key) in itertools.permutations([one, other]):
            await kv.put(key, {"mine": True}, collection=collection)
            assert await kv.get(other_key, collection=other_collection) is None
            assert await kv.get_many([other_key], collection=other_collection) == [None]
            assert await kv.ttl(other_key, collection=other_collection) == (None, None)
            assert await kv.ttl_many([other_key], collection=other_collection) == [(None, None)]
            assert await kv.delete(other_key, collection=other_collection) is False
            assert await kv.delete(key, collection=collection) is True

    @on_the_runtime
    async def test_the_default_collection(self, kv: Any) -> None:
        """`collection=None` means the store's default collection, which has a name (here `StoreContract.default_collection`)."""
        await kv.put("k", {"a": 1})
        assert await kv.get("k", collection=self.default_collection) == {"a": 1}
        await assert_keys(kv, ["k"])
        await assert_keys(kv, ["k"], self.default_collection)
        await assert_collections(kv, [self.default_collection])

    # Values

    @on_the_runtime
    async def test_values_come_back_exactly(self, kv: Any) -> None:
        """What is read equals what was put: the same types, keys in the same order, integers of any size and floats exactly."""
        keys = labels(VALUES)
        await kv.put_many(keys, VALUES)
        wrong: dict[str, list[Any]] = {}
        for key, value, many in zip(keys, VALUES, await kv.get_many(keys), strict=True):
            await kv.put("k", value)
            found = [many, (await kv.ttl(key))[0], await kv.get("k")]
            if not all(same(one, value) for one in found):
                wrong[key] = [value, *found]
        assert wrong == {}  # by the value's label: what was put, and what get_many, ttl and get returned

    @on_the_runtime
    async def test_values_are_never_shared(self, kv: Any) -> None:
        """Each read returns a new dict, which shares no object with what was put nor with what was read before."""
        inner = [1]
        value = {"inner": inner}
        await kv.put("k", value)
        inner.append(2)
        got = await kv.get("k")
        assert got == {"inner": [1]}
        got["inner"].append(3)
        again = await kv.get_many(["k", "k"])
        assert again == [{"inner": [1]}] * 2
        again[0]["inner"].append(4)
        assert again[1] == {"inner": [1]}
        pairs = await kv.ttl_many(["k", "k"])
        pairs[0][0]["inner"].append(4)
        assert pairs[1][0] == {"inner": [1]}
        assert await kv.get("k") == {"inner": [1]}

    @on_the_runtime
    async def test_deep_values(self, kv: Any) -> None:
        """Values may be nested 254 levels deep (here `StoreContract.max_depth`)."""
        for levels, last in ((200, 1), (self.max_depth, 1), (self.max_depth, 2**70)):
            refused = ""
            try:
                await kv.put("k", nested(levels, last))
            except SerializationError as error:
                refused = str(error)
            if refused:  # its traceback would have a line for each level
                pytest.fail(
                    f"A value of {levels} levels is refused: {refused}\n{type(self).__name__}.max_depth says how many levels are taken: "
                    "of a wrapper that puts values in an envelope, fewer",
                    pytrace=False,
                )
            assert await kv.get("k") == nested(levels, last)

    # Time to live

    @on_the_runtime
    async def test_expiry(self, kv: Any, clock: Clock) -> None:
        """An entry is never returned after its deadline, and never gone before it; fractions of a second count.

        The time is what `keyvalue.stores.base.clock.now()` says.
        """
        clock.freeze()
        await kv.put("k", {"a": 1}, ttl=10)
        await kv.put("stays", {"a": 2})
        clock.advance(9.9)
        assert await kv.get("k") == {"a": 1}
        value, left = await kv.ttl("k")
        assert value == {"a": 1}
        assert left == pytest.approx(0.1, abs=1e-4)
        assert await kv.ttl_many(["stays", "k"]) == [({"a": 2}, None), ({"a": 1}, left)]
        clock.advance(0.11)
        assert await kv.get("k") is None
        assert await kv.ttl("k") == (None, None)
        assert await kv.get_many(["k", "stays"]) == [None, {"a": 2}]
        assert await kv.ttl_many(["k", "stays"]) == [(None, None), ({"a": 2}, None)]
        await assert_keys(kv, ["stays"])

    @on_the_runtime
    @pytest.mark.parametrize("ttl", [0.5, 1.5, 10**9, 200_000_000_000])
    async def test_short_and_long_ttls(self, kv: Any, clock: Clock, ttl: float) -> None:
        """A TTL below a second and a deadline in the year 8000 are kept as they are, whatever the backend's own expiry can hold."""
        clock.freeze()
        await kv.put("k", {"a": 1}, ttl=ttl)
        await kv.put_many(["l"], [{}], ttl=ttl)
        assert await kv.ttl("k") == ({"a": 1}, pytest.approx(ttl, abs=1e-4))
        assert await kv.get("l") == {}

    @on_the_runtime
    async def test_the_backend_reclaims_nothing_early(self, kv: Any, runtime: Runtime) -> None:
        """An entry is never reclaimed before its deadline: a backend's own expiry is given no less than what is left, rounded up."""
        seconds = 1.45  # which a backend would take for 1 if it were rounded down, or to the nearest
        for _ in range(10):  # a busy machine may take longer than that
            deadline = time.time() + seconds
            await kv.put("k", {"a": 1}, ttl=seconds)
            await kv.put_many(["l"], [{"a": 2}], ttl=seconds)
            await runtime.sleep(1.1)
            values = await kv.get_many(["k", "l"])
            if time.time() < deadline:
                assert values == [{"a": 1}, {"a": 2}]
                return
        pytest.skip("this machine is too busy for a test of native expiry")

    @on_the_runtime
    async def test_expired_entries_are_absent_to_delete_and_listing(self, kv: Any, clock: Clock) -> None:
        """An expired entry is absent to every call: deleting or destroying it is False, and no listing has it."""
        await kv.put("stays", {}, collection="d")
        await kv.put_many(["a", "b", "e"], [{}, {}, {}], collection="c", ttl=5)
        await kv.put_many(["a"], [{}], collection="d", ttl=5)
        clock.advance(5)
        await assert_collections(kv, ["d"])
        await assert_keys(kv, [], "c")
        assert await kv.delete("a", collection="c") is False
        assert await kv.delete_many(["b"], collection="c") == 0
        assert await kv.delete_many(["a", "stays"], collection="d") == 1
        if has_capability(kv, "destroy_collection"):
            assert await kv.destroy_collection("c") is False

    @on_the_runtime
    async def test_put_without_ttl_clears_an_earlier_one(self, kv: Any, clock: Clock) -> None:
        """A put without a TTL means for ever, also if an earlier value had one."""
        await kv.put("k", {"a": 1}, ttl=5)
        await kv.put("k", {"a": 2})
        await kv.put_many(["l", "m"], [{}, {}], ttl=5)
        await kv.put_many(["l"], [{}])
        clock.advance(6)
        assert await kv.ttl("k") == ({"a": 2}, None)
        assert await kv.get_many(["l", "m"]) == [{}, None]

    @on_the_runtime
    async def test_put_with_another_ttl_replaces_the_earlier_one(self, kv: Any, clock: Clock) -> None:
        """A put with a TTL replaces an earlier one, be it longer or shorter."""
        await kv.put("k", {"a": 1}, ttl=5)
        await kv.put("k", {"a": 2}, ttl=50)
        clock.advance(6)
        assert await kv.get("k") == {"a": 2}
        await kv.put("k", {"a": 3}, ttl=5)
        clock.advance(5)
        assert await kv.get("k") is None

    @on_the_runtime
    async def test_cull_removes_only_what_has_expired(self, kv: Any, clock: Clock) -> None:
        """`cull`, if the store has it, removes expired entries and no others."""
        if not has_capability(kv, "cull"):
            return
        clock.freeze()
        await kv.put_many(["a", "b", "c::d"], [{}, {}, {}], collection="x::y", ttl=5)
        await kv.put("stays", {"a": 1}, collection="x::y")
        clock.advance(6)
        await kv.put("b", {"again": True}, collection="x::y")
        assert await kv.cull() is None
        clock.advance(-6)  # what was merely hidden would come back
        await assert_keys(kv, ["b", "stays"], "x::y")
        assert await kv.get_many(["a", "b", "stays"], collection="x::y") == [None, {"again": True}, {"a": 1}]

    @on_the_runtime
    async def test_cull_keeps_what_is_put_meanwhile(self, kv: Any, clock: Clock, runtime: Runtime) -> None:
        """`cull`, if the store has it, never removes an entry that was put again after it had expired, not even at the same time."""
        if not has_capability(kv, "cull"):
            return
        keys = [f"k{index}" for index in range(5 if self.slow else 50)]

        async def put_again() -> None:
            for key in keys:
                await kv.put(key, {"again": True})

        for _ in range(1 if self.slow else 3):
            await kv.put_many(keys, [{}] * len(keys), ttl=5)
            clock.advance(6)
            await at_once(runtime, [kv.cull, put_again, kv.cull])
            assert await kv.get_many(keys) == [{"again": True}] * len(keys)

    # Damage

    @on_the_runtime
    async def test_a_damaged_entry_is_an_error_for_its_own_key_alone(self, kv: Any, tmp_path: Path) -> None:
        """What is there and can't be read raises DeserializationError; listing leaves it out, `put` overwrites it, `delete` removes it.

        Tried if the class of the tests overrides `damage`.
        """
        if type(self).damage is StoreContract.damage:
            return
        for overwritten in (True, False):
            await kv.put_many(["whole", "bad"], [{"a": 1}, {"a": 2}], collection="c")
            self.damage(tmp_path, "c", "bad")
            if has_capability(kv, "cull"):
                await kv.cull()
            for read in (kv.get, kv.ttl):
                with pytest.raises(DeserializationError):
                    await read("bad", collection="c")
            for read in (kv.get_many, kv.ttl_many):
                with pytest.raises(DeserializationError):
                    await read(["whole", "bad"], collection="c")
            assert await kv.get_many(["whole"], collection="c") == [{"a": 1}]
            await assert_keys(kv, ["whole"], "c")
            if overwritten:
                await kv.put("bad", {"a": 3}, collection="c")
                assert await kv.get("bad", collection="c") == {"a": 3}
            else:
                assert await kv.delete("bad", collection="c") is True
                assert await kv.get("bad", collection="c") is None

    # Bulk calls

    @on_the_runtime
    async def test_bulk_results_are_aligned(self, kv: Any) -> None:
        """Results are aligned with the request.

        Of duplicate keys, reads repeat the answer, put_many keeps the last value, and delete_many counts each once.
        """
        await kv.put_many(["a", "b", "a"], [{"n": 1}, {"n": 2}, {"n": 3}])
        assert await kv.get_many(["b", "missing", "a", "b"]) == [{"n": 2}, None, {"n": 3}, {"n": 2}]
        assert [value for value, _ in await kv.ttl_many(["a", "a", "missing"])] == [{"n": 3}, {"n": 3}, None]
        assert await kv.delete_many(["a", "a", "missing", "b"]) == 2
        assert await kv.get_many(["a", "b"]) == [None, None]

    @on_the_runtime
    async def test_bulk_of_many(self, kv: Any) -> None:
        """A bulk call takes any number of keys, in any sequence."""
        for number in (1, 30) if self.slow else (1, 100, 1201):
            keys = [f"key-{index}" for index in range(number)]
            await kv.put_many(tuple(keys), tuple({"n": index} for index in range(number)), ttl=60)
            assert await kv.get_many(keys) == [{"n": index} for index in range(number)]
            await assert_keys(kv, keys)
            assert await kv.delete_many([*keys, *keys]) == number

    # Lifetime

    @on_the_runtime
    async def test_closing(self, kv: Any) -> None:
        """Closing twice is fine. Every call after it raises StoreClosedError."""
        await kv.put("k", {})
        await kv.close()
        await kv.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: kv.get("k"),
            lambda: kv.ttl("k"),
            lambda: kv.put("k", {}),
            lambda: kv.delete("k"),
            lambda: kv.get_many([]),
            lambda: kv.ttl_many(["k"]),
            lambda: kv.put_many([], []),
            lambda: kv.delete_many(["k"]),
            lambda: kv.setup(),
        ]
        optional: dict[str, Callable[[], Awaitable[object]]] = {
            "keys": lambda: kv.keys(),
            "collections": lambda: kv.collections(),
            "destroy": lambda: kv.destroy(),
            "destroy_collection": lambda: kv.destroy_collection("c"),
            "cull": lambda: kv.cull(),
        }
        for call in [*calls, *(call for method, call in optional.items() if has_capability(kv, method))]:
            with pytest.raises(StoreClosedError, match="closed"):
                await call()

    @on_the_runtime
    async def test_closing_before_use(self, runtime: Runtime, tmp_path: Path) -> None:
        """A store that was never used can be closed, by `aclose` too, and another one be made after it."""
        unused = runtime.adapt(self.make(tmp_path))
        await (unused.aclose() if runtime.is_loop else unused.close())
        with pytest.raises(StoreClosedError):
            await unused.get("k")
        kv = runtime.adapt(self.make(tmp_path))
        await kv.put("k", {})
        assert await kv.get("k") == {}

    @on_the_runtime
    async def test_context_manager_and_setup(self, kv: Any) -> None:
        """`async with` and `setup` open the store, and leaving `async with` closes it for good."""
        async with kv:
            await kv.setup()
            await kv.setup()
            await kv.put("k", {})
        with pytest.raises(StoreClosedError):
            await kv.get("k")
        with pytest.raises(StoreClosedError):
            async with kv:
                pass

    @on_the_runtime
    async def test_entries_outlive_the_store(self, runtime: Runtime, tmp_path: Path) -> None:
        """What one store wrote, the next one on the same data has, with what is left to live.

        If the class of the tests says `persistent = False`, the next one has nothing of it.
        """
        async with runtime.adapt(self.make(tmp_path)) as kv:
            await kv.put("k", {"a": 1}, collection="c::d", ttl=100)
        async with runtime.adapt(self.make(tmp_path)) as kv:
            value, left = await kv.ttl("k", collection="c::d")
            assert value == ({"a": 1} if self.persistent else None)
            assert (90 < left <= 100) if self.persistent else left is None

    @on_the_runtime
    async def test_reading_creates_nothing(self, kv: Any) -> None:
        """Reading or deleting in a collection that does not exist does not create it."""
        for index in range(20):
            assert await kv.get("k", collection=f"c{index}") is None
            assert await kv.get_many(["k", "l"], collection=f"c{index}") == [None, None]
            assert await kv.ttl("k", collection=f"c{index}") == (None, None)
            assert await kv.delete("k", collection=f"c{index}") is False
            await assert_keys(kv, [], f"c{index}")
        await assert_collections(kv, [])

    # Concurrency

    @on_the_runtime
    async def test_many_calls_at_once(self, kv: Any, runtime: Runtime) -> None:
        """Any number of tasks may use one store, through the façade any number of threads: from its first call, which opens it once."""
        number = 3 if self.slow else 10

        async def put_and_get(index: int) -> None:
            await kv.put(f"k{index}", {"n": index}, collection="c")
            assert await kv.get(f"k{index}", collection="c") == {"n": index}
            await kv.put("shared", {"n": index}, collection="c")
            assert await kv.get("shared", collection="c") is not None

        await at_once(runtime, [functools.partial(put_and_get, index) for index in range(number)])
        keys = [f"k{index}" for index in range(number)]
        assert await kv.get_many(keys, collection="c") == [{"n": index} for index in range(number)]
        assert (await kv.get("shared", collection="c"))["n"] in range(number)
        await assert_keys(kv, [*keys, "shared"], "c")

    # Optional capabilities

    @on_the_runtime
    async def test_limits_of_listing(self, kv: Any) -> None:
        """A `limit` caps a listing, which is complete without one. A negative one raises ValueError, one that is not an int TypeError."""
        await kv.put_many([f"k{index}" for index in range(5)], [{}] * 5)
        await kv.put("k", {}, collection="other")
        if has_capability(kv, "keys"):
            assert await kv.keys(limit=0) == []
            assert len(await kv.keys(limit=3)) == 3
            assert len(set(await kv.keys(limit=100))) == 5
            with pytest.raises(InvalidKeyError):
                await kv.keys("")
        if has_capability(kv, "collections"):
            assert await kv.collections(limit=0) == []
            assert len(await kv.collections(limit=1)) == 1
            assert sorted(await kv.collections(limit=2)) == sorted([self.default_collection, "other"])
        for method in ("keys", "collections"):
            if has_capability(kv, method):
                with pytest.raises(ValueError, match="negative"):
                    await getattr(kv, method)(limit=-1)
                for bad in ("1", 1.0, True):
                    with pytest.raises(TypeError, match="limit"):
                        await getattr(kv, method)(limit=bad)

    @on_the_runtime
    async def test_what_a_store_can_do_is_what_it_says(self, kv: Any) -> None:
        """`isinstance` with a protocol of an optional method is truthful: for a store and the façade over it, what it has can be called."""
        await kv.put("k", {}, collection="c")
        facade = kv.facade if isinstance(kv, Awaited) else None
        store = kv if facade is None else facade.key_value
        offered = {method for method in ALL if has_capability(store, method)}
        assert {method for method in ALL if hasattr(store, method)} == offered
        assert facade is None or {method for method in ALL if hasattr(facade, method)} == offered
        # In this order, so that there is something to find.
        expected = {"keys": ["k"], "collections": ["c"], "cull": None, "destroy_collection": True, "destroy": True}
        arguments = {"keys": ("c",), "destroy_collection": ("c",)}
        for method, result in expected.items():
            if method in offered:
                assert await getattr(kv, method)(*arguments.get(method, ())) == result

    @on_the_runtime
    async def test_a_limit_counts_live_entries_only(self, kv: Any, clock: Clock) -> None:
        """Expired entries don't count towards the limit of a listing."""
        if not has_capability(kv, "keys"):
            return
        await kv.put_many([f"gone{index}" for index in range(5)], [{}] * 5, ttl=1)
        await kv.put_many(["a", "b"], [{}, {}])
        clock.advance(1)
        assert sorted(await kv.keys(limit=2)) == ["a", "b"]

    @on_the_runtime
    async def test_destroying_a_collection(self, kv: Any) -> None:
        """`destroy_collection`, if the store has it, removes that collection and no other, and is False if there was nothing.

        A destroyed collection can be used again.
        """
        if not has_capability(kv, "destroy_collection"):
            return
        keys = ["k", "::x"]
        for collection in ("c", "c::d", "d"):
            await kv.put_many(keys, [{}, {}], collection=collection)
        assert await kv.destroy_collection("c") is True
        assert await kv.destroy_collection("c") is False
        assert await kv.destroy_collection("never") is False
        assert await kv.get_many(keys, collection="c") == [None, None]
        assert await kv.get_many(keys, collection="c::d") == [{}, {}]
        await assert_collections(kv, ["c::d", "d"])
        assert await kv.destroy_collection("c::d") is True
        assert await kv.get_many(keys, collection="d") == [{}, {}]
        await assert_collections(kv, ["d"])
        await kv.put("again", {"a": 1}, collection="c")
        assert await kv.get("again", collection="c") == {"a": 1}
        await assert_keys(kv, ["again"], "c")
        for bad, error in (("", InvalidKeyError), (None, TypeError), (1, TypeError)):
            with pytest.raises(error):
                await kv.destroy_collection(bad)

    @on_the_runtime
    async def test_destroying_everything(self, kv: Any) -> None:
        """`destroy`, if the store has it, removes all collections, is always True, and leaves a store that can be used again."""
        if not has_capability(kv, "destroy"):
            return
        for collection in ("c", "c::d", "d"):
            await kv.put("k", {}, collection=collection)
        assert await kv.destroy() is True
        await assert_collections(kv, [])
        for collection in ("c", "c::d", "d"):
            assert await kv.get("k", collection=collection) is None
        assert await kv.destroy() is True
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}
