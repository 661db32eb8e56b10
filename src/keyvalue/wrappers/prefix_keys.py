"""A wrapper that gives its caller a part of each collection."""

from __future__ import annotations

from keyvalue._core import arguments, constructor
from keyvalue._core.joined import Joiner
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["PrefixKeysWrapper"]


class PrefixKeysWrapper(BaseWrapper):
    """Puts a prefix before each key; it lists and destroys only the keys that have it.

    Place: above wrappers that look at keys or cache, below those that route by collection.

    Stored: under `<prefix>__<key>`; see `keyvalue._core.joined` for a prefix that this would mix up with another one.

    Args:
        key_value: What to wrap.
        prefix: The prefix, without the separator. An empty one is a prefix too: names then start with the separator.
        legacy_names: Whether names are joined as py-key-value-aio joins them, without escaping, to find what it wrote under a prefix
            that holds the separator or runs into it. Such prefixes may then share entries. Default False.

    Raises:
        InvalidKeyError: The prefix can't be part of a name.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(self, key_value: AsyncKeyValue, prefix: str, *, legacy_names: bool = False) -> None:
        self.prefix: str = prefix if prefix == "" else arguments.check_name(prefix, "prefix")
        self._names = Joiner(escapes=not legacy_names)
        start = self._names.start(self.prefix)
        self._plain_start = start if start.endswith(self._names.separator) else None
        super().__init__(key_value)

    def _encode_key(self, key: str, collection: str | None) -> str:
        return self._plain_start + key if self._plain_start is not None else self._names.join(self.prefix, key)

    def _decode_key(self, key: str, collection: str | None) -> str | None:
        return self._names.second(self.prefix, key)
