"""Documents of MongoDB with another `_id` than that of their pair.

py-key-value-aio leaves the `_id` to MongoDB, and may make several documents of one pair. They are one entry: the document that has the
pair's own `_id` counts, or else the first, so that all processes agree; in either case before those that have expired.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from keyvalue._core import clock
from keyvalue._core.entry import Entry
from keyvalue._core.extras import needs
from keyvalue._core.layout import digest_of
from keyvalue.errors import KeyValueError, StoreRefusedError
from keyvalue.stores._drivers import mongodb as driver
from keyvalue.stores._drivers.mongodb import Fields
from keyvalue.stores._drivers.mongodb_errors import is_duplicate
from keyvalue.stores._drivers.use import Use

with needs("mongodb"):
    from pymongo import InsertOne, UpdateMany

Documents = Sequence[tuple[str, Fields]]
"""The `_id` and the other fields of each."""

Write = Callable[[str, Sequence[Any]], Awaitable[tuple[int, Sequence[KeyValueError | None]]]]
"""Makes many writes to a collection; returns how many documents they found, and the error of each."""

_TRIES = 5
"""How often an update is sent: each time, another put may be quicker in making the document, and a delete remove that."""


def read_entries(documents: Iterable[Any], collection: str, keys: Sequence[str]) -> dict[str, Entry]:
    """Read all documents that were found for some keys."""
    found = driver.group_by_key(documents, collection, keys)
    return {key: driver.read_entry(_choose(several, digest_of(collection, key))) for key, several in found.items()}


async def find_ids(use: Use, name: str, collection: str, keys: Sequence[str]) -> dict[str, list[Any]]:
    """Return the `_id` of all documents of some keys."""
    query = driver.match_pairs(collection, keys)
    ids: dict[str, list[Any]] = {}
    for document in await use(lambda database: database.find(name, query, len(keys), {"key": 1}), repeatable=True):
        fields = driver.decode_document(document)
        ids.setdefault(fields["key"], []).append(fields["_id"])
    return ids


async def put_by_key(use: Use, name: str, document_id: str, fields: Fields) -> None:
    """Put an entry into all documents of its key, of which just one is left; or make one."""
    query, update = driver.match_pairs(fields["collection"], [fields["key"]]), driver.encode_update(document_id, fields)
    for left in reversed(range(_TRIES)):
        try:
            result = await use(lambda database: database[name].update_many(query, update, upsert=True))
        except StoreRefusedError as error:
            if not left or not is_duplicate(error.__cause__):
                raise
        else:
            if result.matched_count > 1:
                await sweep(use, name, fields["collection"], [fields["key"]])
            return


async def put_missing(use: Use, write: Write, name: str, collection: str, documents: Documents) -> Sequence[KeyValueError | None]:
    """Put many entries, after those that have a document with their own `_id` were put into that.

    Returns:
        The error of each, or None.
    """
    ids: dict[str, list[Any]] = {}
    for batch in driver.split_keys(collection, [fields["key"] for _, fields in documents]):
        ids |= await find_ids(use, name, collection, batch)
    models: dict[int, Any] = {}
    moved: dict[int, list[Any]] = {}
    for index, (document_id, fields) in enumerate(documents):
        others = ids.get(fields["key"])
        if others is None:
            models[index] = InsertOne({"_id": document_id, **fields})
        elif document_id not in others:
            moved[index] = others
            # `$in` takes twice as long.
            query = {"_id": others[0] if len(others) == 1 else {"$in": others}}
            models[index] = UpdateMany(query, driver.encode_update(document_id, fields))
    outcomes: list[KeyValueError | None] = [None] * len(documents)
    if not models:
        return outcomes
    matched, errors = await write(name, list(models.values()))
    for index, error in zip(models, errors, strict=True):
        outcomes[index] = error
    again = [index for index, error in enumerate(outcomes) if error is not None and is_duplicate(error.__cause__)]
    if matched < sum(map(len, moved.values())):
        again += [index for index in moved if outcomes[index] is None]
    for index in again:  # their documents were made, or removed, meanwhile
        try:
            await put_by_key(use, name, *documents[index])
            outcomes[index] = None
        except StoreRefusedError as error:
            outcomes[index] = error
    several = [documents[index][1]["key"] for index, others in moved.items() if len(others) > 1 and outcomes[index] is None]
    if several:
        await sweep(use, name, collection, several)
    return outcomes


async def sweep(use: Use, name: str, collection: str, keys: Sequence[str]) -> None:
    """Delete all documents but one of each key, after the same was put into all: its own, or else the first."""
    surplus: list[Any] = []
    for key, ids in (await find_ids(use, name, collection, keys)).items():
        own = digest_of(collection, key)
        surplus += [document_id for document_id in ids if document_id != own] if own in ids else ids[1:]
    if surplus:
        query = {**driver.match_pairs(collection, keys), "_id": {"$in": surplus}}
        await use(lambda database: database[name].delete_many(query))


def _choose(several: Sequence[Fields], own: str) -> Fields:
    if len(several) == 1:
        return several[0]
    now = clock.now()
    live = [fields for fields in several if not _is_expired(fields, now)]
    return next((fields for fields in live if fields["_id"] == own), (live or several)[0])


def _is_expired(fields: Fields, now: float) -> bool:
    try:
        deadline = driver.read_deadline(fields)
    except ValueError:
        return False
    return deadline is not None and deadline <= now
