"""The seam: what a store author writes below it, and what is done once above it.

A store is a class with three coroutines, each for many keys (one key is the special case):

- `_get(collection, keys)` returns for each key an `Entry`, or None;
- `_put(collection, entries)` stores entries in place of what was there;
- `_delete(collection, keys)` deletes and returns how many live entries there were.

A store that can list derives from `EnumerableStore` and writes `_scan`, from which all five optional capabilities follow. Everything
else happens here: names, values and TTLs are checked before any I/O, values are encoded and decoded, keys come deduplicated, expired
entries are absent, the store is opened exactly once, and the client's errors are mapped by one table.
"""

from __future__ import annotations

import contextvars
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, SupportsFloat, TypeVar, cast

from keyvalue._core import arguments, clock, codec, files, fork, runtime
from keyvalue._core.client import Client, explanation
from keyvalue._core.entry import Entry
from keyvalue._core.misuse import Explaining, Misused, explain_if_lacking, show_signatures
from keyvalue._core.sockets import TlsOptions, tls_problem
from keyvalue.errors import (
    ExtraInfoType,
    KeyValueError,
    KeyValueStoreError,
    StoreClosedError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT_COLLECTION", "BaseStore", "EnumerableStore", "ErrorTable", "Row", "Stability"]

E = TypeVar("E", bound=KeyValueStoreError)
S = TypeVar("S")
T = TypeVar("T")
Stability = Literal["stable", "beta", "experimental"]
"""What a store promises: the layout and names stay; they may change with a word in CHANGELOG; they may change."""
ErrorTable = Sequence[tuple[type[Exception], type[KeyValueStoreError], str]]
"""How a client's exceptions are mapped: (exception class, error class, what to do), the first match counts."""

DEFAULT_COLLECTION = "default_collection"


Claim = tuple[str, Collection[str] | None]
"""What a write is about: a collection and keys of it, or (None) possibly everything."""

_FOUND = frozenset({Entry, type(None)})
_GET_RETURNS = "must return a sequence with an Entry or None for each key"
_claim: contextvars.ContextVar[Claim | None] = contextvars.ContextVar("keyvalue_claim", default=None)
_opening: contextvars.ContextVar[object] = contextvars.ContextVar("keyvalue_opening", default=None)
_called: contextvars.ContextVar[str] = contextvars.ContextVar("keyvalue_called", default="setup")


class Row(NamedTuple):
    """One entry of a listing.

    Attributes:
        collection: Its collection.
        key: Its key.
        expires_at: When it expires, in seconds since the epoch, or None.
    """

    collection: str
    key: str
    expires_at: float | None


class BaseStore(Explaining, ABC):
    """The base of all stores. "Write your own store" in the documentation says what a subclass writes.

    A store can be used at once, or as an asynchronous context manager that opens it on entering and closes it on leaving. It may be used
    from many tasks, threads and event loops at the same time.

    Args:
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.

    Attributes:
        stability: "stable", "beta" or "experimental".
        default_collection: The collection that is meant where a call names none.
        runs_inline: Whether no coroutine of this class ever suspends except through the core, so that synchronous code can run it in the
            calling thread. Each class says so for itself; it is not inherited.
        errors: How the client's exceptions are mapped: (exception class, error class, what to do), the first match counts.
        tls: How the store is told about TLS, for messages.
    """

    stability: ClassVar[Stability] = "experimental"
    runs_inline: ClassVar[bool] = False
    errors: ClassVar[ErrorTable] = ()
    tls: ClassVar[TlsOptions] = TlsOptions()

    _client: Client | None = None
    _host: str | None = None  # where the backend is, without credentials, for messages

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        explain_if_lacking(cls)
        init = vars(cls).get("__init__")
        code = getattr(inspect.unwrap(init), "__code__", None) if inspect.isfunction(init) else None
        if code is not None and "__init__" not in code.co_names:
            cls.__init__ = _verified(cast("Callable[..., None]", init))

    def __init__(self, *, default_collection: str | None = None) -> None:
        self.default_collection: str = (
            DEFAULT_COLLECTION if default_collection is None else arguments.name(default_collection, "default collection")
        )
        self._unready = True
        self._closed = False
        self._opened = runtime.Once()
        self._finished = runtime.Once()
        self._abandoned: dict[Future[Any], tuple[Claim, object | None]] = {}
        fork.register_after_fork(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._host or ''})"

    if not TYPE_CHECKING:
        __enter__ = Misused("use `async with`; in synchronous code, `with BlockingKeyValue(…)` around it (keyvalue.blocking)")

    def _after_fork(self) -> None:
        """Make the store fit for use in a forked child, where no other thread is."""
        self._abandoned = {}

    # What a subclass writes.

    @abstractmethod
    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        """Return the entries of distinct keys, aligned with them; those that have expired may be left out."""

    @abstractmethod
    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        """Store entries with distinct keys. An entry's `expires_at` must never be cut short by the backend's own expiry."""

    @abstractmethod
    async def _delete(self, collection: str, keys: Sequence[str]) -> int:
        """Delete distinct keys and return how many of them held an entry that had not expired."""

    async def _open(self) -> None:
        """Prepare the backend; called once, before the first other call. The client is opened here if there is one."""
        if self._client is not None:
            await self._client.open()

    async def _close(self) -> None:  # most have nothing to release
        """Release what the subclass holds besides the client."""

    # What a subclass calls.

    def _use(self, function: Callable[[Any], T | Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Call a function of the client, on whatever runtime this is, with the client's errors mapped. To be awaited.

        Args:
            function: Makes one client call (or one pipeline) and returns what the client returns.
        """
        return self._used(function, None)

    def _use_again(self, function: Callable[[Any], T | Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Call a function of the client that may be called twice, and call it again if the connection was lost.

        One that the client keeps can be dead without anybody having noticed.
        """
        return self._used(function, self._is_lost)

    def _used(
        self, function: Callable[[Any], T | Awaitable[T]], is_lost: Callable[[BaseException | None], bool] | None
    ) -> Coroutine[Any, Any, T]:
        if self._client is None:
            raise RuntimeError(f"{type(self).__name__} has no client: set self._client in __init__")
        claim = _claim.get()
        return self._client.use(function, None if claim is None else partial(self._abandon, claim), self._mapped, is_lost)

    async def _each(self, function: Callable[[S], Awaitable[T]], items: Sequence[S], at_once: int) -> list[T]:
        """Await a function of each item, some at the same time; see `runtime.each`."""
        token = _called.set(_operation())  # those tasks have call stacks of their own
        try:
            return await runtime.each(function, items, at_once)
        finally:
            _called.reset(token)

    def _is_lost(self, error: BaseException | None) -> bool:
        """Return whether a client's error, mapped to StoreConnectionError, came at once: waiting for a second timeout helps nobody."""
        return not isinstance(error, TimeoutError)

    def _mapped(self, error: Exception) -> KeyValueStoreError | None:
        if self._closed:
            return self._closed_error()
        for kind, error_class, advice in self.errors:
            if isinstance(error, kind):
                reason = self._transient_reason(error) if error_class is StoreRefusedError else None
                if error_class is StoreConnectionError and self._client is not None:
                    reason = tls_problem(error, self.tls)
                if reason:
                    return self._problem(StoreConnectionError, reason, error)
                return self._problem(error_class, explanation(error) or advice, error)
        return None

    def _transient_reason(self, error: Exception) -> str | None:
        """Return what to say of a client's error if it is worth retrying although `errors` has it as `StoreRefusedError`."""
        return files.transient_reason(error)

    def _problem(self, error_class: type[E], advice: str, error: Exception) -> E:
        """Make the error to raise for one of the client's, which says where and in which call."""
        info: ExtraInfoType = {"operation": _operation()}
        if self._host is not None:
            info = {"host": self._host, **info}
        return error_class(f"{type(self).__name__}: {advice} [{type(error).__name__}]", info)

    # Above the seam.

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of `key`, or None; see `AsyncKeyValue.get`."""
        collection = self._collection(collection)
        key = arguments.name(key, "key")
        if self._unready or self._abandoned:
            await self._ready(collection, (key,))
        call = self._get(collection, (key,))
        try:
            (entry,) = await call
            if entry is None or (entry.expires_at is not None and entry.expires_at <= clock.now()):
                return None
        except (TypeError, ValueError, AttributeError) as error:
            self._blame_author(error, call)
            raise
        return await runtime.aside(entry.value) if entry.is_large else entry.value()

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return the value of `key` and the seconds that it has left; see `AsyncKeyValue.ttl`."""
        collection = self._collection(collection)
        key = arguments.name(key, "key")
        if self._unready or self._abandoned:
            await self._ready(collection, (key,))
        return (await _with_ttls(await self._get_checked(collection, (key,))))[0]

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return the values of many keys; see `AsyncKeyValue.get_many`."""
        return await _values(_live(await self._entries_of(keys, collection)))

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return the values of many keys and the seconds that they have left; see `AsyncKeyValue.ttl_many`."""
        return await _with_ttls(await self._entries_of(keys, collection))

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`; see `AsyncKeyValue.put`."""
        collection = self._collection(collection)
        key = arguments.name(key, "key")
        arguments.mapping(value)
        now = clock.now()
        expires_at = None if ttl is None else arguments.deadline(ttl, now)
        json = codec.encode_or_defer(value)
        if callable(json):
            json = await runtime.aside(json)
        entry = Entry(collection, key, None, json, now, expires_at)
        if self._unready or self._abandoned:
            await self._ready(collection, (key,))
        await self._write(collection, (key,), self._put(collection, (entry,)))

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """Store many values; see `AsyncKeyValue.put_many`."""
        collection = self._collection(collection)
        keys = arguments.names(keys)
        arguments.mappings(values, len(keys))
        now = clock.now()
        expires_at = arguments.deadline(ttl, now)
        texts = codec.encode_many_or_defer(values)
        if callable(texts):
            texts = await runtime.aside(texts)
        entries = {key: Entry(collection, key, None, json, now, expires_at) for key, json in zip(keys, texts, strict=True)}
        if await self._wanted(collection, entries):
            await self._write(collection, entries, self._put(collection, tuple(entries.values())))

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key` and return whether it was there; see `AsyncKeyValue.delete`."""
        collection = self._collection(collection)
        key = arguments.name(key, "key")
        if self._unready or self._abandoned:
            await self._ready(collection, (key,))
        return await self._delete_checked(collection, (key,), (key,)) > 0

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys and return how many were there; see `AsyncKeyValue.delete_many`."""
        collection = self._collection(collection)
        distinct = tuple(dict.fromkeys(arguments.names(keys)))
        if not await self._wanted(collection, distinct):
            return 0
        return await self._delete_checked(collection, distinct, distinct)

    async def setup(self) -> None:
        """Open the store now rather than at its first use.

        Raises:
            StoreSetupError: It can't be opened. The next call tries again.
            StoreClosedError: It was closed.
        """
        if self._unready:
            await self._ready()

    async def setup_collection(self, *, collection: str) -> None:
        """Open the store, as `setup` does. A collection needs no more than that: what it takes is made by its first put.

        Raises:
            InvalidKeyError: The collection is empty or can't be encoded.
            StoreSetupError: The store can't be opened. The next call tries again.
            StoreClosedError: It was closed.
        """
        arguments.name(collection, "collection")
        await self.setup()

    async def close(self) -> None:
        """Close the store, after waiting for writes that were abandoned. Doing it again is harmless; using the store is not.

        A client that was passed in stays open.
        """
        self._closed = self._unready = True
        if not self._finished.done:
            await self._finished.run(self._finish)

    async def aclose(self) -> None:
        """The same as `close`."""
        await self.close()

    async def __aenter__(self) -> Self:
        await self.setup()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    def _collection(self, collection: str | None) -> str:
        return self.default_collection if collection is None else arguments.name(collection, "collection")

    async def _entries_of(self, keys: Sequence[str], collection: str | None) -> list[Entry | None]:
        collection = self._collection(collection)
        keys = arguments.names(keys)
        distinct = tuple(dict.fromkeys(keys))
        if not await self._wanted(collection, distinct):
            return []
        found = await self._get_checked(collection, distinct)
        if len(distinct) == len(keys):
            return list(found)
        by_key = dict(zip(distinct, found, strict=True))
        return [by_key[key] for key in keys]

    async def _get_checked(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        call = self._get(collection, keys)
        try:
            found = await call
            count = len(found)
        except TypeError as error:
            self._blame_author(error, call)
            raise
        if count != len(keys):
            raise self._author_error("_get", f"returned {count} entries for {len(keys)} keys; it must return one for each, or None")
        if not _FOUND.issuperset(map(type, found)) and not all(
            entry is None or isinstance(cast("object", entry), Entry) for entry in found
        ):
            raise self._author_error("_get", _GET_RETURNS)
        return found

    def _blame_author(self, error: Exception, call: object) -> None:
        """Say what a subclass does wrong if an error comes from the very function that awaits its `_get`."""
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            return
        if not inspect.isawaitable(call):
            raise self._not_awaitable("_get", call) from None
        if isinstance(error, AttributeError) or "unpack" in str(error) or "len()" in str(error):
            raise self._author_error("_get", _GET_RETURNS) from error

    async def _delete_checked(self, collection: str, keys: Collection[str], distinct: Sequence[str]) -> int:
        count = await self._write(collection, keys, self._delete(collection, distinct), "_delete")
        if not isinstance(cast("object", count), int):
            returned = arguments.article(count)
            raise self._author_error("_delete", f"returned {returned}; it must return how many of the keys held an entry")
        return count

    def _author_error(self, hook: str, problem: str) -> RuntimeError:
        return RuntimeError(f"{type(self).__name__}.{hook} {problem}")

    def _not_awaitable(self, hook: str, returned: object) -> RuntimeError:
        return self._author_error(hook, f"returned {arguments.article(returned)}, which can't be awaited; write it with `async def`")

    async def _wanted(self, collection: str, keys: Collection[str]) -> bool:
        """Make ready for a bulk call, unless it is about no keys: that does no I/O."""
        if keys:
            if self._unready or self._abandoned:
                await self._ready(collection, keys)
        elif self._closed:
            raise self._closed_error()
        return bool(keys)

    async def _write(self, collection: str, keys: Collection[str] | None, call: Awaitable[T], hook: str = "_put") -> T:
        """Await a call of a hook with what it is about known to `_use`."""
        try:
            if self._client is None or (runtime.is_inline() and not self._client.leaves_thread()):  # nothing is abandoned in its own thread
                return await call
            before = _claim.get()
            try:
                _claim.set((collection, keys))
                return await call
            finally:
                _claim.set(before)
        except TypeError:
            if not inspect.isawaitable(call):
                raise self._not_awaitable(hook, call) from None
            raise

    async def _ready(self, collection: str | None = None, keys: Iterable[str] = ()) -> None:
        """Open the store if that is still to be done, and wait for abandoned writes that touch the same keys."""
        if self._closed:
            raise self._closed_error()
        if not self._opened.done and _opening.get() is not self:
            await self._opened.run(self._open_checked)
            if self._closed:  # meanwhile
                raise self._closed_error()
        for future, ((claimed, claimed_keys), owner) in list(self._abandoned.items()):
            if collection is None or claimed_keys is None or (claimed == collection and not set(claimed_keys).isdisjoint(keys)):
                await self._settle(future, owner)

    async def _open_checked(self) -> None:
        before = _opening.get()
        try:
            _opening.set(self)
            opened = self._open()
            if not inspect.isawaitable(cast("object", opened)):
                raise self._not_awaitable("_open", opened)
            await opened
        except KeyValueError:
            raise
        except Exception as error:
            raise StoreSetupError(f"{type(self).__name__} could not be set up: {error}") from error
        finally:
            _opening.set(before)
        if self._closed:  # meanwhile: what was opened is to be released again
            await self._close()
            raise self._closed_error()
        self._unready = False

    async def _finish(self) -> None:
        try:
            for future, (_, owner) in list(self._abandoned.items()):
                await self._settle(future, owner)
            if self._client is not None:
                await self._client.close()
        except BaseException:
            if self._client is not None:
                self._client.start_closing()
            raise
        finally:
            await self._close()

    def _abandon(self, claim: Claim, future: Future[Any], owner: object | None) -> None:
        self._abandoned[future] = claim, owner
        future.add_done_callback(lambda future: self._abandoned.pop(future, None))

    async def _settle(self, future: Future[Any], owner: object | None) -> None:
        try:
            await runtime.wait(future, owner)
        except runtime.LoopOverError:
            self._abandoned.pop(future, None)
        except Exception:
            if not future.done():
                raise
            # What the abandoned call itself raised was its caller's affair.

    def _closed_error(self) -> StoreClosedError:
        return StoreClosedError(f"This {type(self).__name__} is closed; make a new one")


class EnumerableStore(BaseStore):
    """A store that can list what it holds, and so also cull and destroy it."""

    @abstractmethod
    def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[Row], None]:
        """Yield all entries of a collection (of all, if None), in pages of any size, expired ones too."""

    @abstractmethod
    async def _cull(self, now: float) -> None:
        """Remove the entries that have expired at `now`, unless they have been put again meanwhile."""

    async def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """List the keys of a collection; see `AsyncEnumerateKeysProtocol`."""
        return await self._listed(self._collection(collection), limit, lambda row: row.key)

    async def collections(self, *, limit: int | None = None) -> list[str]:
        """List the collections that hold an entry; see `AsyncEnumerateCollectionsProtocol`."""
        return await self._listed(None, limit, lambda row: row.collection)

    async def destroy(self) -> bool:
        """Remove every entry that this library wrote to the backend; see `AsyncDestroyStoreProtocol`."""
        await self._destroy(None)
        return True

    async def destroy_collection(self, collection: str) -> bool:
        """Remove every entry of a collection; see `AsyncDestroyCollectionProtocol`."""
        return await self._destroy(arguments.name(collection, "collection"))

    async def cull(self) -> None:
        """Remove the entries that have expired; see `AsyncCullProtocol`."""
        await self._ready()
        await self._write("", None, self._cull(clock.now()), "_cull")

    def _pages(self, collection: str | None) -> aclosing[AsyncGenerator[Sequence[Row], None]]:
        pages = self._scan(collection)
        if not isinstance(cast("object", pages), AsyncGenerator):
            if inspect.iscoroutine(pages):
                pages.close()
            raise TypeError(f"{type(self).__name__}._scan must be an asynchronous generator: `async def` with a `yield` for each page")
        return aclosing(pages)

    async def _listed(self, collection: str | None, limit: int | None, name: Callable[[Row], str]) -> list[str]:
        limit = arguments.limit_of(limit)
        await self._ready()
        found: dict[str, None] = {}
        if limit == 0:
            return []
        now = clock.now()
        async with self._pages(collection) as pages:
            async for page in pages:
                for row in page:
                    if row.expires_at is None or row.expires_at > now:
                        found[name(row)] = None
                        if len(found) == limit:
                            return list(found)
        return list(found)

    async def _destroy(self, collection: str | None) -> bool:
        await self._ready()
        found = False
        now = clock.now()
        async with self._pages(collection) as pages:
            async for page in pages:
                by_collection: dict[str, list[str]] = {}
                for row in page:
                    by_collection.setdefault(row.collection, []).append(row.key)
                    found = found or row.expires_at is None or row.expires_at > now
                for name, keys in by_collection.items():
                    await self._write(name, None, self._delete(name, tuple(dict.fromkeys(keys))), "_delete")
        return found


for _kind in (BaseStore, EnumerableStore):
    show_signatures(_kind)


def _verified(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that makes sure that the one of `BaseStore` was called too."""

    @wraps(init)
    def verified(self: BaseStore, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if "_opened" not in vars(self) and type(self).__init__ is verified:
            raise RuntimeError(f"{type(self).__name__}.__init__ must call super().__init__(default_collection=…)")

    return verified


_OPERATIONS = {
    method.__code__: name
    for base in (BaseStore, EnumerableStore)
    for name, method in vars(base).items()
    if inspect.isfunction(method) and not name.startswith("_")
}


def _operation() -> str:
    """Return the name of the store's method that is being called, by the call stack, so that no call has to keep it for the rare error."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code not in _OPERATIONS:
        frame = frame.f_back
    return _called.get() if frame is None else _OPERATIONS[frame.f_code]


def _live(entries: Sequence[Entry | None]) -> list[Entry | None]:
    now = clock.now()
    return [entry if entry is not None and entry.is_live(now) else None for entry in entries]


async def _values(entries: Sequence[Entry | None]) -> list[dict[str, Any] | None]:
    there = [entry for entry in entries if entry is not None]
    decode = partial(Entry.values, there)
    values = iter(await runtime.aside(decode) if any(entry.is_large for entry in there) else decode())
    return [None if entry is None else next(values) for entry in entries]


async def _with_ttls(entries: Sequence[Entry | None]) -> list[tuple[dict[str, Any] | None, float | None]]:
    now = clock.now()
    live = [entry if entry is not None and entry.is_live(now) else None for entry in entries]
    left = [None if entry is None or entry.expires_at is None else entry.expires_at - now for entry in live]
    return list(zip(await _values(live), left, strict=True))
