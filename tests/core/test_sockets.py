"""Sockets whose replies do not outlast their timeout."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from keyvalue._core.sockets import BoundedSocket


@pytest.fixture
def ends() -> Iterator[tuple[BoundedSocket, socket.socket]]:
    """A bounded socket with a timeout, and the other end of its connection."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(0.2)
        yield BoundedSocket(near), far


def test_looking_whether_a_connection_is_still_there_is_no_reply(ends: tuple[BoundedSocket, socket.socket]) -> None:
    near, far = ends
    near.sendall(b"a")
    time.sleep(0.3)
    far.sendall(b"bc")
    buffer = bytearray(2)
    assert near.recv(1, socket.MSG_PEEK) == b"b"  # as redis-py with hiredis asks
    assert (near.recv_into(buffer, 0, socket.MSG_PEEK), bytes(buffer)) == (2, b"bc")
    assert (near.recv_into(buffer, 1), buffer[:1]) == (1, b"b")  # the first of the reply, and so not out of time
    with pytest.raises(TimeoutError):
        near.recv_into(buffer, 1)
