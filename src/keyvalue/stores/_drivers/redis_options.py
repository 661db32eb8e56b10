"""How to reach a Redis server, from what the store's constructor takes."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py leaves some of its functions without types.

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError, VerifyMode
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from keyvalue._core import constructor, urls
from keyvalue._core.extras import needs
from keyvalue.stores._drivers.peer import Peer
from keyvalue.stores._drivers.resp_errors import judge
from keyvalue.stores._drivers.tls import TlsOptions

with needs("redis"):
    import redis
    import redis.asyncio
    from redis.connection import parse_url
    from redis.exceptions import BusyLoadingError

__all__ = ["RedisOptions", "TlsFiles", "read_options"]

_REQUIREMENTS = "'required', 'optional' or 'none'"
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_EXAMPLE = "redis://user:password@localhost:6379/0"


class TlsFiles(NamedTuple):
    """The files for TLS.

    Attributes:
        paths: Their paths by redis-py's option.
        password: That of the key, or an empty str.
    """

    paths: Mapping[str, str] = {}
    password: str = ""

    def find_fault(self) -> str | None:
        """Return what is wrong with the files, if that can be seen. Blocks."""
        for option, path in self.paths.items():
            if os.path.isdir(path):
                return f"{path!r}, given as {option}, is a directory; give a file"
            if not os.access(path, os.R_OK):
                return f"the file {path!r}, given as {option}, is missing or can't be read"
        context = SSLContext(PROTOCOL_TLS_CLIENT)
        certificate, key = self.paths.get("ssl_certfile"), self.paths.get("ssl_keyfile")
        try:
            if authorities := self.paths.get("ssl_ca_certs"):
                context.load_verify_locations(authorities)
        except SSLError:
            return f"the file {self.paths['ssl_ca_certs']!r}, given as ssl_ca_certs, does not hold certificates in PEM"
        try:
            if certificate:
                context.load_cert_chain(certificate, key, self.password)
        except SSLError:
            where = key or certificate
            if where and b"ENCRYPTED" in Path(where).read_bytes():
                instead = "is ssl_password right, and the certificate its own?" if self.password else "give its ssl_password in the URL"
                return f"the key in {where!r} is encrypted; {instead}"
            if not key:
                return (
                    f"the file {certificate!r}, given as ssl_certfile, does not hold a certificate and its key in PEM; pass ssl_keyfile too"
                )
            return (
                f"the files {certificate!r}, given as ssl_certfile, and {key!r}, given as ssl_keyfile, do not hold a "
                "certificate and its key in PEM"
            )
        return None


class RedisOptions(NamedTuple):
    """How to reach a server.

    Attributes:
        host: Where it is, without credentials, for messages.
        for_client: redis-py's options; with a `url`, they are for `from_url`.
        place: The host and the port; None for a Unix socket.
        is_secure: Whether to use TLS.
        files: The files for TLS.
    """

    host: str
    for_client: Mapping[str, Any]
    place: tuple[str, int] | None
    is_secure: bool
    files: TlsFiles

    def find_peer(self, tls: TlsOptions) -> Peer | None:
        """Return where to look if the server can't be reached."""
        if self.place is None:
            return None
        answers = (redis.ResponseError, BusyLoadingError)
        return Peer(*self.place, self.is_secure, judge, tls, answers=answers, timeouts=(redis.TimeoutError,))


