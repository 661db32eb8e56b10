"""Items in batches that fit into a request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

__all__ = ["split_batches", "split_chunks"]

T = TypeVar("T")


def split_batches(
    items: Iterable[T], size_of: Callable[[T], int], *, size: int, count: int = sys.maxsize
) -> Generator[list[T], None, None]:
    """Yield items in batches; one that is larger than a batch may be has a batch of its own.

    Args:
        items: The items.
        size_of: Returns the size of an item, in bytes.
        size: How many bytes a batch may have.
        count: How many items a batch may have.
    """
    batch: list[T] = []
    total = 0
    for item in items:
        more = size_of(item)
        if batch and (len(batch) == count or total + more > size):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += more
    if batch:
        yield batch


def split_chunks(items: Sequence[T], count: int) -> Generator[Sequence[T], None, None]:
    """Yield items, so many at a time at most."""
    for start in range(0, len(items), count):
        yield items[start : start + count]
