"""Clients of Elasticsearch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from keyvalue._core import codec, constructor, urls
from keyvalue._core.extras import needs
from keyvalue.errors import StoreRefusedError
from keyvalue.stores._drivers.http import limit_connections
from keyvalue.stores._drivers.peer import Peer, judge_http
from keyvalue.stores._drivers.tls import TlsOptions

with needs("elasticsearch"):
    from elastic_transport import ConnectionTimeout, NodeConfig, Urllib3HttpNode
    from elastic_transport.client_utils import url_to_node_config
    from elasticsearch import ApiError, AsyncElasticsearch, Elasticsearch
    from elasticsearch.serializer import JsonSerializer, NdjsonSerializer

_CONNECTIONS = 40  # as many as there are worker threads


class Json(JsonSerializer):
    """Decodes exactly; what takes long is left to the store, which does it off the event loop."""

    def loads(self, data: bytes) -> Any:
        return super().loads(data) if not data else data if len(data) > codec.LARGE else decode(data)


def decode(data: bytes) -> Any:
    """Decode an answer.

    Raises:
        StoreRefusedError: It is not JSON.
    """
    try:
        return codec.decode(data)
    except ValueError:
        raise StoreRefusedError("ElasticsearchStore: the server's answer can't be understood; is the URL right?") from None


class Lines(NdjsonSerializer):
    """Sends large bodies as aiohttp wishes, in parts, so that the event loop can go on meanwhile."""

    def dumps(self, data: bytes) -> Any:
        return _Body(data) if len(data) > codec.LARGE else data


class _Body(io.BytesIO):
    def decode(self, *_: object) -> str:
        """Return what elastic_transport is to log."""
        return f"{len(self.getbuffer())} bytes"


class Node(Urllib3HttpNode):
    """A server, for synchronous clients, with a limit on the time of a whole answer."""

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self.pool.ConnectionCls = limit_connections(self.pool.ConnectionCls)


SYNC_OPTIONS: Mapping[str, Any] = {"serializers": {Json.mimetype: Json()}, "node_class": Node}
"""What decides how synchronous clients encode and decode."""
ASYNC_OPTIONS: Mapping[str, Any] = {"serializers": {Json.mimetype: Json(), Lines.mimetype: Lines()}}
"""What does so for asynchronous clients."""


def create_node(url: str, api_key: str | None) -> NodeConfig:
    """Return the server of a URL.

    Raises:
        ValueError: The URL can't be parsed, no header can hold the API key, or the URL holds other credentials.
    """
    node = urls.parse_url("ElasticsearchStore", url, _parse_node, "https://user:password@localhost:9200")
    if api_key is not None and "authorization" in node.headers:
        raise ValueError("Give ElasticsearchStore either an api_key or a user name and password in the url")
    constructor.check_header("ElasticsearchStore", "api_key", api_key)
    return node


def _parse_node(url: str) -> NodeConfig | None:
    try:
        node = url_to_node_config(url, use_default_ports_for_scheme=True)
    except ValueError:  # its message would quote the password
        return None
    return node if node.scheme in ("http", "https") else None


def default_options(node: NodeConfig, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Return the options of a client that a store creates."""
    return {
        "hosts": [node],
        "api_key": api_key,
        "request_timeout": timeout,
        "connections_per_node": _CONNECTIONS,
        "max_retries": 0,
        "retry_on_timeout": False,
    }


def find_peer(node: NodeConfig, tls: TlsOptions) -> Peer:
    """Return where to look if the server can't be reached."""
    judge = partial(judge_http, "Elasticsearch")
    return Peer(node.host, node.port, node.scheme == "https", judge, tls, answers=(ApiError,), timeouts=(ConnectionTimeout,))


def capacity_of(client: Elasticsearch | AsyncElasticsearch) -> int:
    """Return how many connections a client has to a node."""
    return min(node.config.connections_per_node for node in client.transport.node_pool.all())


def hosts_of(nodes: Sequence[NodeConfig]) -> str:
    """Return hosts and ports of servers, for messages."""
    return ", ".join(f"{node.host}:{node.port}" for node in nodes)


def keeps_integers(client: Elasticsearch | AsyncElasticsearch) -> bool:
    """Return whether a client decodes large integers exactly, not as floats."""
    return type(client.transport.serializers.loads(b"18446744073709551616", Json.mimetype)) is int
