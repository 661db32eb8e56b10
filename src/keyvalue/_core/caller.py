"""How a store calls its client: with the client's errors translated, and once more after a connection that was dead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from keyvalue._core import runtime
from keyvalue._core.clients import Clients
from keyvalue._core.error_rules import ErrorRules, find_rule
from keyvalue._core.sync_client import explanation
from keyvalue._core.wording import closed_error
from keyvalue.errors import ExtraInfoType, KeyValueError, KeyValueStoreError, StoreClosedError, StoreConnectionError

__all__ = ["ClientCaller"]

E = TypeVar("E", bound=KeyValueStoreError)
T = TypeVar("T")


class ClientCaller:
    """The part of a store that calls its client.

    Attributes:
        errors: What to raise for the client's errors; the first rule that matches counts.
    """

    errors: ErrorRules = ()

    _clients: Clients | None = None
    _host: str | None = None  # where the backend is, without credentials, for messages
    _closed = False

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
                    if explained and isinstance(raised, KeyValueStoreError) and isinstance(cause, Exception) and not self._closed:
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
        return error if peer is None or not isinstance(error, StoreConnectionError) else await peer.diagnose(error, cause)

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
        """Return the error to raise for one of the client's, with that as its cause, or None to let it pass."""
        self._on_error(error)
        translated: KeyValueStoreError | None = None
        if self._closed:
            translated = self._closed_error()
        elif (rule := find_rule(self.errors, error)) is not None:
            advice = explanation(error) or rule.advice if isinstance(rule.advice, str) else rule.advice_for(error)
            translated = self._error(rule.error, advice, error)
        if translated is not None:
            translated.__cause__ = error
        return translated

    def _error(self, error_class: type[E], advice: str, error: Exception) -> E:
        """Create the error to raise for one of the client's, which says where; the public method that it leaves adds its name."""
        info: ExtraInfoType = {} if self._host is None else {"host": self._host}
        return error_class(f"{type(self).__name__}: {advice} [{type(error).__name__}]", info)

    def _closed_error(self) -> StoreClosedError:
        return closed_error(type(self).__name__)
