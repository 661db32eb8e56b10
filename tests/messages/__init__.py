"""Mistakes as data, each with the words that must be in its message and those that must not.

`pytest tests/messages -rP` shows all messages, to be read aloud.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from tests.said import collect_own_texts

__all__ = ["Mistake", "check"]


@dataclass(frozen=True)
class Mistake:
    """Something that a user does wrong.

    Attributes:
        name: What it is, in a few words.
        do: Does it. It gets what the test hands over, such as a server's URL or a directory, and may return an awaitable.
        error: The exception that it must raise.
        says: Words that must be in the message.
        not_says: Words that must not be in the message, such as a wrong cause.
        secrets: Words that must not be anywhere in the chain of exceptions.
    """

    name: str
    do: Callable[..., Any]
    error: type[BaseException]
    says: Sequence[str]
    not_says: Sequence[str] = ()
    secrets: Sequence[str] = ()


def check(mistake: Mistake, *given: Any) -> None:
    """Do it, and check its message."""

    async def run() -> None:
        result = mistake.do(*given)
        if inspect.isawaitable(result):
            await result

    with pytest.raises(mistake.error) as caught:
        anyio.run(run)
    message = str(caught.value)
    print(f"{mistake.name}: {type(caught.value).__name__}: {message}")  # noqa: T201 # for who reads the messages aloud
    for words in mistake.says:
        assert words in message
    for words in mistake.not_says:
        assert words not in message
    texts = collect_own_texts(caught.value)
    for secret in mistake.secrets:
        assert not any(secret in text for text in texts)
