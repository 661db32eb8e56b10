"""What goes wrong with TLS, and what to do about it in the words of a store."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue.errors import StoreConnectionError

__all__ = ["NO_TLS", "UNANSWERED", "VAGUE", "TlsOptions", "advise_on_tls", "tls_problem"]


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
NO_TLS = "TLS: the server on this port does not speak TLS; {avoid}, or give the port where the server speaks it"
UNANSWERED = "TLS: the handshake was not answered; does the server speak TLS on this port?"
_FAILED = "TLS: the handshake failed"
VAGUE = (UNANSWERED, _FAILED)
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
    ("(?i)alert[_ ]certificate[_ ]required", "TLS: the server wants a certificate of the client, and got none"),
    ("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|corrupt message", NO_TLS),
    ("to (an )?HTTPS", "the server speaks TLS on this port; {use}"),
    ("_EOF_|EOF occurred|handshake operation timed out", UNANSWERED),
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


def advise_on_tls(options: TlsOptions, rules: ErrorRules) -> ErrorRules:
    """Return rules that say what is wrong with TLS, if that is why the server could not be reached."""

    def advise(rule: ErrorRule[Any]) -> Callable[[Exception], str]:
        return lambda error: tls_problem(error, options) or rule.advice_for(error)

    return [replace(rule, advice=advise(rule)) if rule.error is StoreConnectionError else rule for rule in rules]
