"""A real memcached."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.servers import Running, Server, free_port, process


@contextmanager
def private_server(*arguments: str) -> Generator[int, None, None]:
    """Yield the port of a server of one's own, started with more arguments."""
    port = free_port()
    with _run(port, None, *arguments):
        yield port


@contextmanager
def _run(port: int, _: str | None, *arguments: str) -> Generator[Running, None, None]:
    """Run one; it keeps nothing on a disk."""
    options = ["-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody", "-m", "64", "-t", "1"]
    options += ["-o", "no_lru_maintainer"]  # which holds on to what was read more than once, and so hides it from `items`
    with process(lambda _: ["memcached", *options, *arguments], partial(_answers, port)) as running:
        yield Running(f"memcached://127.0.0.1:{port}", running)


def command(url: str, text: bytes, end: bytes = b"\r\n") -> bytes:
    """Send a command and return what comes up to and with an end."""
    where: Any = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=5) as connection:
        connection.sendall(text + b"\r\n")
        reply = b""
        while not reply.endswith(end):
            part = connection.recv(65536)
            if not part:
                raise ConnectionResetError
            reply += part
    return reply


def items(url: str) -> dict[str, int]:
    """Return the names that a server holds, and when they expire (-1 if never)."""
    listed = command(url, b"lru_crawler metadump all", b"END\r\n").decode()
    return {unquote(name): int(expiry) for name, expiry in re.findall(r"^key=(\S+) exp=(-?\d+)", listed, re.MULTILINE)}


def _answers(port: int) -> bool:
    return command(f"memcached://127.0.0.1:{port}", b"version").startswith(b"VERSION")


def _absent() -> str | None:
    return None if shutil.which("memcached") else "no memcached on the PATH"


def _empty(url: str) -> None:
    command(url, b"flush_all")


MEMCACHED = Server("memcached", _absent, _run, _empty)
