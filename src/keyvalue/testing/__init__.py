"""The contract as a suite of tests, for the author of a store or of a wrapper; see "Write your own store" in the documentation.

It needs pytest and trio: `pip install 'keyvalue[testing]'`.
"""

from keyvalue._core.extras import needs

with needs("testing"):
    import pytest
    import trio

del trio  # one that is missing is reported here, rather than by every test that runs on it

# Before they are imported: their asserts then show what they compared, as those of the test files do.
pytest.register_assert_rewrite(*(f"keyvalue.testing.{name}" for name in ("_suite", "_arguments", "_contract")))

from keyvalue.testing._arguments import ArgumentContract  # noqa: E402 # asserts are rewritten on import
from keyvalue.testing._clock import Clock  # noqa: E402 # as above
from keyvalue.testing._contract import StoreContract  # noqa: E402 # as above
from keyvalue.testing._runtime import Runtime, RuntimeName  # noqa: E402 # as above

__all__ = ["ArgumentContract", "Clock", "Runtime", "RuntimeName", "StoreContract"]
