"""How the store uses valkey-glide: configurations, clients, and steps of a scan."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from copy import copy
from typing import Any

from keyvalue._core import constructor, runtime, urls
from keyvalue._core.extras import needs
from keyvalue.stores._drivers.peer import Peer
from keyvalue.stores._drivers.resp import PAGE, Command
from keyvalue.stores._drivers.resp_errors import judge
from keyvalue.stores._drivers.tls import TlsOptions

with needs("valkey"):
    import glide
    import glide_sync

KINDS: dict[str, Any] = {
    "sync_types": (glide_sync.GlideClient, glide_sync.GlideClusterClient),
    "async_types": (glide.GlideClient, glide.GlideClusterClient),
    "wanted": "a GlideClient or GlideClusterClient of glide or glide_sync",
}
"""The clients that can be passed in, as `Clients.borrow` takes them."""
_IN_FLIGHT = 1000  # requests that a client of glide takes at a time, if its configuration does not say

_lock = threading.Lock()
_reader: Any = None


def create_config(
    host: str, port: int, db: int, username: str | None, password: str | None, *, tls: bool, cluster: bool, timeout: float
) -> Any:
    """Check what the store's constructor takes, and return glide's configuration of that; its docstring says what is raised."""
    constructor.check_port("ValkeyStore", port)
    constructor.check_integer("ValkeyStore", "db", db, 0)
    milliseconds = math.ceil(timeout * 1000)
    options: dict[str, Any] = {"addresses": [glide.NodeAddress(host, port)], "use_tls": tls, "request_timeout": milliseconds}
    if password is not None:
        options["credentials"] = glide.ServerCredentials(password, username)
    if cluster:
        return glide.GlideClusterClientConfiguration(
            **options, advanced_config=glide.AdvancedGlideClusterClientConfiguration(connection_timeout=milliseconds)
        )
    return glide.GlideClientConfiguration(
        **options, database_id=db, advanced_config=glide.AdvancedGlideClientConfiguration(connection_timeout=milliseconds)
    )


def make_lazy(config: Any) -> Any:
    """Return a configuration for a client that connects at the first call, so that errors come there, on every runtime."""
    lazy = copy(config)
    lazy.lazy_connect = True
    return lazy


def create_client(config: Any) -> Any:
    """Create a synchronous client."""
    kind: Any = glide_sync.GlideClusterClient if is_cluster(config) else glide_sync.GlideClient
    return runtime.call_in_worker(lambda: kind.create(config))  # under a lock of cffi


def create_async_client(config: Any) -> Any:
    """Create an asynchronous client; return None if it could not be used on the running event loop."""
    kind: Any = glide.GlideClusterClient if is_cluster(config) else glide.GlideClient
    return kind.create(config) if _reads_replies_here() else None


def _reads_replies_here() -> bool:
    """Return whether glide's asynchronous client can be used on the running event loop.

    All such clients of a process share one pipe for their replies, which the loop of the first one reads: when that ends, those on other
    loops wait for ever.
    """
    global _reader  # noqa: PLW0603 # as the pipe is
    loop: Any = runtime.running_loop()
    with _lock:
        if _reader is None or _reader.is_closed():
            _reader = loop
        return _reader is loop


def is_cluster(owner: Any) -> bool:
    """Return whether a client or a configuration is one of a cluster."""
    return isinstance(owner, glide.GlideClusterClient | glide_sync.GlideClusterClient | glide.GlideClusterClientConfiguration)


def capacity_of(client: Any) -> int:
    """Return how many requests to make at a time: half of what the client takes, since it counts one for a while after its answer."""
    config = getattr(client, "config", None) or getattr(client, "_config", None)  # private in the synchronous client
    return max(1, (getattr(config, "inflight_requests_limit", None) or _IN_FLIGHT) // 2)


def host_of(config: Any) -> str | None:
    """Return where the servers of a configuration are, for messages."""
    instead = "give port, user name, password and TLS as parameters of their own"
    nodes = [f"{urls.check_host('ValkeyStore', node.host, instead)}:{node.port}" for node in getattr(config, "addresses", ())]
    return ", ".join(nodes) or None


def find_peer(config: Any, tls: TlsOptions, *, verifies: bool) -> Peer:
    """Return where to look if the server can't be reached."""
    node = config.addresses[0]
    return Peer(node.host, node.port, config.use_tls, judge, tls, verifies)


def execute_all(commands: Sequence[Command], client: Any) -> Any:
    """Return the answers to commands that are sent together, errors among them; may return an awaitable."""
    batch: Any = glide.ClusterBatch(is_atomic=False) if is_cluster(client) else glide.Batch(is_atomic=False)
    for command in commands:
        batch.custom_command(list(command))
    return client.exec(batch, raise_on_error=False)


def scan_page(cursor: Any, pattern: bytes, client: Any) -> Any:
    """Return the next cursor of a scan and some keys that match a pattern; may return an awaitable.

    Args:
        cursor: What the step before returned; None for the first one.
        pattern: The pattern.
        client: A client of either kind, alone or a cluster's.
    """
    if not is_cluster(client):
        return client.scan(cursor or "0", match=pattern, count=PAGE)
    package: Any = glide_sync if isinstance(client, glide_sync.GlideClusterClient) else glide
    return client.scan(cursor or package.ClusterScanCursor(), match=pattern, count=PAGE)
