"""How a client's errors become this library's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from keyvalue._core import file_errors
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError

__all__ = ["FILE_SYSTEM_RULES", "ErrorRule", "ErrorRules", "find_rule", "unwrapping_rules"]


E = TypeVar("E", bound=Exception)


@dataclass(frozen=True)
class ErrorRule(Generic[E]):
    """What to raise for an error of the client. Of a store's rules, the first that matches counts.

    Attributes:
        types: The class of the client's error, or a tuple of several.
        error: The class to raise: `StoreConnectionError` for what is worth retrying, `StoreRefusedError` for what is not.
        advice: What went wrong and what to do, or a function of the client's error that returns that.
        when: A further condition: a function of the client's error.
        unsent: Whether the request surely never reached the backend, or was turned away unread, so that even a write may be sent again.
    """

    types: type[E] | tuple[type[E], ...]
    error: type[KeyValueStoreError]
    advice: str | Callable[[E], str | None]
    when: Callable[[E], object] | None = None
    unsent: bool = False

    def matches(self, error: Exception) -> bool:
        """Return whether this rule is for an error."""
        return isinstance(error, self.types) and (self.when is None or bool(self.when(error)))

    def advice_for(self, error: E) -> str:
        """Return what to say of an error."""
        return self.advice if isinstance(self.advice, str) else self.advice(error) or ""


_SHORTAGE = ErrorRule(OSError, StoreConnectionError, file_errors.lack, when=file_errors.lack)
"""What the system lacks, such as file descriptors, whatever the backend."""

FILE_SYSTEM_RULES = (
    ErrorRule(OSError, StoreConnectionError, file_errors.transient_reason, when=file_errors.transient_reason),
    ErrorRule(OSError, StoreRefusedError, "the file system refused"),
)
"""Rules for what a file system raises."""


ErrorRules = Sequence[ErrorRule[Any]]
"""What to raise for a client's errors: the first rule that matches counts."""


def find_rule(rules: ErrorRules, error: Exception) -> ErrorRule[Any] | None:
    """Return the first rule that matches an error, or None."""
    return next((rule for rule in (_SHORTAGE, *rules) if rule.matches(error)), None)


def unwrapping_rules(
    types: type[E] | tuple[type[E], ...], unwrap: Callable[[E], Exception | None], rules: ErrorRules
) -> list[ErrorRule[E]]:
    """Return rules for errors that wrap the one that counts.

    Args:
        types: The classes of the outer errors.
        unwrap: Returns the inner error to look at instead, or None.
        rules: The rules for inner errors.
    """

    def rule_within(error: E) -> ErrorRule[Any] | None:
        inner = unwrap(error)
        return None if inner is None else find_rule(rules, inner)

    def advise(error: E) -> str | None:
        inner, rule = unwrap(error), rule_within(error)
        return None if inner is None or rule is None else rule.advice_for(inner)

    def means(kind: type[KeyValueStoreError]) -> Callable[[E], bool]:
        return lambda error: (rule := rule_within(error)) is not None and rule.error is kind

    return [ErrorRule(types, kind, advise, when=means(kind)) for kind in (StoreRefusedError, StoreConnectionError)]
