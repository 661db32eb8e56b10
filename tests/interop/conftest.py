"""These tests need the dependency group `interop`; elsewhere than in the nox session of that name they are left out."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("fastmcp") else ["test_*.py"]
