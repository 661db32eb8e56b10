"""What happens to stores when the process forks.

A child has only the thread that forked. Locks that another thread held stay locked there, connections are shared with the parent, and
threads of a client are gone. So each object that has any of these registers here.
"""

# pyright: reportPrivateUsage=false
# What is registered here keeps its hooks to itself and the core.

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["keep_inherited", "register_after_fork", "register_around_fork"]


class _AfterFork(Protocol):
    def _after_fork(self) -> None: ...


class _AroundFork(Protocol):
    def _before_fork(self) -> None: ...

    def _after_fork_in_parent(self) -> None: ...


_after: weakref.WeakSet[_AfterFork] = weakref.WeakSet()
_around: weakref.WeakSet[_AroundFork] = weakref.WeakSet()
_prepared: list[_AroundFork] = []
_lock = threading.RLock()  # held during a fork, so that no other thread is registering anything


def register_after_fork(instance: _AfterFork) -> None:
    """Have `_after_fork` called on an object in every forked child, to replace its locks and forget threads and connections."""
    with _lock:
        _after.add(instance)


def register_around_fork(instance: _AroundFork) -> None:
    """Have `_before_fork` called on an object before the process forks, and `_after_fork_in_parent` once it has forked."""
    with _lock:
        _around.add(instance)


def keep_inherited(*objects: object) -> None:
    """Keep the parent's clients alive in a forked child: collecting one could end a connection of the parent's, or wait for its threads."""
    import ctypes  # noqa: PLC0415 # only children that inherit a client need it

    for one in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))  # a global would be collected when the interpreter ends


def _before() -> None:
    _lock.acquire()
    for instance in list(_around):
        instance._before_fork()
        _prepared.append(instance)


def _in_parent() -> None:
    while _prepared:
        _prepared.pop()._after_fork_in_parent()
    _lock.release()


def _in_child() -> None:
    global _lock  # noqa: PLW0603 # the one thread of the child may not be the one that holds the parent's
    _lock = threading.RLock()
    _prepared.clear()
    for instance in list(_after):
        instance._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
