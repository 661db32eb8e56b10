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
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsFloat, TypeVar, cast

from keyvalue._core import arguments, clock, codec, runtime, wording
from keyvalue._core.clients import Clients
from keyvalue._core.entry import Entry
from keyvalue._core.error_rules import ErrorRules, find_rule
from keyvalue._core.fork import register_after_fork
from keyvalue._core.misuse import Explaining, Misused, explain_if_lacking, show_signatures
from keyvalue._core.pending import PendingWrites
from keyvalue._core.sockets import TlsOptions, tls_problem
from keyvalue._core.sync_client import explanation
from keyvalue.errors import (
    ExtraInfoType,
    KeyValueError,
    KeyValueStoreError,
    StoreClosedError,
    StoreConnectionError,
    StoreSetupError,
)
from keyvalue.protocols.key_value import AsyncKeyValue

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT_COLLECTION", "BaseStore", "Stability", "name_operation"]

E = TypeVar("E", bound=KeyValueStoreError)
S = TypeVar("S")
T = TypeVar("T")
Stability = Literal["stable", "beta", "experimental"]
"""What a store promises: the layout and names stay; they may change with a word in CHANGELOG; they may change."""

DEFAULT_COLLECTION = "default_collection"

_NO_CALL = object()
_FOUND = frozenset({Entry, type(None)})
_RETURNS = {
    "_put": "None, or for each entry None or the error to raise",
    "_delete": "for each key whether it held an entry, or the error to raise",
}
_GET_RETURNS = "must return a sequence with an Entry or None for each key"
_opening: contextvars.ContextVar[object] = contextvars.ContextVar("keyvalue_opening", default=None)


