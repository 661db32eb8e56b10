from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import makers
from tests.servers.registry import SERVERS


@pytest.fixture
def opened(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Open both libraries on the backend of the test: `tests.predecessor.open_both`, with keyword arguments."""
    from tests import predecessor  # which imports it, and may be skipped

    url: str = request.getfixturevalue("empty_server")(backend) if backend in SERVERS else ""
    makers.load(backend)
    return partial(predecessor.open_both, backend, tmp_path, url)
