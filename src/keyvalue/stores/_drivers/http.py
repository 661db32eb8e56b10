"""Replies over HTTP that must be there as a whole in time, of clients over urllib3.

Their timeout is the socket's, which starts anew with each byte, so a reply that drips would never end.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache, partial
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from keyvalue.stores._drivers.peer import Peer, judge_http
from keyvalue.stores._drivers.sockets import BoundedSocket
from keyvalue.stores._drivers.tls import TlsOptions

__all__ = ["limit_connections", "limit_pools", "peer_of"]


def peer_of(
    kind: str, url: str | None, tls: TlsOptions, answers: tuple[type[Exception], ...], timeouts: tuple[type[Exception], ...]
) -> Peer | None:
    """Return the server of a URL, for clients that use the proxies of the environment; None where a proxy is between.

    Args:
        kind: What the server should be, for messages.
        url: Where it is; None if that is not known.
        tls: See `Peer`, as for the others.
        answers: The client's errors.
        timeouts: See `answers`.
    """
    if url is None:
        return None
    where = urlsplit(url)
    host, is_secure = where.hostname or "", where.scheme == "https"
    if not {where.scheme, "all"}.isdisjoint(getproxies()) and not proxy_bypass(host):
        return None
    port = where.port or (443 if is_secure else 80)
    return Peer(host, port, is_secure, partial(judge_http, kind), tls, answers=answers, timeouts=timeouts)


class _Received(io.RawIOBase):
    """What a socket receives, until as much time has passed as it may wait for the first of it."""

    def __init__(self, sock: Any) -> None:
        self._raw: io.RawIOBase = sock.makefile("rb", buffering=0)  # as long as that is open, so is the socket
        self._sock = BoundedSocket(sock)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Source:
    """What a response calls a socket: it wants nothing but a file from it."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Received(self._sock))


class _Reply(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        source: Any = _Source(sock)
        super().__init__(source, *args, **options)


@lru_cache
def limit_connections(kind: Any) -> Any:
    """Return a class of connections like another one, with replies limited by their timeout as a whole."""
    return type(kind.__name__, (kind,), {"response_class": _Reply})


@lru_cache
def _limit_pool(kind: Any) -> Any:
    return type(kind.__name__, (kind,), {"ConnectionCls": limit_connections(kind.ConnectionCls)})


def limit_pools(pools: Mapping[str, Any]) -> dict[str, Any]:
    """Return classes of pools like others, by their schemes, with connections that are limited."""
    return {scheme: kind if kind.ConnectionCls.response_class is _Reply else _limit_pool(kind) for scheme, kind in pools.items()}
