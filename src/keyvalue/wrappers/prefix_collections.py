"""A wrapper that gives its caller collections of its own."""

from __future__ import annotations

from keyvalue._core import arguments, constructor
from keyvalue._core.joined import Joiner
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["PrefixCollectionsWrapper"]


class PrefixCollectionsWrapper(BaseWrapper):
    """Puts a prefix before each collection; it lists and destroys only the collections that have it.

    Place: above wrappers that look at collections (routing, statistics) if these should see the prefix, below them if not.

    Stored: in the collection `<prefix>__<collection>`; see `keyvalue._core.joined` for a prefix that this would mix up with another one.

    Args:
        key_value: What to wrap.
        prefix: The prefix, without the separator. An empty one is a prefix too: names then start with the separator.
        default_collection: The collection that is meant where a call names none, without the prefix. Default `"default_collection"`,
            whatever that of what is wrapped.
        legacy_names: Whether names are joined as py-key-value-aio joins them, without escaping, to find what it wrote under a prefix
            that holds the separator or runs into it. Such prefixes may then share entries. Default False.

    Raises:
        InvalidKeyError: The prefix can't be part of a name.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(self, key_value: AsyncKeyValue, prefix: str, default_collection: str | None = None, *, legacy_names: bool = False) -> None:
        self.prefix: str = prefix if prefix == "" else arguments.check_name(prefix, "prefix")
        self._names = Joiner(escapes=not legacy_names)
        self.default_collection: str = arguments.check_name(default_collection or DEFAULT_COLLECTION, "collection")
        super().__init__(key_value)

    def _encode_collection(self, collection: str | None) -> str | None:
        return self._names.join(self.prefix, self.default_collection if collection is None else collection)

    def _decode_collection(self, collection: str) -> str | None:
        return self._names.second(self.prefix, collection)