def read_options(
    url: str | None,
    host: str,
    port: int,
    db: int,
    *,
    credentials: Mapping[str, str | None],
    ssl: bool,
    check_hostname: bool,
    tls: Mapping[str, Any],
    cluster: bool,
) -> RedisOptions:
    """Check what the store's constructor takes; its docstring says what that is and what is raised."""
    constructor.check_port("RedisStore", port)
    constructor.check_integer("RedisStore", "db", db, 0)
    tls = {**tls, "ssl_cert_reqs": _requirement(tls["ssl_cert_reqs"])}
    tls = {option: value for option, value in tls.items() if value is not None}
    if url is None:
        where = f"{urls.check_host('RedisStore', host, 'give a port as `port`, and a URL as `url`')}:{port}"
        is_secure = bool(ssl or tls or not check_hostname)
        said: Mapping[str, Any] = {
            "host": host,
            "port": port,
            **credentials,
            **({} if cluster else {"db": db}),
            **({"ssl": True, "ssl_check_hostname": check_hostname, **tls} if is_secure else {}),
        }
        for_client = said
    else:
        _refuse_beside_url(host, port, db)
        said = urls.parse_url("RedisStore", url, _parse, _EXAMPLE)
        place = urlsplit(url)
        if not _names_database(place):
            raise ValueError(
                "RedisStore: the path of the URL must be the number of a database, as in redis://localhost:6379/0, and `?db=` no other"
            )
        given = {**tls, **{name: value for name, value in credentials.items() if value is not None}}
        if twice := [option for option in given if option in said]:
            raise ValueError(f"RedisStore: {' and '.join(twice)} {'are' if len(twice) > 1 else 'is'} given twice; the URL says it already")
        if (said_reqs := said.get("ssl_cert_reqs")) != _requirement(said_reqs):
            raise ValueError(f"RedisStore: write {_REQUIREMENTS} for ssl_cert_reqs in the URL")
        is_secure = bool(ssl or tls) or place.scheme == "rediss"
        if is_secure and place.scheme == "unix":
            raise ValueError("RedisStore: there is no TLS over a Unix socket; leave out ssl and ssl_…")
        where = place.netloc.rpartition("@")[2] or place.path
        for_client = {"url": f"rediss{url[url.index(':') :]}" if is_secure else url, **given}
        if is_secure and not check_hostname:
            for_client["ssl_check_hostname"] = False
        if not cluster and "?" in url and (fault := _find_option_fault(for_client["url"])):
            raise ValueError(f"RedisStore: {fault}")
    paths = {option: str(path) for option in _FILES if (path := tls.get(option) or said.get(option)) is not None}
    if "ssl_keyfile" in paths and "ssl_certfile" not in paths:
        raise ValueError("RedisStore: ssl_keyfile is given without ssl_certfile, the file with the certificate that the key belongs to")
    reached = None if "path" in said else (said.get("host", "localhost"), said.get("port", 6379))
    return RedisOptions(where, for_client, reached, is_secure, TlsFiles(paths, said.get("ssl_password") or ""))


def _refuse_beside_url(host: str, port: int, db: int) -> None:
    if (host, port, db) == ("localhost", 6379, 0):
        return
    place_of = {"host": host != "localhost", "port": port != 6379}
    besides = [name for name, is_given in place_of.items() if is_given] + ([f"db={db}"] if db != 0 else [])
    example = f"redis://host:port/{db}" if any(place_of.values()) else f"redis://host/{db}"
    raise ValueError(f"RedisStore: {' and '.join(besides)} beside a url; write it in the URL: {example}")


def _names_database(place: SplitResult) -> bool:
    """Return whether a URL's path is what redis-py takes for a database; anything else it would take for database 0."""
    path, options = unquote(place.path).strip("/"), parse_qs(place.query).get("db")
    return place.scheme == "unix" or not path or (path.isdecimal() and options in (None, [path]))


def _parse(url: str) -> Mapping[str, Any] | None:
    try:
        return parse_url(url)
    except ValueError as error:  # its message may quote a part of the password
        option = re.match(r"Invalid value for \W(\w+)\W", str(error))  # one that redis-py knows
    fault: str | None = f"the value of its option {option[1]!r} is invalid" if option else None
    scheme = url.partition(":")[0]
    if scheme not in ("redis", "rediss", "unix"):
        fault = "its scheme must be redis://, rediss:// or unix://"
    elif option is None and url.count("@") < 2 and not re.search(r"[\[\]].*@", url):
        try:
            _ = urlsplit(url).port
        except ValueError:
            fault = "its port must be a number from 1 to 65535"
    if fault:
        raise ValueError(f"RedisStore can't parse the URL: {fault}; it should look like {_EXAMPLE}")
    return None


def _find_option_fault(url: str) -> str | None:
    """Return what is wrong with the options of a URL, which redis-py looks at only when it makes a connection."""
    for pool in (redis.ConnectionPool, redis.asyncio.ConnectionPool):
        with suppress(Exception):  # what else is wrong, the first call tells
            try:
                pool.from_url(url).make_connection()
            except TypeError as error:
                found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
                if found and "@" in urlsplit(url).query:  # what looks like the name of an option may be of a password
                    return "the URL has an unknown option, or a raw `?` in the password; percent-encode it"
                if found:
                    instead = "; for TLS write rediss://" if found[1].startswith("ssl") else ""
                    return f"unknown option {found[1]!r} in the URL{instead}"
    return None


def _requirement(value: object) -> str | None:
    """Return what redis-py calls a requirement on the server's certificate."""
    if value is None:
        return None
    name = (value.name if isinstance(value, VerifyMode) else str(value)).lower().removeprefix("cert_")
    if name not in ("required", "optional", "none"):
        raise ValueError(
            f"RedisStore: ssl_cert_reqs must be {_REQUIREMENTS}, or one of ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL, ssl.CERT_NONE"
        )
    return name
