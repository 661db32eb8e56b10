"""Hooks: what is a backend's own in the tests that all backends over a network share, `tests/stores/test_backends.py`.

A module here is imported when its backend is tested, as it imports the backend's client. It is named after the backend, and its `HOOKS` has
the hooks by the name of the backend, those of its clusters too.
"""

from __future__ import annotations

import inspect
import json
import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any
from urllib.parse import urlsplit

import pytest

from keyvalue.protocols import AsyncKeyValue
from keyvalue.testing import Runtime
from keyvalue.testing._suite import assert_collections, assert_keys, at_once, has_capability
from tests.makers import MAKERS
from tests.said import collect_texts

SECRET = "hunter" + "2" * 5
"""What no error may show. Put together, so that no line of source in a traceback holds it."""
PASSWORD = "p@s/" + "wo%rd:#" + SECRET
"""One that a URL must quote."""
NEVER = math.inf
"""As an expiry: there is none."""
DAMAGED_BYTES: Mapping[str, bytes] = {
    "no JSON": SECRET.encode(),
    "no text": b"\xff",
    "empty": b"",
    "a list": b"[]",
    "no value": b'{"version":1}',
    "cut off": b'{"version":1,"value":{"a":"' + SECRET.encode(),
}
"""What can lie in place of an entry where a backend keeps its document as bytes; see `Hooks.damaged`."""


def hooks_of(backend: str) -> Hooks:
    """Return the hooks of a backend."""
    return import_module(f"tests.stores.hooks.{backend.partition('-')[0]}").HOOKS[backend]


def document(collection: str, key: str, **more: Any) -> str:
    """Return the JSON text of an entry's document, by hand."""
    return json.dumps({"version": 1, "collection": collection, "key": key, "value": {}, **more})


