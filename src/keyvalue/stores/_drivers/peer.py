"""A look at the server, to say why it could not be reached: a client often can't tell."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from keyvalue._core import runtime
from keyvalue.errors import StoreConnectionError
from keyvalue.stores._drivers.tls import NO_TLS, UNANSWERED, VAGUE, TlsOptions, tls_problem

__all__ = ["Peer", "judge_http", "stranger"]

_PATIENCE = 0.5  # seconds for each step of a look at what listens on a port
_EXPLAINED = 1.0  # seconds for which an explanation of a failure serves others
_REQUEST = b"GET / HTTP/1.0\r\n\r\n"  # servers of most kinds answer it, if only by an error


@dataclass
class Peer:
    """Where a server should be, to look at what is there if it can't be reached: a client often can't tell.

    Attributes:
        host: Its name or address.
        port: Its port.
        is_secure: Whether it is to speak TLS.
        judge: Returns what to say of an answer to a request of HTTP; None if it is one of such a server, and explains nothing.
        options: How the store is told about TLS.
        verifies: Whether to look at its certificate as the system does.
        answers: The client's errors that are answers, after which there is nothing to look for.
        timeouts: Those that say that no answer came in time. After them only TLS is examined: a slow server is still the right server.
    """

    host: str
    port: int
    is_secure: bool
    judge: Callable[[bytes], str | None]
    options: TlsOptions
    verifies: bool = False
    answers: tuple[type[Exception], ...] = ()
    timeouts: tuple[type[Exception], ...] = ()
    _explained: tuple[float, str | None] = field(default=(0.0, None), init=False)  # until when an explanation serves, and that

    async def diagnose(self, error: StoreConnectionError, cause: Exception) -> StoreConnectionError:
        """Return an error that says what is wrong, if a look at the server shows it, or the one that is given.

        Args:
            error: What is to be raised.
            cause: The client's error.
        """
        is_clear = ": TLS: " in error.message and not any(vague in error.message for vague in VAGUE)
        if is_clear or isinstance(cause, self.answers) or (isinstance(cause, self.timeouts) and not self.is_secure):
            return error
        until, advice = self._explained
        if time.monotonic() >= until:
            self._explained = time.monotonic() + _EXPLAINED, None  # those that fail meanwhile don't look too
            advice = await runtime.run_in_worker(partial(self.explain, cause))
            self._explained = time.monotonic() + _EXPLAINED, advice
        if advice is None:
            return error
        return StoreConnectionError(f"{error.message.partition(':')[0]}: {advice} [{type(cause).__name__}]", error.extra_info)

    def explain(self, error: Exception) -> str | None:
        """Return why the server can't be used, if that can be seen. Blocks for a second or so, and while the name is resolved."""
        no_tls = NO_TLS.format(**self.options._asdict())
        if isinstance(error, self.timeouts):
            return no_tls if self._speaks_plainly() else None
        try:
            if self.is_secure:
                advice = self._explain_secure()
                return no_tls if advice == UNANSWERED and self._speaks_plainly() else advice
            with self._connect() as sock:
                answer = _answer(sock)
        except socket.gaierror:
            return "could not resolve the name of the host; is it right, and does name resolution work here?"
        except OSError:
            return None
        if answer is None:
            return None
        if (not answer or answer[0] < 0x20 or b"HTTPS" in answer) and self._speaks_tls():
            return f"the server speaks TLS on this port; {self.options.use}"
        return self.judge(answer) if (answer := answer or self._version()) else None

    def _connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), _PATIENCE)

    def _version(self) -> bytes | None:
        """Return what is answered to a request of Memcached, which just ends the connection at one of HTTP."""
        try:
            with self._connect() as sock:
                return _answer(sock, b"version\r\n")
        except OSError:
            return None

    def _speaks_plainly(self) -> bool:
        try:
            with self._connect() as sock:
                answer = _answer(sock)
        except OSError:
            return False
        return bool(answer) and answer[0] >= 0x20 and b"HTTPS" not in answer

    def _speaks_tls(self) -> bool:
        try:
            with self._connect() as sock, _context(verifies=False).wrap_socket(sock):
                return True
        except OSError:
            return False

    def _explain_secure(self) -> str | None:
        with self._connect() as sock:
            advice = UNANSWERED
            try:
                with _context(self.verifies).wrap_socket(sock, server_hostname=self.host) as secure:
                    advice = "TLS: the server ended the connection after the handshake; does it want a certificate of the client?"
                    secure.sendall(_REQUEST)
                    answer = secure.recv(200)
            except ssl.SSLError as error:
                return tls_problem(error, self.options)
            except ConnectionError:
                return advice
            except TimeoutError:
                return advice if advice == UNANSWERED else None
            return self.judge(answer) if answer else None


def stranger(kind: str, answer: bytes) -> str:
    """Return what to say of a server that is not of a kind, by its answer to a request of HTTP."""
    others = {
        b"HTTP/": "HTTP",
        b"<": "HTTP",
        b"SSH-": "SSH",
        b"220": "SMTP or FTP",
        b"-": "the protocol of Redis",
        b"ERROR\r": "the protocol of Memcached",
        b"VERSION": "the protocol of Memcached",
    }
    what = next((f", it speaks {name}" for start, name in others.items() if answer.startswith(start)), "")
    return f"what listens on this port is not {kind}{what}; are host and port right?"


def judge_http(kind: str, answer: bytes) -> str | None:
    """Judge an answer for a `Peer` of a kind that speaks HTTP."""
    return None if answer.startswith((b"HTTP/", b"<")) else stranger(kind, answer)


def _context(verifies: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _answer(sock: socket.socket, request: bytes = _REQUEST) -> bytes | None:
    """Return the start of what is answered; empty if the connection just ends, None if nothing comes."""
    try:
        sock.sendall(request)
        return sock.recv(200)
    except TimeoutError:
        return None
    except OSError:
        return b""
