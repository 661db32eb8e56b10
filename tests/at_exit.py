"""Uses a store in an exit handler: `python -m tests.at_exit disk facade DIRECTORY`, or `asyncio` instead of `facade`.

Prints what the handler reads. A backend with a server wants its URL as a fourth argument.
"""

# ruff: noqa: T201 # a program that prints

from __future__ import annotations

import asyncio
import atexit
import sys
from pathlib import Path
from typing import Any

from keyvalue.blocking import BlockingKeyValue
from tests.makers import MAKERS


def main(backend: str, how: str, where: str, url: str = "") -> None:
    store = MAKERS[backend](Path(where), url)
    kv: Any = BlockingKeyValue(store)

    async def use() -> None:
        await store.put("late", {"n": 2})
        print(await store.get("k"), await store.get("late"))

    def use_facade() -> None:
        kv.put("late", {"n": 2})
        print(kv.get("k"), kv.get("late"))

    atexit.register(use_facade if how == "facade" else lambda: asyncio.run(use()))
    if how == "facade":
        kv.put("k", {"n": 1})
    else:
        asyncio.run(store.put("k", {"n": 1}))


if __name__ == "__main__":
    main(*sys.argv[1:])
