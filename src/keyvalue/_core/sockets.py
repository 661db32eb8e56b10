"""Sockets for blocking clients that keep each reply within its timeout, and why a server could not be reached."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from keyvalue._core import runtime
from keyvalue.errors import StoreConnectionError

__all__ = ["BoundedSocket", "Peer", "TlsOptions", "judge_http", "stranger", "tls_problem"]

T = TypeVar("T")
_PATIENCE = 0.5  # seconds for each step of a look at what listens on a port
_EXPLAINED = 1.0  # seconds for which an explanation of a failure serves others
_REQUEST = b"GET / HTTP/1.0\r\n\r\n"  # servers of most kinds answer it, if only by an error


class TlsOptions(NamedTuple):
    """How a store is told about TLS, for messages.

    Attributes:
        use: What to do to use TLS.
        avoid: What to do to use none.
        trust: What to do to trust an authority.
    """

    use: str = "use TLS"
    avoid: str = "use none"
    trust: str = "have the client trust it"


# What clients over OpenSSL, and glide over rustls, say of TLS.
_NO_TLS = "TLS: the server on this port does not speak TLS; {avoid}, or give the port where the server speaks it"
_UNANSWERED = "TLS: the handshake was not answered; does the server speak TLS on this port?"
_FAILED = "TLS: the handshake failed"
_VAGUE = (_UNANSWERED, _FAILED)
"""What to say if that is all that is known; a look at the port may tell more."""
_PROBLEMS = [
    ("NO_CERTIFICATE_OR_CRL|NO_START_LINE|PEM lib|VALUES_MISMATCH", "TLS: a file does not hold the certificate or the key that it should"),
    (
        "ostname mismatch|address mismatch|doesn't match|NotValidForName",
        "TLS: the server's certificate is for another host name; connect by one of the names in it",
    ),
    ("self.signed certificate|issuer certificate|UnknownIssuer", "TLS: the authority behind the server's certificate is unknown; {trust}"),
    ("certificate has expired|not yet valid|: Expired", "TLS: the server's certificate has expired, or is not valid yet"),
    ("CERTIFICATE_VERIFY_FAILED|invalid peer certificate", "TLS: the server's certificate can't be verified"),
    ("(?i)alert[_ ]certificate[_ ]required", "TLS: the server wants a certificate of the client, and there is none"),
    ("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|corrupt message", _NO_TLS),
    ("to (an )?HTTPS", "the server speaks TLS on this port; {use}"),
    ("_EOF_|EOF occurred|handshake operation timed out", _UNANSWERED),
    (r"\[SSL|SSLError|TlsError|SSL handshake", _FAILED),
]


def tls_problem(error: BaseException, options: TlsOptions) -> str | None:
    """Return what to say of a client's error if it is about TLS."""
    text = _text_of(error)
    found = next((advice for pattern, advice in _PROBLEMS if re.search(pattern, text)), None)
    return None if found is None else found.format(**options._asdict())


def _text_of(error: BaseException) -> str:
    """Return what an error and those behind it say: as causes, or as arguments, as some clients have it."""
    found: dict[int, BaseException] = {}
    left: list[Any] = [error]
    while left:
        one = left.pop()
        if isinstance(one, BaseException) and id(one) not in found:
            found[id(one)] = one
            left += [one.__cause__, *one.args, *getattr(one, "errors", ())]  # not the context: it may be the caller's own
    # Those of elastic_transport do not say all that they are made with.
    return "\n".join(
        f"{type(one).__name__}: {one} {' '.join(said for said in one.args if isinstance(said, str))}" for one in found.values()
    )


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

    async def explained(self, error: StoreConnectionError, cause: Exception) -> StoreConnectionError:
        """Return an error that says what is wrong, if a look at the server shows it, or the one that is given.

        Args:
            error: What is to be raised.
            cause: The client's error.
        """
        is_clear = ": TLS: " in error.message and not any(vague in error.message for vague in _VAGUE)
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
        no_tls = _NO_TLS.format(**self.options._asdict())
        if isinstance(error, self.timeouts):
            return no_tls if self._speaks_plainly() else None
        try:
            if self.is_secure:
                advice = self._explain_secure()
                return no_tls if advice == _UNANSWERED and self._speaks_plainly() else advice
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
            advice = _UNANSWERED
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
                return advice if advice == _UNANSWERED else None
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


class BoundedSocket:
    """A socket with a timeout for everything that it receives after a send, or after it was created.

    Python's own starts anew with each `recv`, so a reply that drips byte by byte would never end. The first `recv` after a `sendall` is
    left as it is, and is all that a short reply needs.

    Args:
        sock: The socket, plain or TLS. Its timeout counts.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._sent_at = time.monotonic()
        self._is_first = True
        # Looked up here, since clients call them for each reply.
        self._sendall = sock.sendall
        self._recv = sock.recv
        self.settimeout = sock.settimeout
        self.gettimeout = sock.gettimeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: Any) -> None:
        """Send data, and have the time for the reply begin."""
        self._sendall(data)
        self._sent_at = time.monotonic()
        self._is_first = True

    def recv(self, size: int, *flags: int) -> bytes:
        """Receive data of the reply; with flags, as when a client looks whether its connection is still there, whatever has come."""
        if flags:
            return self._recv(size, *flags)
        if self._is_first:
            self._is_first = False
            return self._recv(size)
        return self._received(self._recv, size)

    def recv_into(self, buffer: Any, *sizes_and_flags: int) -> int:
        """Receive data of the reply into a buffer; flags as for `recv`."""
        if any(sizes_and_flags[1:]):
            return self._sock.recv_into(buffer, *sizes_and_flags)
        if self._is_first:
            self._is_first = False
            return self._sock.recv_into(buffer, *sizes_and_flags)
        return self._received(self._sock.recv_into, buffer, *sizes_and_flags)

    def _received(self, receive: Callable[..., T], *what: Any) -> T:
        timeout = self.gettimeout()
        if not timeout:  # it does not wait, or is meant to for ever
            return receive(*what)
        left = self._sent_at + timeout - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        try:
            self.settimeout(left)
            return receive(*what)
        finally:
            self.settimeout(timeout)
