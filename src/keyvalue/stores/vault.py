"""A store in the KV secrets engine of Vault or OpenBao, over hvac."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, ClassVar

from keyvalue._core import constructor, runtime, urls
from keyvalue._core.clients import Clients
from keyvalue._core.driver import DriverStore
from keyvalue._core.entry import Stored
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.flat import map_outcomes
from keyvalue._core.layout import KeyLayout
from keyvalue._core.listing import PAGE_SIZE, EnumerableFlatStore
from keyvalue._core.store import Stability
from keyvalue.errors import StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.http import peer_of
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls

with needs("vault"):
    import hvac
    import hvac.exceptions
    import requests
    from urllib3.exceptions import NewConnectionError, ProtocolError
    from urllib3.util import parse_url

    from keyvalue.stores._drivers.vault import VaultDriver, VaultLayout
    from keyvalue.stores._drivers.vault_client import PlainRequestError, StrangerError, UnsendableError, create_client, is_path

__all__ = ["VaultStore"]

_URL = "http://localhost:8200"
_CONNECTIONS = 40  # as many as there are worker threads
_GIVEN = 10  # connections that a session of requests keeps by default
_AT_ONCE = 10  # requests of one call
_UNREACHABLE = "could not reach the server; is it running, and is the URL right?"


def _is_unsent(error: requests.ConnectionError) -> bool:
    return bool(error.args) and isinstance(getattr(error.args[0], "reason", None), NewConnectionError)


_TLS = TlsOptions("write https:// in the URL", "write http:// in the URL", "name the file with its certificate by VAULT_CACERT")
_ERRORS: ErrorRules = (
    ErrorRule(requests.Timeout, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(
        requests.exceptions.SSLError, StoreConnectionError, "could not agree on TLS with the server; check the URL and the certificates"
    ),
    ErrorRule(requests.ConnectionError, StoreConnectionError, _UNREACHABLE, when=_is_unsent, unsent=True),
    ErrorRule(requests.ConnectionError, StoreConnectionError, _UNREACHABLE),
    ErrorRule(requests.exceptions.ChunkedEncodingError, StoreConnectionError, "the server closed the connection"),
    ErrorRule(hvac.exceptions.VaultDown, StoreConnectionError, "the server is sealed, a standby, or has too much to do"),
    ErrorRule(hvac.exceptions.VaultNotInitialized, StoreConnectionError, "the server is not initialized"),
    ErrorRule(hvac.exceptions.RateLimitExceeded, StoreConnectionError, "the server takes no more requests for now"),
    ErrorRule(hvac.exceptions.BadGateway, StoreConnectionError, "a proxy could not reach the server"),
    ErrorRule(hvac.exceptions.InternalServerError, StoreConnectionError, "the server failed"),
    ErrorRule(hvac.exceptions.Forbidden, StoreRefusedError, "the server refused; check the token, its policies, namespace and mount_point"),
    ErrorRule(hvac.exceptions.Unauthorized, StoreRefusedError, "the server refused the token"),
    ErrorRule(hvac.exceptions.InvalidPath, StoreRefusedError, "the server has nothing at mount_point; check that, and the namespace"),
    ErrorRule(
        hvac.exceptions.UnsupportedOperation,
        StoreRefusedError,
        "no KV secrets engine of version 2 is mounted at mount_point; pass the path of the mount alone; or does the URL redirect?",
    ),
    ErrorRule(hvac.exceptions.VaultError, StoreRefusedError, "the server refused the request"),
    ErrorRule(StrangerError, StoreRefusedError, "what answers is not Vault; is the URL right?"),
    ErrorRule(PlainRequestError, StoreRefusedError, "the server speaks TLS on this port; write https:// in the URL"),
    ErrorRule(
        UnsendableError,
        StoreRefusedError,
        "the request can't be sent; is the URL right, or was the token read with a line break at its end?",
    ),
    ErrorRule(requests.RequestException, StoreRefusedError, "the request can't be sent, or the answer not be understood"),
    ErrorRule(OSError, StoreRefusedError, "the request can't be sent; are the files with the certificates there?"),
)


class VaultStore(DriverStore, EnumerableFlatStore):
    """Keeps each entry as a secret in the KV secrets engine, version 2, of HashiCorp Vault or OpenBao.

    Format: the secret `<collection>::<key>` (`keyvalue._core.layout` has the exceptions) has one field, `value`: the JSON document of
    `keyvalue._core.entry` as a string. A name that is not a valid path (more than 150 bytes; `.`, `..` or nothing between two slashes; a
    slash at an end; characters that are not printable or are newer than Unicode 3.2) is replaced by
    `~<SHA-256 of the collection>/~<SHA-256 of the key>`, in hexadecimal.

    The engine keeps earlier versions of a secret, 10 by default, so overwritten values can still be read there. `delete`, and `cull` for an
    expired entry, write an empty expired document by check-and-set, and destroy the values of the last 100 versions if the token may
    `update` the path `destroy/`. The secret itself stays, so that its version numbers never start again; `destroy` and
    `destroy_collection` remove it.

    On asyncio and trio, calls run in worker threads, in synchronous code directly. Each key takes a request; `get_many`, `put_many` and
    `delete_many` send ten at a time, in synchronous code one. Listing reads each entry that it lists; `collections`, `destroy` and `cull`
    list all folders under the mount point. A call fails at once if the server can't be reached; to retry, use a `RetryWrapper`.

    Args:
        client: A client of hvac, with its own timeout. It is never closed.
        url: The server, without a client. None means the environment variable `VAULT_ADDR`. Default "http://localhost:8200".
        token: The token, which the store does not renew. Default: the environment variable `VAULT_TOKEN`, or the file `~/.vault-token`.
        mount_point: The path where the engine is mounted, and nothing below it. Default "secret".
        namespace: The namespace, in Vault Enterprise, HCP Vault or OpenBao.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        timeout: Seconds allowed for connecting, and for a complete answer, without a client. Default 5.

    Raises:
        ValueError: Both a client and a URL, token or namespace; a URL that can't be parsed; an invalid mount point; a token or namespace
            that can't be sent; or `timeout` is not positive.
        TypeError: The client is not an `hvac.Client`.
        ValueTooLargeError: On put: the server does not accept values of this size. The default limit is 1 MiB for Vault 1.20 and later
            and for integrated storage (raft), otherwise 32 MiB.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = advise_on_tls(_TLS, _ERRORS)

    @constructor.check_types
    def __init__(
        self,
        *,
        client: hvac.Client | None = None,
        url: str | None = _URL,
        token: str | None = None,
        mount_point: str = "secret",
        namespace: str | None = None,
        default_collection: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(default_collection=default_collection)
        constructor.check_seconds(timeout, "timeout")
        mount_point = mount_point.strip("/")
        if not is_path(mount_point):
            raise ValueError("The mount_point of VaultStore must be the path of a secrets engine, such as 'secret' or 'team/kv'")
        self.layout: KeyLayout = VaultLayout()
        if client is not None:
            if url != _URL or token is not None or namespace is not None:
                raise ValueError("Give VaultStore either a client or url, token and namespace: a client has its own")
            self._clients = Clients.borrow(
                "VaultStore",
                client,
                sync_types=(hvac.Client,),
                wanted="an hvac.Client",
                wrap=lambda client: VaultDriver(client, mount_point),
                capacity=lambda _: _GIVEN,  # pyright: ignore[reportUnknownLambdaType] # the options of `borrow` are of any types
                interruptible=False,
            )
            self._host = _host_of(client.adapter.base_uri)
            return
        for name, text in (("token", token), ("namespace", namespace)):
            constructor.check_header("VaultStore", name, text)
        url = url or os.environ.get("VAULT_ADDR") or _URL
        self._host = urls.parse_url("VaultStore", url, _host_of, "https://localhost:8200")
        self._clients = Clients(
            "VaultStore",
            create=lambda: VaultDriver(create_client(url, token, namespace, timeout, _CONNECTIONS), mount_point),
            capacity=lambda _: _CONNECTIONS,
            interruptible=False,
            peer=peer_of("Vault", url, _TLS, (hvac.exceptions.VaultError,), (requests.exceptions.Timeout,)),
        )

    async def _open(self) -> None:
        await super()._open()
        await self._use(methodcaller("check"), repeatable=True)

    async def _call(self, method: str, items: Sequence[Any], *, repeatable: bool = False) -> Sequence[Any]:
        """Call a method of the driver for each name alone, some at a time: one after the other, each would wait for the network."""
        map_items = map_outcomes if method in ("write", "pop") else runtime.map_concurrent
        return await map_items(partial(self._call_one, method, repeatable=repeatable), items, limit=_AT_ONCE)

    async def _call_one(self, method: str, item: Any, *, repeatable: bool) -> Any:
        outcomes = await super()._call(method, [item], repeatable=repeatable)
        return outcomes and outcomes[0]

    async def _purge(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        return await self._call("purge", [(collection, key) for key in keys])

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        folders = [prefix[: prefix.rfind("/") + 1]]
        while folders:
            inner, names = await self._use(methodcaller("list", folders.pop(), prefix), repeatable=True)
            folders += inner
            count = 1
            while names:
                page, names = names[:count], names[count:]
                found = await self._call("find", page, repeatable=True)
                yield [(name, stored) for name, stored in zip(page, found, strict=True) if stored is not None]
                # The server does not tell how large a secret is: assume about the size of the last few.
                size = sum(stored.size for stored in found if stored is not None)
                count = max(1, min(_AT_ONCE, PAGE_SIZE * count // max(size, 1)))

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return isinstance(error, requests.ConnectionError) and bool(error.args) and isinstance(error.args[0], ProtocolError)


def _host_of(url: str) -> str | None:
    """Return host and port of a URL, or None if it can't be parsed."""
    if re.search(r"\s", url) or urls.has_raw_credentials(url):
        return None
    try:
        where = parse_url(url)
    except ValueError:  # it quotes the URL, which may hold a password
        return None
    return where.netloc if where.scheme in ("http", "https") and where.host else None
