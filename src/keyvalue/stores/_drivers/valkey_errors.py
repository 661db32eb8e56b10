"""What valkey-glide's errors mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from keyvalue._core.error_rules import ErrorRule
from keyvalue._core.extras import needs
from keyvalue.errors import StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.resp_errors import ANSWERS, answer_rules

with needs("valkey"):
    import glide

__all__ = ["ERRORS", "NODE_ERRORS", "parse_answer"]

_WORDS: Mapping[str, str] = {
    "AuthenticationFailed": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "ClusterDown": "CLUSTERDOWN",
    "MasterDown": "MASTERDOWN",
    "PermissionDenied": "NOPERM",
    "CrossSlot": "CROSSSLOT",
    "ReadOnly": "READONLY",
    "ResponseError(?=:)": "ERR",  # without a colon, glide has one of its own
    "TryAgain": "TRYAGAIN",
}
"""The first word of a server's answer, where glide has a name of its own for it."""
_ANSWER = re.compile(rf"\b({'|'.join([*ANSWERS, *_WORDS])})\b:? ?(.*)", re.DOTALL)
"""An answer of the server in what glide says, which has one exception for them, and for connecting at the first call."""
_UNREACHABLE = re.compile(
    "IoError|BrokenPipe|receiver was dropped|connect failed|Connection in recovery|initial connections|"
    "AllConnectionsUnavailable|ConnectionNotFoundForRoute|Fatal(Send|Receive)Error"
)
_ELSEWHERE = "Moved:|Ask:|MOVED|ASK"  # of a cluster: its client follows that until it meets a node that is gone


def parse_answer(error: BaseException | None) -> tuple[str, str]:
    """Return the server's answer that an error stands for; see `answer_rules`."""
    found = _ANSWER.search(str(error)[:300]) if isinstance(error, glide.RequestError) else None
    return ("", "") if found is None else (_WORDS.get(found[1], "ERR" if found[1] == "ResponseError" else found[1]), found[2])


def _says(pattern: str) -> Callable[[Exception], object]:
    return lambda error: re.search(pattern, str(error)[:200])


def _is_unreachable(error: glide.RequestError) -> bool:
    return _UNREACHABLE.search(str(error)[:200]) is not None and parse_answer(error)[0] not in ANSWERS


_CROWDED = "the client has too much to do; something else uses it too, so give it a larger inflight_requests_limit"
_NO_PRIMARY = "there is no primary at this address, only a read-only replica; connect to the primary, or to a name that leads there"
_NO_CLUSTER = "the server is not a node of a cluster; leave out cluster=True"
_NOT_REACHED = "could not reach the server; is it running, and are host, port and db right?"
_CLOSED = "the client is closed or could not reach the server; are host and port right?"
ERRORS = (
    ErrorRule(glide.RequestError, StoreConnectionError, _CROWDED, _says("maximum inflight"), unsent=True),
    ErrorRule(glide.RequestError, StoreConnectionError, _NO_PRIMARY, _says("No primary node found")),
    ErrorRule(glide.RequestError, StoreRefusedError, _NO_CLUSTER, _says("No topology views found- ResponseError")),
    ErrorRule(glide.RequestError, StoreConnectionError, _NOT_REACHED, _says(_ELSEWHERE)),
    ErrorRule(glide.RequestError, StoreConnectionError, _NOT_REACHED, _is_unreachable),
    *answer_rules((glide.RequestError,), parse_answer),
    ErrorRule(glide.TimeoutError, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(glide.ConnectionError, StoreConnectionError, "the connection was lost"),
    ErrorRule(glide.ClosingError, StoreConnectionError, _CLOSED),
    ErrorRule(glide.GlideError, StoreRefusedError, "the server refused the command"),
)
"""What to raise for them."""
NODE_ERRORS = (ErrorRule(glide.RequestError, StoreRefusedError, f"the server answers MOVED: {ANSWERS['MOVED'][1]}", _says(_ELSEWHERE)),)
"""What comes before these where the client is not one of a cluster."""
