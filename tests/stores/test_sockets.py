"""Sockets whose replies do not outlast their timeout."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from keyvalue.stores._drivers.http import limit_connections
from keyvalue.stores._drivers.sockets import BoundedSocket


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket with a timeout, and the other end of its connection."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(0.5)
        yield near, far


def test_looking_whether_a_connection_is_still_there_is_no_reply(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = BoundedSocket(ends[0]), ends[1]
    near.sendall(b"a")
    near._sent_at -= 60  # pyright: ignore[reportPrivateUsage] # a minute ago
    far.sendall(b"bc")
    buffer = bytearray(2)
    assert near.recv(1, socket.MSG_PEEK) == b"b"  # as redis-py with hiredis asks
    assert (near.recv_into(buffer, 0, socket.MSG_PEEK), bytes(buffer)) == (2, b"bc")
    assert (near.recv_into(buffer, 1), buffer[:1]) == (1, b"b")  # the first of the reply, and so not out of time
    with pytest.raises(TimeoutError):
        near.recv_into(buffer, 1)


def test_a_reply_over_http_that_comes_in_parts_is_in_time_as_a_whole_or_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    connection = limit_connections(HTTPConnection)("nowhere")
    connection.sock, far = ends

    def answer(*pauses: float) -> None:
        far.recv(1000)
        for part, pause in zip((b"HTTP/1.1 200 OK\r\n", b"Content-Length: 4\r\n\r\n", b"abcd"), pauses, strict=True):
            time.sleep(pause)
            far.sendall(part)

    for pauses in ((0.0, 0.0, 0.0), (0.0, 0.4, 0.4)):  # seconds; each less than the timeout
        with ThreadPoolExecutor() as pool:
            answering = pool.submit(answer, *pauses)
            connection.request("GET", "/")
            if not any(pauses):
                assert connection.getresponse().read() == b"abcd"
            else:
                with pytest.raises(TimeoutError):
                    connection.getresponse().read()
            answering.result()