class Hooks(ABC):
    """What is a backend's own. A "pattern" is one of what an error says."""

    kind: type[Any]  # the class of its stores

    unreachable = "is it running"  # a pattern, if the server is not there
    lost = ""  # likewise, if the server was there before; "" if that makes no difference
    silent = "in time"  # a pattern, if the server does not answer
    causes: type[Exception] | tuple[type[Exception], ...] = OSError  # of the client, which are behind such an error
    tells_host = True  # an error tells the server's address
    reconnects_at_once = True  # a call succeeds as soon as the server is back; else the client connects again in its own time
    asks_again = True  # a read whose answer was lost succeeds

    client = "client"  # the name of the constructor's parameter for a client
    client_types: str  # a pattern, about a client of a wrong type

    ttls: Sequence[float] = (0.001, 0.4, 1, 1.9999, 2, 100, 10**9)  # for which the server's own expiry is looked at
    early = 0.0  # seconds by which `expiries` may be before the entry's deadline, for want of precision
    late = 5.0  # seconds by which it may be later, for a busy machine too
    reclaims = False  # the server removes what has expired within seconds, without being asked
    offsets = 1  # entries that the test in real time spreads over a second: several if the server's clock ticks once a second
    real_ttl = 0.5  # their time to live

    # Pairs of collection and key; where each would lie, `plant_foreign` puts an entry that says that it is of another pair.
    misnamed: Sequence[tuple[str, str]] = ()
    bad_keys: Sequence[str] = ("bad",)  # keys of the collection "c", of each kind that is stored in a way of its own
    damaged: Mapping[str, Any]  # what can lie in place of an entry and can't be read, by a name for it; with `SECRET` where it can
    lists_damaged = False  # listing has the names of damaged entries

    large = (30, 300_000)  # how many large values there can be, and of how many characters: more than a request or an answer holds

    loses_puts = True  # a put fails whose answer was lost
    leaves_graves = False  # a deleted entry leaves something in the backend, until it is destroyed
    counts_bulk = True  # it holds of `delete_many` too

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self, patch: pytest.MonkeyPatch) -> None:
        """Have the client not wait for what a test needs not wait for."""
        return

    # Stores

    def store(self, url: str, **options: Any) -> AsyncKeyValue:
        """Make a store."""
        return MAKERS[self.name](Path(), url, **options)

    def fresh(self, url: str) -> AsyncKeyValue:
        """Make a store that finds nothing on an empty server, not even what it keeps its entries in."""
        return self.store(url)

    def impatient(self, url: str) -> AsyncKeyValue:
        """Make a store that soon gives up a server that is not there."""
        return self.store(url)

    def with_secret(self, url: str) -> AsyncKeyValue:
        """Make an impatient store whose credentials have `SECRET` in them, if it can have any."""
        return self.impatient(url)

    def given(self, client: Any) -> AsyncKeyValue:
        """Make a store over a client."""
        return self.kind(**{self.client: client})

    def for_deletes(self, url: str) -> AbstractContextManager[str]:
        """Return a context with the URL of the server, where of several that delete an entry at once, one is told so."""
        return nullcontext(url)

    # The constructor

    @abstractmethod
    def refused(self) -> Iterable[tuple[Mapping[str, Any], type[Exception], str]]:
        """Return arguments that the constructor refuses, each with the error and a pattern of its message."""

    def accepted(self) -> Iterable[Mapping[str, Any]]:
        """Return arguments that the constructor takes although they look like those that it refuses."""
        return ()

    @abstractmethod
    def wrong_clients(self) -> Iterable[Any]:
        """Return what is no client."""

    # Clients

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        """Return contexts that yield a synchronous client of each kind and with all options that matter, by a name for it.

        The last one makes a few calls at a time at most, and soon gives up waiting for more.
        """
        return {}

    def async_clients(self, url: str) -> Mapping[str, AbstractAsyncContextManager[Any]]:
        """Return contexts that yield an asynchronous client of each kind and with all options that matter; see `sync_clients`."""
        return {}

    def assert_open(self, client: Any) -> None:
        """Fail if a synchronous client, which was used, is closed: if it lost its connection, too."""
        raise NotImplementedError

    async def assert_open_async(self, client: Any) -> None:
        """Fail if an asynchronous client is closed."""
        raise NotImplementedError

    # Behind the store's back

    def raw(self, url: str) -> AbstractContextManager[Any]:
        """Return a context with a client of the server."""
        raise NotImplementedError

    @abstractmethod
    def contents(self, url: str) -> Mapping[Any, Any]:
        """Return all that lies in the backend, by name."""

    def names(self, url: str) -> set[str]:
        """Return the names of all that lies in the backend, as text."""
        return set(self.contents(url))

    def plant(self, url: str, name: str, data: Any) -> None:
        """Put something under a name, of the form that `damaged` has."""
        raise NotImplementedError

    @abstractmethod
    def plant_foreign(self, url: str) -> None:
        """Put other programs' data into the backend: of all kinds that it can hold, and what resembles an entry in the collection "a"."""

    def damage(self, url: str, key: str, damaged: Any) -> None:
        """Put one of `damaged` in place of an entry of the collection "c" that is there."""
        self.plant(url, f"c::{key}", damaged)

    def expiries(self, url: str) -> Mapping[str, float]:
        """Return when the server's own expiry removes what there is, in seconds since the epoch, by the key of the entry."""
        raise NotImplementedError

    def postpone(self, url: str, key: str) -> None:
        """Have the server's own expiry keep an entry of the default collection for ever, or for much longer than its document says."""
        raise NotImplementedError


def address(url: str) -> dict[str, Any]:
    """Return host and port of a URL, by these names."""
    parts = urlsplit(url)
    return {"host": parts.hostname, "port": parts.port}


