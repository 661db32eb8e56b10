"""Draw the results of `run.py --json FILE` for the embedded stores on asyncio: `python benchmarks/chart.py FILE docs/benchmarks.svg`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STORES = {
    "memory": "MemoryStore",
    "simple": "SimpleStore",
    "disk": "DiskStore",
    "multi-disk": "MultiDiskStore",
    "filetree": "FileTreeStore",
    "rocksdb": "RocksDBStore",
}
OPERATIONS = {"get": "get", "put": "put", "get_many": "get_many(100)", "put_many": "put_many(100)"}
WHO = {
    "predecessor": ("py-key-value-aio 0.5.0", "#b8b8b8"),
    "bare": ("bare client, same JSON work", "#7aa6c2"),
    "keyvalue": ("keyvalue", "#1d5f8a"),
}
LEFT, TOP, CELL_WIDTH, CELL_HEIGHT, BAR = 130, 70, 205, 66, 14
LABEL = 62  # the room that a figure takes


def draw(results: list[dict[str, Any]], footer: str) -> Iterator[str]:
    """Yield the lines of the picture: a row for each store, a column for each operation, in each a bar for each contender."""
    times = {(each["store"], each["operation"], each["who"]): each["seconds"] * 1e6 for each in results if each["runtime"] == "asyncio"}
    width, height = LEFT + CELL_WIDTH * len(OPERATIONS), TOP + CELL_HEIGHT * len(STORES) + 30
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img">'
    yield "<title>Time of a call on asyncio, in microseconds; shorter is better</title>"
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield '<text x="10" y="22" font-size="15" font-weight="bold">Time of a call on asyncio, in µs (shorter is better)</text>'
    for index, (text, colour) in enumerate(WHO.values()):
        yield f'<rect x="{LEFT + index * 210}" y="34" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{LEFT + index * 210 + 18}" y="44">{text}</text>'
    for column, (operation, title) in enumerate(OPERATIONS.items()):
        x = LEFT + column * CELL_WIDTH
        yield f'<text x="{x}" y="{TOP - 6}" font-weight="bold">{title}</text>'
        for row, store in enumerate(STORES):
            y = TOP + row * CELL_HEIGHT
            cell = {who: times[store, operation, who] for who in WHO}
            for place, (who, (_, colour)) in enumerate(WHO.items()):
                length = max(1.0, cell[who] / max(cell.values()) * (CELL_WIDTH - LABEL))
                yield f'<rect x="{x}" y="{y + 4 + place * (BAR + 3)}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
                yield f'<text x="{x + length + 4:.1f}" y="{y + 15 + place * (BAR + 3)}" font-size="11">{_figure(cell[who])}</text>'
    for row, name in enumerate(STORES.values()):
        yield f'<text x="10" y="{TOP + row * CELL_HEIGHT + 33}" font-weight="bold">{name}</text>'
    yield f'<text x="10" y="{height - 10}" font-size="11" fill="#555555">{footer}</text>'
    yield "</svg>"


def _figure(microseconds: float) -> str:
    return f"{microseconds:.1f}" if microseconds < 100 else f"{microseconds:,.0f}"


def main() -> None:
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        measured = json.load(file)
    footer = f"Each cell has its own scale. Python {measured['python']}, medians of {measured['rounds']} rounds, all in one process. "
    footer += "On disk, py-key-value-aio blocks the event loop; the others go to a worker thread."
    Path(target).write_text("\n".join(draw(measured["results"], footer)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
