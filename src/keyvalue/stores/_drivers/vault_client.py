"""Requests to the KV secrets engine, version 2, over hvac's client, and what their answers mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import orjson

from keyvalue._core.entry import Stored
from keyvalue._core.extras import needs
from keyvalue._core.layout import is_settled
from keyvalue.errors import StoreSetupError
from keyvalue.stores._drivers.http import limit_pools

with needs("vault"):
    import hvac
    import requests
    from hvac.exceptions import Forbidden, InvalidRequest, UnsupportedOperation, VaultError
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import ReadTimeoutError

__all__ = [
    "TOO_LARGE",
    "KVv2Client",
    "PlainRequestError",
    "Secret",
    "StrangerError",
    "UnsendableError",
    "create_client",
    "is_name",
    "is_path",
]

_LONGEST_NAME = 150  # bytes; a file's name of 255 bytes holds 157 in the form that Vault encrypts them to
_NO_SUCH_PATH = frozenset({400, 404, 405, 414, 431})  # answers to what can't be a name
_NO_CHECK = frozenset({400, 404, 405})
_OF_STRANGERS = frozenset({404, 405, 501})  # which Vault gives with a body in JSON
_ROUTED = "Matching Route:"
_METADATA = re.compile(rf"Request:\s+metadata/k\s+{_ROUTED}\s+\^?metadata/")
_PASSING = frozenset({408, 412, 425, 472, 473})  # the server, or a replica that has not caught up, can't answer now
_CHECK_AND_SET = "check-and-set"
_UPGRADING = "Upgrading from non-versioned"
_TOO_LARGE = "value being too large|exceeds allowed length|(body|request is) too large|exceeds \\d+ byte limit"  # last: etcd, Consul
_KNOWN = re.compile(
    f"{_CHECK_AND_SET}|{_UPGRADING}|{_TOO_LARGE}|permission denied|invalid token|no handler for route|Vault is sealed|standby|namespace"
)
"""What is passed on of errors that may quote what was to be stored."""

TOO_LARGE = re.compile(f"{_TOO_LARGE}|HTTP status 413")
"""What the message of an error has if a secret is larger than the server takes."""

_KEPT_VERSIONS = 100  # that lose their values; the engine keeps 10 unless it is configured otherwise


class UnsendableError(ValueError):
    """A request that can't be sent as it is; what requests raises for those quotes tokens and passwords."""


class StrangerError(Exception):
    """An answer that Vault does not give."""


class PlainRequestError(Exception):
    """A request without TLS, to a server that speaks it."""


class _StoredSecret(Stored):
    """The document of a secret. Its version is only computed where it is compared: reading a secret needs no SHA-256."""

    __slots__ = ("_number",)

    def __init__(self, document: bytes | None, number: int) -> None:
        super().__init__(document)
        self._number = number

    @property
    def version(self) -> str:
        return f"{self._number}.{super().version}"


class Secret(NamedTuple):
    """What lies under a name.

    Attributes:
        stored: The document; None if there is no secret, or its latest version is deleted. Its version is that of the secret, a dot and the
            SHA-256 of the document: numbers alone start again once a secret was removed.
        version: The latest version, deleted or not; 0 for no version.
    """

    stored: Stored | None
    version: int


class _Answer(NamedTuple):
    """The status of an answer, and its content if that is an object in JSON."""

    status: int
    content: Mapping[str, Any]


