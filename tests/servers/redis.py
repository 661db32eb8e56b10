"""A real redis-server: the one at KEYVALUE_TEST_REDIS_URL, or a private one from the PATH."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager

VARIABLE = "KEYVALUE_TEST_REDIS_URL"


def missing() -> str | None:
    """Return why there is no server to be had, or None."""
    if os.environ.get(VARIABLE) or shutil.which("redis-server"):
        return None
    return f"no redis-server on the PATH, and {VARIABLE} is not set"


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def server() -> Generator[str, None, None]:
    """Yield the URL of a running server. The tests empty the database that it names; parallel workers take the next ones."""
    given = os.environ.get(VARIABLE)
    if given:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        base, _, database = given.rpartition("/")
        yield f"{base}/{int(database) + worker}" if database.isdigit() else given
        return
    with private_server() as url:
        yield url


@contextmanager
def private_server(*arguments: str, port: int | None = None) -> Generator[str, None, None]:
    """Yield the URL of a server of one's own, started with more arguments of redis-server."""
    with tempfile.TemporaryDirectory() as directory:
        port = port or free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
        try:
            _await_answer(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _await_answer(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH"):
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError("redis-server was started and does not answer")
        time.sleep(0.01)
