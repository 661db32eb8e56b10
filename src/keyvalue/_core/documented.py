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

__all__ = ["AsyncMethods", "Methods", "add_methods"]


def add_methods(kind: type[Any], protocol: type[Any]) -> type[Any]:
    """Add a protocol's functions, and so their docstrings, to a class, and return the class."""
    for name in dir(protocol):
        if name[0] != "_":
            setattr(kind, name, getattr(protocol, name))
    return kind


if not TYPE_CHECKING:

    class AsyncMethods:
        """The methods of `AsyncKeyValue`."""

    class Methods:
        """The methods of `KeyValue`."""

    add_methods(AsyncMethods, protocols.AsyncKeyValue)
    add_methods(Methods, protocols.KeyValue)