class KVv2Client:
    """The secrets under a mount point, each with a document in its field `value`. Any number of threads may use them.

    Args:
        client: hvac's client.
        mount_point: Where the engine is mounted.
    """

    def __init__(self, client: Any, mount_point: str) -> None:
        self.client = client
        self._mount = quote(mount_point)

    def check(self) -> None:
        """See that an engine of version 2 is mounted here: one of version 1, or further up, takes requests for some about other secrets."""
        # The server's help says which part of a path its engine gets, and what for. It is given for any valid token, whatever its policies.
        answer = self._send("get", f"{self._mount}/metadata/k?help=1", tolerated=_NO_CHECK)
        told = str(answer.content.get("help"))
        if _ROUTED in told and not _METADATA.search(told):
            raise UnsupportedOperation("an engine of another type or version, or mounted further up")

    def find(self, name: str) -> Secret:
        """Return what lies under a name; nothing does under what can't be one."""
        answer = self._send("get", self._path("data", name), tolerated=() if is_name(name) else _NO_SUCH_PATH)
        secret = _mapping(answer.content.get("data"))
        metadata = _mapping(secret.get("metadata"))
        if answer.status != 200:
            return Secret(None, metadata.get("version", 0))
        if "version" not in metadata:
            raise UnsupportedOperation("a secret has no version")
        value = _mapping(secret.get("data")).get("value")
        document = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else None
        return Secret(_StoredSecret(document, metadata["version"]), metadata["version"])

    def put(self, name: str, document: bytes, version: int | None = None) -> bool:
        """Store a document, and return whether that was done.

        Args:
            name: The name.
            document: The document.
            version: The version that the secret must have. None: any, which some engines and secrets don't allow.
        """
        options = {} if version is None else {"cas": version}
        content = orjson.dumps({"data": {"value": document.decode()}, "options": options})
        try:
            answer = self._send("post", self._path("data", name), content)
        except InvalidRequest as error:
            if _CHECK_AND_SET in error.args[0]:
                return False
            raise
        if "version" not in _mapping(answer.content.get("data")):
            raise UnsupportedOperation("a write made no version")
        return True

    def destroy(self, name: str, version: int) -> None:
        """Destroy the values of a version and those before it."""
        versions = list(range(max(1, version - _KEPT_VERSIONS + 1), version + 1))
        with suppress(Forbidden):  # who may write and delete need not be allowed to do this
            self._send("post", self._path("destroy", name), orjson.dumps({"versions": versions}))

    def remove(self, name: str) -> None:
        """Remove a secret, with all versions."""
        if self._send("delete", self._path("metadata", name)).status != 204:
            raise UnsupportedOperation("a removal was answered by something else")  # as by a proxy that redirects

    def names_in(self, folder: str) -> Sequence[str]:
        """Return the names in a folder, which is empty or ends with a slash, as do the names of folders in it."""
        path = folder[:-1]
        tolerated = () if not path or is_path(path) else _NO_SUCH_PATH
        # A method of the name LIST may not outlive a redirection; what the query says does.
        answer = self._send("get", self._path("metadata", path) + "?list=true", tolerated=tolerated)
        if answer.status != 200:
            return ()
        names = _mapping(answer.content.get("data")).get("keys")
        if not isinstance(names, list):
            raise UnsupportedOperation("a folder has no names")
        return cast("list[str]", names)

    def close(self) -> None:
        """Close the connections."""
        self.client.adapter.close()

    def _path(self, what: str, name: str) -> str:
        return f"{self._mount}/{what}/{quote(name)}"

    def _send(self, method: str, path: str, content: bytes | None = None, *, tolerated: Collection[int] = ()) -> _Answer:
        """Send a request, and return the answer if it says that it was done or that there is no such secret, or is tolerated."""
        status, answer = self._sent(method, path, content)
        errors = answer.get("errors")
        # And not what a proxy says, or what an engine says of paths that it has no use for.
        is_missing = status == 404 and (errors == [] or isinstance(answer.get("data"), Mapping))
        if status < 300 or status in tolerated or is_missing:
            return _Answer(status, answer)
        if status in _OF_STRANGERS and not answer:
            raise StrangerError(f"HTTP status {status}")
        told = [str(error) for error in cast("list[object]", errors)] if isinstance(errors, list) else []
        if content is not None:
            told = [known[0] for error in told if (known := _KNOWN.search(error))]
        elif self.client.token and any(self.client.token in error for error in told):
            told = []
        if status > 503 or status in _PASSING or any(_UPGRADING in error for error in told):  # it is away for an instant
            status = 503
        # Made here, because an error of hvac's making holds all that was answered, and the URL with a password that may be in it.
        raise VaultError.from_status(status, f"HTTP status {status}", errors=told, method=method, url=path)

    def _sent(self, method: str, path: str, content: bytes | None) -> _Answer:
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            answer = self.client.adapter.request(method, f"/v1/{path}", headers=headers, raise_exception=False, data=content)
        except requests.ConnectionError as error:
            if error.args and isinstance(error.args[0], ReadTimeoutError):  # requests calls it so only in the headers
                raise requests.ReadTimeout("the reply is not there as a whole in time") from error
            raise
        except ValueError:
            problem = UnsendableError("the URL, the token or the namespace can't be sent")
        else:
            if not isinstance(answer, requests.Response):  # hvac decodes what it can
                return _Answer(200, _mapping(answer))
            # What servers written in Go say where they speak TLS.
            if answer.status_code == 400 and b"HTTP request to an HTTPS server" in answer.content:
                raise PlainRequestError("an HTTP request was sent to an HTTPS server")
            decoded: object = None
            with suppress(ValueError):
                decoded = answer.json()
            return _Answer(answer.status_code, _mapping(decoded))
        raise problem


class _Adapter(HTTPAdapter):
    """Connections with replies that must be there as a whole in time."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = limit_pools(self.poolmanager.pool_classes_by_scheme)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager: Any = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = limit_pools(manager.pool_classes_by_scheme)
        return manager


def create_client(url: str, token: str | None, namespace: str | None, timeout: float, connections: int) -> hvac.Client:
    """Return a client that any number of threads may use.

    Args:
        url: The server.
        token: The token; None for the one that hvac finds.
        namespace: The namespace, or None.
        timeout: Seconds that connecting may take at most, and an answer as a whole.
        connections: How many connections are kept.

    Raises:
        StoreSetupError: The file with the token can't be decoded.
    """
    client: Any = None
    with suppress(UnicodeError):  # it quotes the token
        client = hvac.Client(url=url, token=token, namespace=namespace, timeout=cast("int", timeout))
    if client is None:
        raise StoreSetupError("The file ~/.vault-token is not text; log in again, or pass token=")
    # Threads may share a session that does not change; its pool has a connection for each. One session a thread would mean one more
    # handshake of TLS for each.
    for scheme in ("https://", "http://"):
        client.session.mount(scheme, _Adapter(pool_maxsize=connections))
    return client


def is_name(name: str) -> bool:
    """Return whether every server can have a secret of this name, whatever its storage."""
    return len(name.encode()) <= _LONGEST_NAME and is_path(name)


def is_path(name: str) -> bool:
    """Return whether a request about a name gets to the server as it is, and the server takes it."""
    return name.isprintable() and is_settled(name) and not any(part in ("", ".", "..") for part in name.split("/"))


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
