"""A bad network between a store and its server, over TCP or a Unix socket."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from tests.servers import free_port

_ABSTRACT = "unix:abstract="


class Proxy:
    """Forwards connections to a server, and can refuse them, drop them, hang, hold back what is sent and cut answers."""

    def __init__(self, url: str) -> None:
        self.url: str  # the server's URL, by way of the proxy
        self.delay = 0.0  # seconds to hold back what a client sends next, once
        self.cuts = 0  # how many of the next answers to cut: the connection ends instead
        self.cut_after = 0  # how many bytes of such an answer come through
        self.resets = False  # whether connections end by a reset, as when the server's process dies, rather than in an orderly way
        self.bytewise = False  # answers come through byte by byte
        self.drip = 0.0  # likewise, with so many seconds between two bytes
        self.accepted = 0  # how many connections there have been
        self._target: Any
        self._address: Any
        if url.startswith(_ABSTRACT):
            self._family = socket.AF_UNIX
            name = f"keyvalue-tests-proxy-{free_port()}"
            self._target, self._address = f"\0{url.removeprefix(_ABSTRACT)}", f"\0{name}"
            self.url = f"{_ABSTRACT}{name}"
        else:
            self._family = socket.AF_INET
            where = urlsplit(url)
            self._target, self._address = (where.hostname, where.port), ("127.0.0.1", free_port())
            credentials, at, _ = where.netloc.rpartition("@")
            self.url = where._replace(netloc=f"{credentials}{at}127.0.0.1:{self._address[1]}").geturl()
        self._flows = threading.Event()
        self._flows.set()
        self._ends: set[socket.socket] = set()
        self._listen()

    @contextmanager
    def refusing(self) -> Generator[None, None, None]:
        """Be as a server that is not there, until the end of the block: connections end, and new ones are refused."""
        self.close()
        try:
            yield
        finally:
            self._listen()

    @contextmanager
    def hanging(self) -> Generator[None, None, None]:
        """Hold back everything until the end of the block; connections are still accepted."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def lead_to(self, url: str) -> None:
        """Forward new connections to another server; those that there are stay."""
        where = urlsplit(url)
        self._target = where.hostname, where.port

    def drop(self) -> None:
        """End all connections; new ones are accepted."""
        for end in list(self._ends):
            self._end(end)

    def close(self) -> None:
        """Refuse connections, and end those that there are."""
        self._end(self._listener)
        self._listener.close()
        self._accepting.join()
        self.drop()

    def _listen(self) -> None:
        self._listener = socket.socket(self._family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(self._address)
        self._listener.listen(100)
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            far = socket.socket(self._family)
            if self._family == socket.AF_INET:
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                far.connect(self._target)
            except OSError:  # the server itself is not there
                far.close()
                near.close()
                continue
            self._ends.update((near, far))
            for source, sink, is_answer in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, is_answer), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                self._flows.wait()
                if is_answer and self.cuts:
                    self.cuts -= 1
                    sink.sendall(data[: self.cut_after])
                    break
                if not is_answer:
                    delay, self.delay = self.delay, 0.0
                    time.sleep(delay)
                bytewise = is_answer and (self.bytewise or self.drip)
                for piece in [data[place : place + 1] for place in range(len(data))] if bytewise else [data]:
                    sink.sendall(piece)
                    if self.bytewise or self.drip:
                        time.sleep(self.drip or 0.0001)  # in which the other end may look at its sockets
        except OSError:
            pass
        finally:
            self._end(source)
            self._end(sink)
            # Closed by the thread that reads it, and by no other, as its number may be another socket's then.
            self._ends.discard(source)
            source.close()

    def _end(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self.resets and connection is not self._listener:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RD)  # only closing it resets the connection
            else:
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def open_proxy(url: str) -> Generator[Proxy, None, None]:
    """Put a proxy before the server of a URL."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
