"""A store in the KV secrets engine of Vault or OpenBao, over hvac."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar, cast

from keyvalue._core import arguments
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.extras import needs
from keyvalue._core.flat import PAGE_SIZE, Change, EnumerableFlatStore, Names
from keyvalue._core.sockets import TlsOptions
from keyvalue._core.store import ErrorTable, Stability
from keyvalue.errors import StoreConnectionError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores._http import limit_pools, peer_of

with needs("vault"):
    import hvac
    import hvac.exceptions
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import ProtocolError
    from urllib3.util import parse_url

    from keyvalue.stores._vault import (
        TOO_LARGE,
        PlainRequestError,
        Secrets,
        StrangerError,
        UnsendableError,
        VaultNames,
        is_path,
    )

__all__ = ["VaultStore"]

_URL = "http://localhost:8200"
_CONNECTIONS = 40  # as many as there are worker threads
_GIVEN = 10  # connections that a session of requests keeps if nobody says otherwise
_AT_ONCE = 10  # requests of one call
_LIMIT = "max_request_size of the listener is the limit, and with raft max_entry_size of the storage"
_LARGE = 2**24  # bytes; half of what a request may have by default


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = limit_pools(self.poolmanager.pool_classes_by_scheme)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager: Any = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = limit_pools(manager.pool_classes_by_scheme)
        return manager


class VaultStore(EnumerableFlatStore):
    """Keeps entries in the KV secrets engine, version 2, of HashiCorp Vault or OpenBao, each as a secret.

    Format: the secret `<collection>::<key>` (see `keyvalue._core.flat` for names that this would mix) has one field, `value`, a string: the
    JSON document of `keyvalue._core.entry`. What can't be a path is named `~<SHA-256 of the collection>/~<SHA-256 of the key>`, in
    hexadecimal: what has more than 150 bytes, `.` or `..` or nothing between two slashes, a slash at an end, or characters that can't be
    printed or are newer than Unicode 3.2.

    The engine keeps earlier versions of a secret, 10 by default, so what was overwritten can still be read there. A delete removes all
    versions. Of two stores that delete a key at the same moment, both may be told that it was there. Expired entries stay until
    `cull`. The engine can't delete on a condition: what another store puts under an expired key in the very instant in which `cull`
    removes that is lost.

    hvac only blocks, so on asyncio and trio its calls run in worker threads, and in synchronous code directly. There is a request for each
    key; `get_many`, `put_many` and `delete_many` have ten under way at a time, in synchronous code one. Listing reads each entry that it
    lists; `collections`, `destroy` and `cull` list all folders under the mount point. A call fails at once if the server is not
    there: retrying is a wrapper's business.

    Args:
        client: A client to use. It is never closed, and has its own timeout.
        url: The server, if there is no client. None stands for the environment variable `VAULT_ADDR`. Default "http://localhost:8200".
        token: Its token, which is not renewed. Default, as for hvac: the environment variable `VAULT_TOKEN`, or the file `~/.vault-token`.
        mount_point: The path where the engine is mounted, with nothing behind it. Default "secret".
        namespace: The namespace, of Vault Enterprise, HCP Vault or OpenBao.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        timeout: Seconds that connecting may take at most, and an answer as a whole, if there is no client. Default 5.

    Raises:
        ValueError: Both a client and a URL, token or namespace; the URL can't be parsed; no engine can be mounted there; the token or the
            namespace can't be sent; or `timeout` is not positive.
        TypeError: The client is no `hvac.Client`.
        ValueTooLargeError: On put: the server does not take so large a value. By default Vault since 1.20, and any server with its own
            storage (raft), take 1 MiB, others 32 MiB.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    tls: ClassVar[TlsOptions] = TlsOptions(
        "write https:// in the URL", "write http:// in the URL", "name the file with its certificate by VAULT_CACERT"
    )
    errors: ClassVar[ErrorTable] = (
        (requests.Timeout, StoreConnectionError, "the server did not answer in time"),
        (requests.exceptions.SSLError, StoreConnectionError, "could not agree on TLS with the server; check the URL and the certificates"),
        (requests.ConnectionError, StoreConnectionError, "could not reach the server; is it running, and is the URL right?"),
        (requests.exceptions.ChunkedEncodingError, StoreConnectionError, "the server closed the connection"),
        (hvac.exceptions.VaultDown, StoreConnectionError, "the server is sealed, a standby, or has too much to do"),
        (hvac.exceptions.VaultNotInitialized, StoreConnectionError, "the server is not initialized"),
        (hvac.exceptions.RateLimitExceeded, StoreConnectionError, "the server takes no more requests for now"),
        (hvac.exceptions.BadGateway, StoreConnectionError, "a proxy could not reach the server"),
        (hvac.exceptions.InternalServerError, StoreConnectionError, "the server failed"),
        (hvac.exceptions.Forbidden, StoreRefusedError, "the server refused; check the token, its policies, namespace and mount_point"),
        (hvac.exceptions.Unauthorized, StoreRefusedError, "the server refused the token"),
        (hvac.exceptions.InvalidPath, StoreRefusedError, "the server has nothing at mount_point; check that, and the namespace"),
        (
            hvac.exceptions.UnsupportedOperation,
            StoreRefusedError,
            "no KV secrets engine of version 2 is mounted at mount_point; pass the path of the mount alone; or does the URL redirect?",
        ),
        (hvac.exceptions.VaultError, StoreRefusedError, "the server refused the request"),
        (StrangerError, StoreRefusedError, "what answers is not Vault; is the URL right?"),
        (PlainRequestError, StoreRefusedError, "the server speaks TLS on this port; write https:// in the URL"),
        (
            UnsendableError,
            StoreRefusedError,
            "the request can't be sent; is the URL right, or was the token read with a line break at its end?",
        ),
        (requests.RequestException, StoreRefusedError, "the request can't be sent, or the answer not be understood"),
        (OSError, StoreRefusedError, "the request can't be sent; are the files with the certificates there?"),
    )

    @arguments.checked
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
        arguments.seconds(timeout, "timeout")
        mount_point = mount_point.strip("/")
        if not is_path(mount_point):
            raise ValueError("The mount_point of VaultStore must be the path of a secrets engine, such as 'secret' or 'team/kv'")
        self._names = VaultNames()
        self.names: Names = self._names
        if client is not None:
            if not isinstance(client, hvac.Client):
                raise TypeError(f"The client must be an hvac.Client, not {arguments.article(client)}")
            if url != _URL or token is not None or namespace is not None:
                raise ValueError("Give VaultStore either a client or url, token and namespace: a client has its own")
            self._host = _host_of(client.adapter.base_uri)
            self._client = Client(
                "VaultStore", given=Secrets(client, mount_point), limit_owner=client, capacity=lambda _: _GIVEN, interruptible=False
            )
            return
        for name, text in (("token", token), ("namespace", namespace)):
            arguments.header("VaultStore", name, text)
        url = url or os.environ.get("VAULT_ADDR") or _URL
        self._host = arguments.url("VaultStore", url, _host_of, "https://localhost:8200")

        def make() -> Secrets:
            try:
                made: Any = hvac.Client(url=url, token=token, namespace=namespace, timeout=cast("int", timeout))
            except UnicodeError:  # it quotes the token
                made = None
            if made is None:
                raise StoreSetupError("The file ~/.vault-token holds something that is no text; log in again, or pass token=")
            # Threads may share a session that nobody changes, whose pool has a connection for each. One session a thread would mean one
            # more handshake of TLS for each.
            for scheme in ("https://", "http://"):
                made.session.mount(scheme, _Adapter(pool_maxsize=_CONNECTIONS))
            return Secrets(made, mount_point)

        peer = peer_of("Vault", url, self.tls, (hvac.exceptions.VaultError,), (requests.exceptions.Timeout,))
        self._client = Client("VaultStore", make=make, capacity=lambda _: _CONNECTIONS, interruptible=False, peer=peer)

    async def _open(self) -> None:
        await super()._open()
        await self._use(Secrets.check)

    async def _read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        return await self._each(lambda name: self._use(lambda secrets: secrets.find(name).document), names, _AT_ONCE)

    async def _peek(self, names: Sequence[str]) -> Sequence[bytes | None]:
        return await self._each(lambda name: self._use(lambda secrets: secrets.find(name, tolerant=True).document), names, _AT_ONCE)

    async def _store(self, entries: Sequence[tuple[str, Entry]]) -> None:
        def store(secrets: Secrets, name: str, entry: Entry) -> None:
            with secrets.turn(name):
                if not _put(secrets, name, entry):
                    # Only what says which version it replaces is allowed.
                    while not _put(secrets, name, entry, secrets.find(name).version):
                        pass

        await self._each(lambda row: self._use(lambda secrets: store(secrets, *row)), entries, _AT_ONCE)

    async def _exchange(self, changes: Sequence[Change]) -> Sequence[bool]:
        def exchange(secrets: Secrets, name: str, expected: bytes | None, entry: Entry | None) -> bool:
            with secrets.turn(name):
                document, version = secrets.find(name)
                if document != expected:
                    return False
                if entry is not None:
                    return _put(secrets, name, entry, version)
                secrets.delete(name)
                return True

        return await self._each(lambda change: self._use(lambda secrets: exchange(secrets, *change)), changes, _AT_ONCE)

    async def _remove(self, names: Sequence[str]) -> Sequence[bytes | None]:
        def remove(secrets: Secrets, name: str) -> bytes | None:
            with secrets.turn(name):
                document, _ = secrets.find(name)
                if document is None or self._names.is_anothers(name, document):
                    return None
                secrets.delete(name)
                return document

        return await self._each(lambda name: self._use(lambda secrets: remove(secrets, name)), names, _AT_ONCE)

    async def _list(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, bytes]], None]:
        folders = [prefix[: prefix.rfind("/") + 1]]
        while folders:
            folder = folders.pop()
            found = await self._use(lambda secrets, folder=folder: secrets.names_in(folder))
            found = [folder + name for name in found if (folder + name).startswith(prefix)]
            folders += [name for name in found if name.endswith("/")]
            names = [name for name in found if not name.endswith("/") and self._names.may_be(name)]
            count = 1
            while names:
                page, names = names[:count], names[count:]
                documents = await self._read(page)
                yield [(name, document) for name, document in zip(page, documents, strict=True) if document is not None]
                # The server does not tell how large a secret is: they are taken to be about as large as the last ones.
                size = sum(len(document or b"") for document in documents)
                count = max(1, min(_AT_ONCE, PAGE_SIZE * count // max(size, 1)))


def _put(secrets: Secrets, name: str, entry: Entry, version: int | None = None) -> bool:
    document = entry.document()
    try:
        return secrets.put(name, document, version)
    except hvac.exceptions.VaultError as error:
        if TOO_LARGE.search(error.args[0]):
            raise ValueTooLargeError(len(document), None, entry.collection, entry.key, limit=_LIMIT) from error
        raise
    except requests.ConnectionError as error:
        # The server hangs up on the rest of a request that it has refused, which may overtake its answer.
        if len(document) > _LARGE and isinstance(error.args[0], ProtocolError):
            raise ValueTooLargeError(len(document), None, entry.collection, entry.key, limit=_LIMIT) from error
        raise


def _host_of(url: str) -> str | None:
    """Return host and port of a URL, or None if it can't be parsed."""
    if re.search(r"\s", url) or arguments.hides_credentials(url):
        return None
    try:
        where = parse_url(url)
    except ValueError:  # it quotes the URL, which may hold a password
        return None
    return where.netloc if where.scheme in ("http", "https") and where.host else None
