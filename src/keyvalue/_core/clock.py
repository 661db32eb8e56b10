"""The one clock: seconds since the epoch, as a float.

All of the library asks `clock.now()`, through the module, so that a test that replaces it moves the time for every store at once.
"""

from time import time as now

__all__ = ["now"]
