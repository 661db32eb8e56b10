"""A wrapper that keeps all collections in one."""

from __future__ import annotations

from keyvalue._core import arguments, constructor
from keyvalue._core.joined import Joiner
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["SingleCollectionWrapper"]


class SingleCollectionWrapper(BaseWrapper):
    """Keeps all collections in one collection of what it wraps, for backends where a collection costs much.

    Place: below wrappers that look at collections, above encryption. It lists and destroys only what it wrote in that collection.

    Stored: under `<collection><separator><key>` in that collection; see `keyvalue._core.joined` for collections that this would mix up.

    Args:
        key_value: What to wrap.
        single_collection: The collection that holds all others.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`, whatever that of what is
            wrapped.
        separator: What stands between collection and key. Default `"__"`, which an empty one means too.
        legacy_names: Whether names are joined as py-key-value-aio joins them, without escaping, to find what it wrote under a collection
            that holds the separator or runs into it. Such collections may then share entries, and are listed up to the first separator.
            Default False.

    Raises:
        InvalidKeyError: A name is empty or can't be one.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        single_collection: str,
        default_collection: str | None = None,
        separator: str | None = None,
        *,
        legacy_names: bool = False,
    ) -> None:
        self.single_collection: str = arguments.check_name(single_collection, "collection")
        self.default_collection: str = arguments.check_name(default_collection or DEFAULT_COLLECTION, "collection")
        self.separator: str = separator or "__"
        self._names = Joiner(self.separator, escapes=not legacy_names)
        super().__init__(key_value)

    def _capabilities(self) -> frozenset[str]:
        found = super()._capabilities()
        made_of_keys = {"keys", "collections", "destroy", "destroy_collection"}
        return found | made_of_keys if "keys" in found else found - made_of_keys

    def _encode_collection(self, collection: str | None) -> str | None:
        return self.single_collection

    def _encode_key(self, key: str, collection: str | None) -> str:
        return self._names.join(self.default_collection if collection is None else collection, key)

    def _decode_key(self, key: str, collection: str | None) -> str | None:
        return self._names.second(self.default_collection if collection is None else collection, key)

    async def _collections(self, limit: int | None) -> list[str]:
        limit = arguments.check_limit(limit)
        names = map(self._names.split, await self._list_names())
        return list(dict.fromkeys(pair[0] for pair in names if pair is not None))[:limit]

    async def _destroy(self) -> bool:
        own = [key for key in await self._list_names() if self._names.split(key) is not None]
        await self._call(lambda store: store.delete_many(own, collection=self.single_collection), "destroy")
        return True

    async def _list_names(self) -> list[str]:
        return await self._call(lambda store: store.keys(self.single_collection), "collections")
