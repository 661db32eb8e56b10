"""What the errors of elasticsearch-py mean, and those that the server reports about a part of a request."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from keyvalue._core.error_rules import ErrorRule
from keyvalue._core.extras import needs
from keyvalue.errors import StoreConnectionError, StoreRefusedError, StoreSetupError

with needs("elasticsearch"):
    import elastic_transport
    from elasticsearch import ApiError
    from elasticsearch.exceptions import AuthenticationException, AuthorizationException, UnsupportedProductError

NO_INDEX = "index_not_found_exception"
_UNAVAILABLE = {408, 425, 429, *range(500, 600)}
_TOO_LARGE = 413
_STARTING = re.compile("no_shard_available|all shards|missing shards")
_PASSING = re.compile("shard|rejected|breaking|timeout|connect|master|node_closed|disconnect")
_PASSING_BLOCK = re.compile(r"blocked by: \[(SERVICE_UNAVAILABLE|TOO_MANY_REQUESTS)/")
_UNCONNECTED = re.compile("Failed to establish a new connection|Cannot connect to host|NameResolutionError")
_NEWER_CLIENT = re.compile("media_type_header|compatible-with")

_ADVICE = {
    "index_closed_exception": "the index is closed; open it",
    "cluster_block_exception": "the index or the cluster is blocked, as by a full disk; see `index.blocks` and `cluster.blocks`",
    "maximum normal shards open": "the cluster has as many shards as it takes; raise cluster.max_shards_per_node, or delete indices",
}
_BUSY = "the server is not available now, or has too much to do"
_DATA_STREAM = "a template of the server makes data streams of such names, not indices; choose another index_prefix"
_UPGRADE = "the client is newer than the server; install the version of `elasticsearch` that the server has"
_UNREACHABLE = "could not reach the server; is it running, and is the URL right?"


class ItemError(Exception):
    """The server's error about a part of a request. Its reason is left out: it may quote the value.

    Attributes:
        kind: What the server calls it.
        status_code: Its status of HTTP.
        part: The part that it is about.
    """

    def __init__(self, kind: str, status_code: int, part: str = "a document") -> None:
        super().__init__(kind)
        self.kind: str = kind
        self.status_code: int = status_code
        self.part: str = part


def lacks_index(error: BaseException | None) -> bool:
    """Return whether there is no such index."""
    return NO_INDEX in _text_of(error)


def is_starting(error: BaseException | None) -> bool:
    """Return whether an index can't be read yet, because it is being created."""
    return _STARTING.search(_text_of(error)) is not None


def is_too_large(error: BaseException | None) -> bool:
    """Return whether the server, or a gateway before it, refused a request unread for its size."""
    return getattr(error, "status_code", None) == _TOO_LARGE


def may_exist(error: BaseException | None) -> bool:
    """Return whether an index that could not be created or looked at may be there: who may write to it need not be allowed that."""
    return isinstance(error, AuthorizationException) or "already exists" in _text_of(error)


def passes(kind: str, reason: str) -> bool:
    """Return whether the server may do later what it did not do now."""
    return _PASSING.search(kind) is not None or _PASSING_BLOCK.search(reason) is not None


def _is_unavailable(error: ApiError | ItemError) -> bool:
    return error.status_code in _UNAVAILABLE


def _is_unsent(error: elastic_transport.ConnectionError) -> bool:
    return _UNCONNECTED.search(str(error)) is not None


def _text_of(error: BaseException | None) -> str:
    return str(getattr(error, "body", error))


def _advise(text: str) -> str:
    return next((advice for kind, advice in _ADVICE.items() if kind in text), "")


def _describe(error: ApiError) -> str:
    """Return what the server calls an error, or its status; not its reason, which may quote the value."""
    body: Any = error.body
    with suppress(KeyError, TypeError):
        return str(body["error"]["type"])
    return f"HTTP status {error.status_code}{': a redirect; give the URL that it leads to' if 300 <= error.status_code < 400 else ''}"


def _describe_refusal(error: ItemError) -> str:
    advice = _advise(error.kind)
    return f"the server refused {error.part} ({error.kind}){advice and f': {advice}'}"


ERRORS = (
    ErrorRule(ApiError, StoreConnectionError, lambda error: f"{_BUSY} ({error.status_code})", _is_unavailable),
    ErrorRule(ApiError, StoreSetupError, _DATA_STREAM, when=lambda error: "data streams only" in _text_of(error)),
    ErrorRule(ApiError, StoreRefusedError, lambda error: _advise(_text_of(error)), when=lambda error: _advise(_text_of(error))),
    ErrorRule(ApiError, StoreRefusedError, _UPGRADE, when=lambda error: _NEWER_CLIENT.search(_text_of(error))),
    ErrorRule(AuthenticationException, StoreRefusedError, "the server refused the credentials; check user and password or api_key"),
    ErrorRule(AuthorizationException, StoreRefusedError, "the server refused the request; check the user's rights"),
    ErrorRule(UnsupportedProductError, StoreRefusedError, "the server is not Elasticsearch"),
    ErrorRule(ApiError, StoreRefusedError, lambda error: f"the server refused the request ({_describe(error)})"),
    ErrorRule(ItemError, StoreConnectionError, lambda error: f"{_BUSY}, for {error.part} ({error.kind})", _is_unavailable),
    ErrorRule(ItemError, StoreRefusedError, _describe_refusal),
    ErrorRule(elastic_transport.ConnectionTimeout, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(elastic_transport.ConnectionError, StoreConnectionError, _UNREACHABLE, _is_unsent, unsent=True),
    ErrorRule(elastic_transport.ConnectionError, StoreConnectionError, _UNREACHABLE),
    ErrorRule(elastic_transport.TransportError, StoreRefusedError, "the server's answer can't be understood"),
)
"""What to raise for them."""
