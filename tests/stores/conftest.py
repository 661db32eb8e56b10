"""What the tests of a store over a network need: its backend is the one that the mark `backends` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.proxy import Proxy, open_proxy
from tests.servers.registry import SERVERS
from tests.stores.hooks import Hooks, hooks_of


@pytest.fixture
def hooks(backend: str, monkeypatch: pytest.MonkeyPatch) -> Hooks:
    hooks = hooks_of(backend)
    hooks.prepare(monkeypatch)
    return hooks


@pytest.fixture
def url(backend: str, empty_server: Callable[[str], str]) -> str:
    """Return the URL of an empty server, or nothing if the backend needs none."""
    return empty_server(backend) if backend in SERVERS else ""


@pytest.fixture
def raw(hooks: Hooks, url: str) -> Iterator[Any]:
    """A client to look behind the store's back."""
    with hooks.raw(url) as client:
        yield client


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with open_proxy(url) as proxy:
        yield proxy
