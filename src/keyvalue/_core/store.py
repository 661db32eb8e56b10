"""The seam: what a store author writes below it, and what is done once above it.

A store is a class with three coroutines, each for many keys (one key is the special case):

- `_get(collection, keys)` returns for each key an `Entry`, or None;
- `_put(collection, entries)` stores entries in place of what was there, and returns the errors of those that could not be stored, if any;
- `_delete(collection, keys)` deletes, and returns for each key whether it held a live entry.

A store that can list derives from `EnumerableStore`, and one over a flat space of names from `FlatStore`. Everything else happens here:
names, values and TTLs are checked before any I/O, values are encoded and decoded, keys come deduplicated, expired entries are absent, the
store is opened exactly once, and the client's errors are translated by rules.
"""

from __future__ import annotations

import contextvars
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsFloat, TypeVar, cast

from keyvalue._core import arguments, clock, codec, hook_checks, runtime
from keyvalue._core.caller import ClientCaller
from keyvalue._core.documented import AsyncMethods
from keyvalue._core.entry import Entry, live_entries, read_values, values_with_ttls
from keyvalue._core.fork import register_after_fork
from keyvalue._core.misuse import Explaining, Misused, explain_if_lacking, show_signatures
from keyvalue._core.once import Once
from keyvalue._core.pending import PendingWrites
from keyvalue.errors import (
    KeyValueError,
    KeyValueStoreError,
    StoreSetupError,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT_COLLECTION", "BaseStore", "Stability", "name_operation"]

S = TypeVar("S")
T = TypeVar("T")
Stability = Literal["stable", "beta", "experimental"]
"""What a store promises: the layout and names stay; they may change with a word in CHANGELOG; they may change."""

DEFAULT_COLLECTION = "default_collection"

_opening: contextvars.ContextVar[object] = contextvars.ContextVar("keyvalue_opening", default=None)


class BaseStore(ClientCaller, Explaining, AsyncMethods, ABC):
    """The base of all stores. "Write your own store" in the documentation says what a subclass writes.

    A store is ready for use at once. As an asynchronous context manager it opens on entering and closes on leaving. Any number of tasks,
    threads and event loops can share it.

    Args:
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.

    Attributes:
        stability: "stable", "beta" or "experimental".
        default_collection: The collection used when a call does not name one.
        runs_inline: True if no coroutine of this class suspends, except through the core, so that synchronous code can run it in the
            calling thread. Each class declares it for itself; it is not inherited.
    """

    stability: ClassVar[Stability] = "experimental"
    runs_inline: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        explain_if_lacking(cls)
        hook_checks.check_init(cls)

    def __init__(self, *, default_collection: str | None = None) -> None:
        self.default_collection: str = (
            DEFAULT_COLLECTION if default_collection is None else arguments.check_name(default_collection, "default collection")
        )
        self._unready = True
        self._opened = Once()
        self._finished = Once()
        self._pending = PendingWrites()
        register_after_fork(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._host or ''})"

    if not TYPE_CHECKING:
        __enter__ = Misused("use `async with`; in synchronous code, `with BlockingKeyValue(…)` around it (keyvalue.blocking)")

    def _after_fork(self) -> None:
        """Reset the store for a forked child, which has no other threads."""
        self._pending = PendingWrites()

    # What a subclass writes.

    @abstractmethod
    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        """Return the entry of each key, or None, in the order of the keys, which are distinct. Expired entries may be None."""

    @abstractmethod
    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        """Store entries with distinct keys. The backend must never expire an entry before its `expires_at`.

        Returns:
            For each entry None or the error that kept it from being stored; None alone if all were stored.
        """

    @abstractmethod
    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool | KeyValueError]:
        """Delete distinct keys, and return for each whether it had a live entry, or the error that prevented the deletion."""

    async def _open(self) -> None:
        """Prepare the backend; called once, before the first other call. The base class creates the client here."""
        if self._clients is not None:
            await self._clients.open()

    async def _close(self) -> None:  # most stores have none
        """Release resources of the subclass besides the client."""

    # Above the seam.

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        # What `_collection` does, spelled out: the call would take three percent of a get from memory.
        collection = self.default_collection if collection is None else arguments.check_name(collection, "collection")
        key = arguments.check_name(key, "key")
        call: Any = hook_checks.NO_CALL
        try:
            if self._unready or self._pending.calls:
                await self._ready(collection, (key,))
            call = self._get(collection, (key,))
            (entry,) = await call
            if entry is None or (entry.expires_at is not None and entry.expires_at <= clock.now()):
                return None
        except KeyValueStoreError as error:
            name_operation(error, "get")
            raise
        except (TypeError, ValueError, AttributeError) as error:
            hook_checks.explain_get(self, call, error)
            raise
        return await runtime.run_in_worker(entry.value) if entry.is_large else entry.value()

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        collection = self._collection(collection)
        return (await values_with_ttls(await self._fetch("ttl", collection, (arguments.check_name(key, "key"),))))[0]

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        return await read_values(live_entries(await self._fetch_many("get_many", keys, collection)))

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        return await values_with_ttls(await self._fetch_many("ttl_many", keys, collection))

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        collection = self._collection(collection)
        key = arguments.check_name(key, "key")
        arguments.check_mapping(value)
        now = clock.now()
        expires_at = None if ttl is None else arguments.expiry_from_ttl(ttl, now)
        json = codec.encode_or_defer(value)
        if callable(json):
            json = await runtime.run_in_worker(json)
        outcomes = await self._apply("put", self._put, collection, (key,), (Entry(collection, key, None, json, now, expires_at),))
        if outcomes is not None:
            self._raise_first("put", "_put", outcomes, 1)

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        collection = self._collection(collection)
        keys = arguments.check_names(keys)
        arguments.check_mappings(values, len(keys))
        now = clock.now()
        expires_at = arguments.expiry_from_ttl(ttl, now)
        texts = codec.encode_many_or_defer(values)
        if callable(texts):
            texts = await runtime.run_in_worker(texts)
        entries = {key: Entry(collection, key, None, json, now, expires_at) for key, json in zip(keys, texts, strict=True)}
        outcomes = await self._apply("put_many", self._put, collection, tuple(entries), tuple(entries.values()))
        if outcomes is not None:
            self._raise_first("put_many", "_put", outcomes, len(entries))

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        collection = self._collection(collection)
        keys = (arguments.check_name(key, "key"),)
        outcomes = await self._apply("delete", self._delete, collection, keys, keys)
        self._raise_first("delete", "_delete", outcomes, 1)
        return bool(outcomes and outcomes[0])

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        collection = self._collection(collection)
        distinct = tuple(dict.fromkeys(arguments.check_names(keys)))
        outcomes = await self._apply("delete_many", self._delete, collection, distinct, distinct)
        if not distinct:
            return 0
        self._raise_first("delete_many", "_delete", outcomes, len(distinct))
        return sum(map(bool, outcomes or ()))

    async def setup(self) -> None:
        """Open the store now rather than at its first use.

        Raises:
            StoreSetupError: The store can't be opened. The next call tries again.
            StoreClosedError: The store is closed.
        """
        if self._unready:
            try:
                await self._ensure_open()
            except KeyValueStoreError as error:
                name_operation(error, "setup")
                raise

    async def setup_collection(self, *, collection: str) -> None:
        """Open the store, as `setup` does. The first put into a collection creates what the collection needs.

        Raises:
            InvalidKeyError: The collection is empty or can't be encoded.
            StoreSetupError: The store can't be opened. The next call tries again.
            StoreClosedError: The store is closed.
        """
        arguments.check_name(collection, "collection")
        await self.setup()

    async def close(self) -> None:
        """Close the store, after waiting for cancelled writes still in flight. Closing it again does nothing.

        A client that you passed in stays open. Any other call then raises `StoreClosedError`.
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
        return self.default_collection if collection is None else arguments.check_name(collection, "collection")

    async def _fetch_many(self, operation: str, keys: Sequence[str], collection: str | None) -> list[Entry | None]:
        collection = self._collection(collection)
        keys = arguments.check_names(keys)
        distinct = tuple(dict.fromkeys(keys))
        found = await self._fetch(operation, collection, distinct)
        if len(distinct) == len(keys):
            return list(found)
        by_key = dict(zip(distinct, found, strict=True))
        return [by_key[key] for key in keys]

    async def _fetch(self, operation: str, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        """Call `_get`, and check what it returns."""
        call: Any = hook_checks.NO_CALL
        try:
            if self._unready or self._pending.calls:
                await self._ready(collection, keys)
            if not keys:
                return ()
            call = self._get(collection, keys)
            found = await call
            count = len(found)
        except KeyValueStoreError as error:
            name_operation(error, operation)
            raise
        except TypeError as error:
            hook_checks.explain_get(self, call, error)
            raise
        hook_checks.check_entries(self, found, count, len(keys))
        return found

    async def _apply(
        self, operation: str, hook: Callable[[str, Any], Awaitable[T]], collection: str, keys: Sequence[str], items: Any
    ) -> T | None:
        """Call `_put` or `_delete` with the items for some keys, if there are any."""
        call: Any = hook_checks.NO_CALL
        try:
            if self._unready or self._pending.calls:
                await self._ready(collection, keys)
            if not keys:
                return None
            call = hook(collection, items)
            return await (self._pending.run((collection, keys), call) if self._clients and self._clients.may_detach() else call)
        except KeyValueStoreError as error:
            name_operation(error, operation)
            raise
        except TypeError:
            if call is hook_checks.NO_CALL or inspect.isawaitable(call):
                raise
            raise hook_checks.not_awaitable(self, hook.__name__, call) from None

    def _raise_first(self, operation: str, hook: str, outcomes: object, count: int) -> None:
        """Raise the first error among the outcomes that a hook returned."""
        for outcome in hook_checks.check_outcomes(self, hook, outcomes, count):
            if isinstance(outcome, KeyValueError):
                if isinstance(outcome, KeyValueStoreError):
                    name_operation(outcome, operation)
                raise outcome

    async def _ready(self, collection: str, keys: Sequence[str]) -> None:
        """Open the store if that is still to be done, unless it is for no keys, and wait for pending writes on the same keys."""
        if self._closed:
            raise self._closed_error()
        if keys:
            await self._ensure_open()
            await self._pending.settle(collection, keys)

    async def _ensure_open(self) -> None:
        if self._closed:
            raise self._closed_error()
        if not self._opened.done and _opening.get() is not self:
            await self._opened.run(self._open_checked)
            if self._closed:  # meanwhile
                raise self._closed_error()

    async def _open_checked(self) -> None:
        before = _opening.get()
        try:
            _opening.set(self)
            opened = self._open()
            if not inspect.isawaitable(cast("object", opened)):
                raise hook_checks.not_awaitable(self, "_open", opened)
            await opened
        except KeyValueError:
            raise
        except Exception as error:
            raise StoreSetupError(f"{type(self).__name__} could not be set up: {error}") from error
        finally:
            _opening.set(before)
        if self._closed:  # meanwhile: release what was opened
            await self._close()
            raise self._closed_error()
        self._unready = False

    async def _finish(self) -> None:
        try:
            await self._pending.drain()
            if self._clients is not None:
                await self._clients.close()
        except BaseException:
            if self._clients is not None:
                self._clients.start_closing()
            raise
        finally:
            await self._close()


show_signatures(BaseStore)


def name_operation(error: KeyValueStoreError, operation: str) -> None:
    """Have an error of the client, which says where it happened, say in which call."""
    if error.extra_info is not None and "operation" not in error.extra_info:
        error.add_info(operation=operation)