async def assert_raised(error: type[Exception], message: str, *calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Fail if not each call raises an error, or if one tells a secret; return the errors."""

    async def make(number: int, call: Callable[[], Awaitable[Any]]) -> None:
        await call()
        text = inspect.getsource(call).strip() if isinstance(call, FunctionType) else reprlib.repr(call)
        pytest.fail(f"Call {number} of {len(calls)} raises nothing: {text}")

    errors: list[Any] = []
    for number, call in enumerate(calls, 1):
        with pytest.raises(error, match=message or None) as caught:
            await make(number, call)
        assert SECRET not in "".join(collect_texts(caught.value))
        errors.append(caught.value)
    return errors


async def assert_apart(kv: Any, pairs: Sequence[tuple[str, str]]) -> None:
    """Fail unless each pair of collection and key has an entry of its own, whatever happens to the others."""
    there: dict[tuple[str, str], Any] = {}

    async def assert_right() -> None:
        for collection in {collection for collection, _ in pairs}:
            keys = [key for other, key in pairs if other == collection]
            assert [await kv.get(key, collection=collection) for key in keys] == [there.get((collection, key)) for key in keys]
            assert await kv.get_many(keys, collection=collection) == [there.get((collection, key)) for key in keys]
            await assert_keys(kv, [key for other, key in there if other == collection], collection)
        await assert_collections(kv, {collection for collection, _ in there})

    for turn in range(2):
        for collection, key in pairs:
            there[collection, key] = {"of": [collection, key], "turn": turn}
            await kv.put(key, there[collection, key], collection=collection)
        await assert_right()
    for number, (collection, key) in enumerate(pairs[::2]):
        deleted = kv.delete_many([key, key], collection=collection) if number % 2 else kv.delete(key, collection=collection)
        assert await deleted == 1
        assert await kv.delete(key, collection=collection) is False
        del there[collection, key]
        await assert_right()
        there[collection, key] = {"again": True}
        await kv.put(key, {"again": True}, collection=collection)
        await assert_right()
    for destroyed, _ in pairs[1::2]:
        is_there = any(collection == destroyed for collection, _ in there)
        assert await kv.destroy_collection(destroyed) is is_there
        there = {(collection, key): value for (collection, key), value in there.items() if collection != destroyed}
        await assert_right()
    assert await kv.destroy() is True
    there.clear()
    await assert_right()


async def assert_one_is_told(runtime: Runtime, stores: Sequence[Any], key: str, turns: int, *methods: str) -> None:
    """Fail unless, of many that delete an entry at once by some methods, one is told that it was there."""
    told: list[int] = []

    async def delete(kv: Any, method: str) -> None:
        told.append(await getattr(kv, method)([key, "other"] if method == "delete_many" else key))

    calls = [partial(delete, kv, method) for kv in stores for method in methods]
    for turn in range(turns):
        told.clear()
        await stores[0].put(key, {"turn": turn})
        await at_once(runtime, calls)
        assert sorted(told) == [0] * (len(calls) - 1) + [1]


async def use(kv: Any) -> None:
    """Use every kind of request."""
    await kv.put("é😀", {"é": "😀", "n": 2**70 + 1}, collection="a::b")
    await kv.put_many(["k", "l", ":k"], [{"é": 1}, {"large": "x" * 40_000}, {}], ttl=50)
    await kv.put_many(["m", "n/m"], [{}, {}])
    await kv.put("o", {}, ttl=50)
    keys = [f"key-{number}" for number in range(20)]  # of many slots, where there are slots
    await kv.put_many(keys, [{"of": key} for key in keys], collection="many")
    assert await kv.get_many([*keys, "missing"], collection="many") == [*({"of": key} for key in keys), None]
    assert await kv.delete_many([*keys, "missing"], collection="many") == 20
    assert await kv.get("é😀", collection="a::b") == {"é": "😀", "n": 2**70 + 1}
    assert await kv.get_many(["l", "missing"]) == [{"large": "x" * 40_000}, None]
    value, left = await kv.ttl("k")
    assert value == {"é": 1}
    assert 0 < left <= 50
    await assert_keys(kv, ["k", "l", ":k", "m", "n/m", "o"])
    await assert_collections(kv, ["a::b", "default_collection"])
    assert await kv.delete("é😀", collection="a::b") is True
    assert await kv.delete("é😀", collection="a::b") is False
    assert await kv.delete_many(["k", "missing", ":k"]) == 2
    if has_capability(kv, "destroy"):
        await kv.cull()
        assert await kv.destroy_collection("default_collection") is True
        assert await kv.destroy() is True
    else:
        assert await kv.delete_many(["l", "m", "n/m", "o"]) == 4
