"""The docstrings of the protocols, for classes that have their methods.

To type checkers, and so to editors, these are the protocols. When they run, they are plain classes with the same docstrings. Deriving from
a protocol would give a class a metaclass and an order of bases that keep authors from combining it with others, such as pydantic's models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyvalue.protocols import key_value as protocols

if TYPE_CHECKING:
    from keyvalue.protocols.key_value import AsyncKeyValue as AsyncMethods
    from keyvalue.protocols.key_value import KeyValue as Methods

__all__ = ["AsyncMethods", "Methods", "as_plain_class"]


def as_plain_class(protocol: type[Any], kind: type[Any] | None = None) -> type[Any]:
    """Return a class that is not a protocol, with a protocol's functions, and so their docstrings.

    Args:
        protocol: The protocol.
        kind: The class to add them to. Default: a new one.
    """
    kind = type(protocol.__name__, (), {}) if kind is None else kind
    for name in dir(protocol):
        if name[0] != "_":
            setattr(kind, name, getattr(protocol, name))
    return kind


if not TYPE_CHECKING:

    class AsyncMethods:
        """The methods of `AsyncKeyValue`."""

    class Methods:
        """The methods of `KeyValue`."""

    as_plain_class(protocols.AsyncKeyValue, AsyncMethods)
    as_plain_class(protocols.KeyValue, Methods)