class BaseStore(Explaining, AsyncKeyValue, ABC):
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
        errors: The rules that translate the client's errors; the first that matches wins.
        tls: How the user turns TLS on and off, for messages.
    """

    stability: ClassVar[Stability] = "experimental"
    runs_inline: ClassVar[bool] = False
    errors: ErrorRules = ()
    tls: ClassVar[TlsOptions] = TlsOptions()

    _clients: Clients | None = None
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
            DEFAULT_COLLECTION if default_collection is None else arguments.check_name(default_collection, "default collection")
        )
        self._unready = True
        self._closed = False
        self._opened = runtime.Once()
        self._finished = runtime.Once()
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

    # What a subclass calls.

    async def _use(self, function: Callable[[Any], T | Awaitable[T]], *, repeatable: bool = False, explained: bool = True) -> T:
        """Call a function of the client, on whatever runtime this is, with the client's errors translated.

        A kept connection can be dead without the client's knowledge. The function is then called once more, if that is safe.

        Args:
            function: Makes one client call (or one pipeline) and returns its result; an awaitable result is awaited.
            repeatable: Whether the backend may get the request twice, as for a read. If not, it is sent again only if it surely was not
                sent.
            explained: Whether to look at the server again to tell why a call failed.
        """
        clients = self._clients
        if clients is None:
            raise RuntimeError(f"{type(self).__name__} has no client: set self._clients in __init__")
        is_repeated = False
        while True:
            try:
                if clients.sync is not None and runtime.is_inline():
                    result = clients.sync.call(function)
                else:
                    result = await clients.on_loop.call(function)
            except Exception as error:
                raised = error if isinstance(error, KeyValueError) else self._translate_error(error)
                cause = error.__cause__ if raised is error else error
                if is_repeated or not (isinstance(raised, StoreConnectionError) and self._may_repeat(cause, repeatable)):
                    if explained and isinstance(raised, KeyValueStoreError) and isinstance(cause, Exception):
                        raised = await self._explain(raised, cause)
                    if raised is None or raised is error:
                        raise
                    raise raised from cause
                is_repeated = True
            else:
                clients.peer = None  # the server has answered, so later errors don't come from a different server in its place
                return result

    async def _explain(self, error: KeyValueStoreError, cause: Exception) -> KeyValueStoreError:
        """Return an error that says what is wrong, if a look at the server shows it, or the one that is given.

        Args:
            error: What is to be raised.
            cause: The client's error.
        """
        peer = None if self._clients is None else self._clients.peer
        return error if peer is None or not isinstance(error, StoreConnectionError) else await peer.explained(error, cause)

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        """Return whether a client's error, translated to StoreConnectionError, may come from a dead connection that the client had kept.

        Not if it came after a wait: a second timeout helps no one.
        """
        return not isinstance(error, TimeoutError)

    def _is_unsent(self, error: BaseException | None) -> bool:
        """Return whether a request surely never reached the backend, by a client's error."""
        rule = find_rule(self.errors, error) if isinstance(error, Exception) else None
        return rule is not None and rule.unsent

    def _may_repeat(self, error: BaseException | None, repeatable: bool) -> bool:
        """Return whether another try may help and do no harm, after an error of the client that means a lost connection."""
        is_unsent = self._clients is not None and not self._clients.is_borrowed and self._is_unsent(error)
        return (repeatable or is_unsent) and self._is_stale_connection(error)

    def _on_error(self, error: Exception) -> None:
        """Called with each of the client's errors before it is translated, such as to remove what quotes a value."""

    def _translate_error(self, error: Exception) -> KeyValueStoreError | None:
        """Return the error to raise for one of the client's, or None to let it pass."""
        self._on_error(error)
        if self._closed:
            return self._closed_error()
        rule = find_rule(self.errors, error)
        if rule is None:
            return None
        advice = explanation(error) or rule.advice if isinstance(rule.advice, str) else rule.advice_for(error)
        if rule.error is StoreConnectionError and self._clients is not None:
            advice = tls_problem(error, self.tls) or advice
        return self._error(rule.error, advice, error)

    def _error(self, error_class: type[E], advice: str, error: Exception) -> E:
        """Create the error to raise for one of the client's, which says where; the public method that it leaves adds its name."""
        info: ExtraInfoType = {} if self._host is None else {"host": self._host}
        return error_class(f"{type(self).__name__}: {advice} [{type(error).__name__}]", info)

    # Above the seam.

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        # What `_collection` does, spelled out: the call would take three percent of a get from memory.
        collection = self.default_collection if collection is None else arguments.check_name(collection, "collection")
        key = arguments.check_name(key, "key")
        call: Any = _NO_CALL
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
            self._blame_author(error, call)
            raise
        return await runtime.run_in_worker(entry.value) if entry.is_large else entry.value()

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        collection = self._collection(collection)
        return (await _with_ttls(await self._fetch("ttl", collection, (arguments.check_name(key, "key"),))))[0]

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        return await _values(_live(await self._fetch_many("get_many", keys, collection)))

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        return await _with_ttls(await self._fetch_many("ttl_many", keys, collection))

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
        call: Any = _NO_CALL
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
        if call is _NO_CALL or error.__traceback__ is None or error.__traceback__.tb_next is not None:
            return
        if not inspect.isawaitable(call):
            raise self._not_awaitable("_get", call) from None
        if isinstance(error, AttributeError) or "unpack" in str(error) or "len()" in str(error):
            raise self._author_error("_get", _GET_RETURNS) from error

    async def _apply(
        self, operation: str, hook: Callable[[str, Any], Awaitable[T]], collection: str, keys: Sequence[str], items: Any
    ) -> T | None:
        """Call `_put` or `_delete` with the items for some keys, if there are any."""
        call: Any = _NO_CALL
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
            if call is _NO_CALL or inspect.isawaitable(call):
                raise
            raise self._not_awaitable(hook.__name__, call) from None

    def _author_error(self, hook: str, problem: str) -> RuntimeError:
        return RuntimeError(f"{type(self).__name__}.{hook} {problem}")

    def _not_awaitable(self, hook: str, returned: object) -> RuntimeError:
        return self._author_error(hook, f"returned {wording.describe(returned)}, which can't be awaited; write it with `async def`")

    def _raise_first(self, operation: str, hook: str, outcomes: object, count: int) -> None:
        """Raise the first error among the outcomes that a hook returned."""
        # Lists are most of what comes, and quickly told from others.
        found = cast("Sequence[object]", outcomes) if type(outcomes) is list or isinstance(outcomes, Sequence) else ()
        if len(found) != count:
            returned = wording.describe(outcomes)  # pyright: ignore[reportUnknownArgumentType] # it may be anything
            raise self._author_error(hook, f"returned {returned} for {count} keys; it must return {_RETURNS[hook]}")
        for outcome in found:
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
                raise self._not_awaitable("_open", opened)
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

    def _closed_error(self) -> StoreClosedError:
        return StoreClosedError(f"This {type(self).__name__} is closed; make a new one")


show_signatures(BaseStore)


def _verified(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that makes sure that the one of `BaseStore` was called too."""

    @wraps(init)
    def verified(self: BaseStore, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if "_opened" not in vars(self) and type(self).__init__ is verified:
            raise RuntimeError(f"{type(self).__name__}.__init__ must call super().__init__(default_collection=…)")

    return verified


def name_operation(error: KeyValueStoreError, operation: str) -> None:
    """Have an error of the client, which says where it happened, say in which call."""
    if error.extra_info is not None and "operation" not in error.extra_info:
        error.add_info(operation=operation)


def _live(entries: Sequence[Entry | None]) -> list[Entry | None]:
    now = clock.now()
    return [entry if entry is not None and entry.is_live(now) else None for entry in entries]


async def _values(entries: Sequence[Entry | None]) -> list[dict[str, Any] | None]:
    there = [entry for entry in entries if entry is not None]
    decode = partial(Entry.values, there)
    values = iter(await runtime.run_in_worker(decode) if any(entry.is_large for entry in there) else decode())
    return [None if entry is None else next(values) for entry in entries]


async def _with_ttls(entries: Sequence[Entry | None]) -> list[tuple[dict[str, Any] | None, float | None]]:
    now = clock.now()
    live = [entry if entry is not None and entry.is_live(now) else None for entry in entries]
    left = [None if entry is None or entry.expires_at is None else entry.expires_at - now for entry in live]
    return list(zip(await _values(live), left, strict=True))
