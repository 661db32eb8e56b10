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


def as_plain_class(protocol: type[Any]) -> type[Any]:
    """Return a class with a protocol's functions, and so their docstrings, that is not a protocol."""
    names = [name for name in dir(protocol) if name[0] != "_"]
    return type(protocol.__name__, (), {name: getattr(protocol, name) for name in names})


if not TYPE_CHECKING:
    AsyncMethods = as_plain_class(protocols.AsyncKeyValue)
    Methods = as_plain_class(protocols.KeyValue)
