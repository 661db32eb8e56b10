"""Mistakes with the stores over a network, and what their messages say."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any, NamedTuple

import glide
import pytest
import redis
from cryptography.hazmat.primitives import serialization
from pymongo import MongoClient

from keyvalue._core.entry import Entry
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
    ValueTooLargeError,
)
from keyvalue.stores._drivers.dynamodb import encode_item
from keyvalue.stores._drivers.mongodb import encode_entries
from keyvalue.stores.dynamodb import DynamoDBStore
from keyvalue.stores.elasticsearch import ElasticsearchStore
from keyvalue.stores.memcached import MemcachedStore
from keyvalue.stores.mongodb import MongoDBStore
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.valkey import ValkeyStore
from keyvalue.stores.vault import VaultStore
from tests.answering import Reply, answering
from tests.conftest import skip_or_fail
from tests.messages import Mistake, check
from tests.servers import await_answer, free_port
from tests.servers.memcached import MEMCACHED
from tests.servers.memcached import private_server as memcached_server
from tests.servers.redis import REDIS, private_server, with_tls
from tests.stores.hooks import address

SECRET = "hunter" + "2"
VALUE = {"password": SECRET}
ALONE = ["host must be a name or an address alone", "localhost"]
RAW = ["can't parse the URL", "raw `/`, `?`, `#`, `[`, `]` or `@`", "urllib.parse.quote"]
SCHEME = ["can't parse the URL", "scheme"]


def elasticsearch(url: str, **options: Any) -> ElasticsearchStore:
    return ElasticsearchStore(url=url, index="kv", **options)


def dynamodb(**options: Any) -> DynamoDBStore:
    return DynamoDBStore(table_name="keyvalue", **options)


BY_URL: dict[str, tuple[Callable[[str], Any], str]] = {
    "RedisStore": (lambda url: RedisStore(url=url), "redis"),
    "MongoDBStore": (lambda url: MongoDBStore(url=url), "mongodb"),
    "ElasticsearchStore": (elasticsearch, "https"),
    "VaultStore": (lambda url: VaultStore(url=url), "https"),
}
"""What makes a store of a URL, and a scheme that it takes."""


def valkey_over(host: str) -> ValkeyStore:
    return ValkeyStore(config=glide.GlideClientConfiguration([glide.NodeAddress(host)]))


SECRETS = [
    *(
        Mistake(f"{kind.__name__}: {what} as the host", lambda kind=kind, host=host: kind(host=host), ValueError, ALONE, secrets=[SECRET])
        for kind in (RedisStore, ValkeyStore, MemcachedStore)
        for what, host in {
            "a URL": f"redis://user:{SECRET}@localhost:6379",
            "credentials": f"{SECRET}@localhost",
            "host and port": "localhost:6379",
            "user and password": f"user:{SECRET}",
            "a path": "/run/redis.sock",
            "nothing": "",
        }.items()
    ),
    Mistake(
        "RedisStore: a client of a URL as the host",
        lambda: RedisStore(client=redis.Redis(host=f"redis://:{SECRET}@h")),
        ValueError,
        ALONE,
        secrets=[SECRET],
    ),
    Mistake("ValkeyStore: a URL in the configuration", lambda: valkey_over(f"redis://:{SECRET}@h"), ValueError, ALONE, secrets=[SECRET]),
    *(
        Mistake(f"{name}: a host whose name is too long", lambda make=make: make("h" * 64), ValueError, ["1 to 63 characters"])
        for name, make in (
            ("RedisStore", lambda host: RedisStore(host=host)),
            ("RedisStore, URL", lambda host: RedisStore(url=f"redis://u:p@{host}:1/0")),
            ("ValkeyStore", lambda host: ValkeyStore(host=host)),
            ("MemcachedStore", lambda host: MemcachedStore(host=host)),
            ("MongoDBStore", lambda host: MongoDBStore(url=f"mongodb://localhost,{host}:1/?appName=a")),
            ("ElasticsearchStore", lambda host: elasticsearch(f"http://{host}:1")),
            ("VaultStore", lambda host: VaultStore(url=f"http://{host}")),
        )
    ),
    *(
        Mistake(f"a {what} that ends in a line break", make, ValueError, [f"The {what} of ", "a line break"], secrets=[SECRET])
        for what, make in {
            "api_key": lambda: elasticsearch("http://h:1", api_key=f"{SECRET}\n"),
            "token": lambda: VaultStore(token=f"{SECRET}\n"),
            "aws_access_key_id": lambda: dynamodb(aws_access_key_id=f"{SECRET}\n"),
            "aws_secret_access_key": lambda: dynamodb(aws_secret_access_key=f"{SECRET}\n"),
            "aws_session_token": lambda: dynamodb(aws_session_token=f"{SECRET}\n"),
        }.items()
    ),
    Mistake("RedisStore: a host that is None", lambda: RedisStore(host=None), TypeError, ["host of RedisStore must be a str"]),  # type: ignore[arg-type]
    *(
        Mistake(f"{name}: a raw {character} in the password", lambda make=make, url=url: make(url), ValueError, RAW, secrets=[SECRET])
        for name, (make, scheme) in BY_URL.items()
        # The `=` make what follows look like an option, whose value may hold an `@`.
        for character in ("/", "?", "#", "@", "/3=", "?3=", "@/", "@x/", "@x?", "@x#")
        # pymongo takes a `#`, all others take an `@`.
        if ("#" not in character or name != "MongoDBStore") and (character != "@" or name == "MongoDBStore")
        for url in [f"{scheme}://user:x12{character}{SECRET}@localhost:1"]
    ),
    Mistake(
        "RedisStore: a raw ? in a password like a port and an option",
        lambda: RedisStore(url=f"redis://user:12?{SECRET}=x@localhost"),
        ValueError,
        ["unknown option, or a raw `?`"],
        secrets=[SECRET],
    ),
    *(
        Mistake(
            f"{name}: a URL without a scheme", lambda make=make: make(f"user:{SECRET}@localhost:1"), ValueError, SCHEME, secrets=[SECRET]
        )
        for name, (make, _) in BY_URL.items()
    ),
    Mistake(
        "DynamoDBStore: credentials in the URL",
        lambda: dynamodb(endpoint_url=f"http://u:{SECRET}@h"),
        ValueError,
        ["endpoint_url has no user name and password"],
        secrets=[SECRET],
    ),
    Mistake(
        "DynamoDBStore: a URL as the region",
        lambda: dynamodb(region_name=f"http://u:{SECRET}@h"),
        ValueError,
        ["region_name", "endpoint_url"],
        secrets=[SECRET],
    ),
    Mistake("DynamoDBStore: no scheme", lambda: dynamodb(endpoint_url="localhost:8000"), ValueError, ["must start with http://"]),
    Mistake(
        "ElasticsearchStore: two credentials",
        lambda: elasticsearch(f"http://u:{SECRET}@h", api_key=SECRET),
        ValueError,
        ["either an api_key or a user name"],
        secrets=[SECRET],
    ),
]


@pytest.mark.filterwarnings("ignore:.* should be")  # of a wrong type
@pytest.mark.parametrize("mistake", SECRETS, ids=lambda mistake: mistake.name)
def test_secrets_in_the_wrong_place(mistake: Mistake) -> None:
    check(mistake)


def test_what_looks_like_a_raw_character_and_is_none() -> None:
    places = ["u:p%40%2F@localhost/0", "u:p@ss@localhost/0", "localhost?client_name=a@b", "u:p@localhost/0?client_name=a@b"]
    assert [repr(RedisStore(url=f"redis://{place}")) for place in places] == ["RedisStore(localhost)"] * 4
    assert repr(RedisStore(url="redis://[::1]:1/0?client_name=a@b")) == "RedisStore([::1]:1)"
    assert repr(RedisStore(url="unix:///run/a@b.sock")) == "RedisStore(/run/a@b.sock)"
    # A path to a socket may be long.
    for place in (f"%2Ftmp%2F{'x' * 70}.sock/?appName=a@b", "h1:27017,h2:27018/db?appName=me@x&w=1"):
        MongoDBStore(url=f"mongodb://{place}")
    assert repr(RedisStore(host="::1")) == "RedisStore(::1:6379)"
    assert repr(MongoDBStore(url=f"mongodb://u:12#{SECRET}@localhost")) == "MongoDBStore(localhost)"


# MongoDB


def refuse_values(url: str) -> MongoDBStore:
    """Have the server refuse values that are not unique, and those with a text `a`."""
    with MongoClient[Any](url) as client:
        database = client["messages"]
        database["unique"].drop()
        database["unique"].create_index("value.object.password", unique=True)
        database["unique"].insert_one({"value": {"object": VALUE}})
        database["checked"].drop()
        database.create_collection("checked", validator={"value.object.password": {"$type": "int"}})
    return MongoDBStore(url=url, db_name="messages")


MONGODB = [
    Mistake(
        f"a value that {what}, {how}",
        lambda url, call=call, collection=collection: call(refuse_values(url), collection),
        StoreRefusedError,
        says,
        secrets=[SECRET],
    )
    for what, collection, says in (
        ("is not unique", "unique", ["another document has the same value", "'value.object.password_1'"]),
        ("a validator refuses", "checked", ["validator of the collection", "121"]),
    )
    for how, call in {
        "put": lambda kv, collection: kv.put("k", VALUE, collection=collection),
        "put_many": lambda kv, collection: kv.put_many(["k", "l"], [VALUE, VALUE], collection=collection),
    }.items()
]


@pytest.mark.parametrize("mistake", MONGODB, ids=lambda mistake: mistake.name)
def test_mongodb(mistake: Mistake, server_urls: Callable[[str], str]) -> None:
    check(mistake, server_urls("mongodb"))


# What listens on a port


class Ports(NamedTuple):
    """Ports with servers of several kinds, and the file with the authority of those that speak TLS."""

    tls: int  # Redis
    tls_with_certificates: int  # Redis, which wants one of the client
    plain: int  # Redis
    http: int  # a fake server
    authority: str
    no_authority: str  # a file that holds a key
    nothing: int
    memcached: int
    ssh: int  # a fake server, as the next
    smtp: int
    sentinel: int
    certificate: str
    encrypted_key: str


@contextmanager
def greeting(greeting: bytes) -> Generator[int, None, None]:
    """Run a fake server that greets, answers nothing and ends the connection, and yield its port."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(greeting)
            self.request.recv(1000)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    if why := REDIS.absent():
        skip_or_fail("redis", why)
    with ExitStack() as stack:
        tls, files = stack.enter_context(with_tls(tmp_path_factory.mktemp("tls"), "--tls-auth-clients", "no"))
        wanting, _ = stack.enter_context(with_tls(tmp_path_factory.mktemp("wanting")))
        plain = address(stack.enter_context(private_server()))["port"]
        http = address(stack.enter_context(answering(lambda _: Reply(200, "{}"))))["port"]
        if why := MEMCACHED.absent():
            skip_or_fail("memcached", why)
        memcached = stack.enter_context(memcached_server())
        ssh, smtp = (stack.enter_context(greeting(words)) for words in (b"SSH-2.0-OpenSSH_9.6\r\n", b"220 mail ESMTP\r\n"))
        configuration = tmp_path_factory.mktemp("sentinel") / "sentinel.conf"
        configuration.write_text(f"sentinel monitor mine 127.0.0.1 {plain} 1\n")
        sentinel = free_port()
        stack.enter_context(private_server("--sentinel", port=sentinel, file=str(configuration)))
        nothing = free_port()
        encrypted = files.key.with_name("encrypted.pem")
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(SECRET.encode())
        encrypted.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        texts = map(str, (files.authority, files.key, files.certificate, encrypted))
        authority, no_authority, certificate, encrypted_key = texts
        yield Ports(tls, wanting, plain, http, authority, no_authority, nothing, memcached, ssh, smtp, sentinel, certificate, encrypted_key)


def redis_at(port: int, host: str = "127.0.0.1", **options: Any) -> RedisStore:
    return RedisStore(host=host, port=port, timeout=1.0, **options)


def valkey_at(port: int, **options: Any) -> ValkeyStore:
    return ValkeyStore(host="127.0.0.1", port=port, timeout=1.0, **options)


def mongodb_at(port: int, options: str = "", host: str = "127.0.0.1") -> MongoDBStore:
    return MongoDBStore(url=f"mongodb://user:{SECRET}@{host}:{port}/?serverSelectionTimeoutMS=600{options}")


def elasticsearch_at(port: int, scheme: str = "http") -> ElasticsearchStore:
    return elasticsearch(f"{scheme}://user:{SECRET}@127.0.0.1:{port}", timeout=1.0)


def vault_at(port: int, scheme: str = "http") -> VaultStore:
    return VaultStore(url=f"{scheme}://127.0.0.1:{port}", token=SECRET, timeout=1.0)


def dynamodb_at(port: int, scheme: str = "http") -> DynamoDBStore:
    keys = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": SECRET}
    return dynamodb(endpoint_url=f"{scheme}://127.0.0.1:{port}", timeout=1.0, **keys)


def memcached_at(port: int) -> MemcachedStore:
    return MemcachedStore(port=port, timeout=1.0)


PLAIN: dict[str, Callable[[int], Any]] = {
    "Redis": redis_at,
    "Valkey": valkey_at,
    "MongoDB": mongodb_at,
    "Elasticsearch": elasticsearch_at,
    "Vault": vault_at,
    "DynamoDB": dynamodb_at,
    "Memcached": memcached_at,
}
SECURE: dict[str, tuple[Callable[[int], Any], str]] = {
    "Redis": (partial(redis_at, ssl=True), "ssl_ca_certs"),
    "Valkey": (partial(valkey_at, tls=True), "TlsAdvancedConfiguration"),
    "MongoDB": (partial(mongodb_at, options="&tls=true"), "tlsCAFile"),
    "Elasticsearch": (partial(elasticsearch_at, scheme="https"), "ca_certs"),
    "Vault": (partial(vault_at, scheme="https"), "VAULT_CACERT"),
    "DynamoDB": (partial(dynamodb_at, scheme="https"), "AWS_CA_BUNDLE"),
}
"""Stores that speak TLS, and how each is told whom to trust."""
RUNNING = ["is it running", "in time"]
UNREACHED = StoreConnectionError


def mistake(name: str, make: Callable[[Ports], Any], error: type[Exception], *says: str) -> Mistake:
    return Mistake(name, lambda ports: make(ports).get("k"), error, says, RUNNING, [SECRET])


PORTS = [
    *(
        mistake(f"{name}: an unknown authority", lambda ports, make=make: make(ports.tls), UNREACHED, "TLS", "authority", "unknown", trust)
        for name, (make, trust) in SECURE.items()
    ),
    *(
        mistake(f"{name}: TLS to a plain port", lambda ports, make=make: make(ports.http), UNREACHED, "TLS", "does not speak TLS")
        for name, (make, _) in SECURE.items()
    ),
    *(
        mistake(f"{name}: TLS to a plain Redis", lambda ports, make=make: make(ports.plain), UNREACHED, "TLS", "does not speak TLS")
        for name, (make, _) in SECURE.items()
    ),
    *(
        mistake(f"Redis: {what} to a plain Redis", make, UNREACHED, "does not speak TLS", "leave out ssl, ssl_… options", "rediss://")
        for what, make in {
            "rediss://": lambda ports: RedisStore(url=f"rediss://127.0.0.1:{ports.plain}", timeout=1.0),
            "ssl_ca_certs beside redis://": lambda ports: RedisStore(
                url=f"redis://127.0.0.1:{ports.plain}", ssl_ca_certs=ports.authority, timeout=1.0
            ),
        }.items()
    ),
    *(
        mistake(
            f"{name}: no TLS to a port with TLS", lambda ports, make=make: make(ports.tls), UNREACHED, "the server speaks TLS on this port"
        )
        for name, make in PLAIN.items()
    ),
    *(
        mistake(f"{name}: HTTP on the port", lambda ports, make=make: make(ports.http), UNREACHED, f"this port is not {name}", "HTTP")
        for name, make in PLAIN.items()
        if name in ("Redis", "MongoDB", "Memcached")
    ),
    *(
        mistake(f"{name}: {what} on the port", lambda ports, make=make, what=what: make(getattr(ports, what)), UNREACHED, *says)
        for name, make in {"Redis": redis_at, "Valkey": valkey_at}.items()
        for what, says in {
            "memcached": ["this port is not Redis or Valkey", "of Memcached"],
            "ssh": ["this port is not Redis or Valkey", "SSH"],
            "smtp": ["this port is not Redis or Valkey", "SMTP"],
        }.items()
    ),
    mistake("Valkey: HTTP on the port", lambda ports: valkey_at(ports.http), UNREACHED, "this port is not Redis or Valkey", "HTTP"),
    *(
        mistake(f"{name}: Redis on the port", lambda ports, make=make: make(ports.plain), UNREACHED, f"this port is not {name}", "of Redis")
        for name, make in PLAIN.items()
        if name in ("MongoDB", "Elasticsearch", "Vault", "DynamoDB")
    ),
    mistake(
        "Memcached: Redis on the port", lambda ports: memcached_at(ports.plain), StoreRefusedError, "does not answer as Memcached does"
    ),
    mistake("Elasticsearch: another server of HTTP", lambda ports: elasticsearch_at(ports.http), StoreRefusedError, "is not Elasticsearch"),
    mistake("DynamoDB: another server of HTTP", lambda ports: dynamodb_at(ports.http), StoreRefusedError, "not one of DynamoDB"),
    mistake(
        "Redis: another host name",
        lambda ports: redis_at(ports.tls, "localhost", ssl_ca_certs=ports.authority),
        UNREACHED,
        "TLS",
        "for another host name",
    ),
    mistake(
        "MongoDB: another host name",
        lambda ports: mongodb_at(ports.tls, f"&tls=true&tlsCAFile={ports.authority}", "localhost"),
        UNREACHED,
        "TLS",
        "for another host name",
    ),
    mistake(
        "Redis: no certificate of the client",
        lambda ports: redis_at(ports.tls_with_certificates, ssl_cert_reqs="none"),
        UNREACHED,
        "TLS",
        "certificate of the client",
    ),
    *(
        mistake(f"Redis: a missing {option}", make, StoreSetupError, "TLS", "'/missing.pem'", option)
        for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
        for make in [lambda ports, option=option: redis_at(ports.tls, **{"ssl_certfile": ports.authority, option: "/missing.pem"})]
    ),
    *(
        mistake(f"Redis: a directory as {option}", make, StoreSetupError, "TLS", "'/'", option, "directory")
        for option in ("ssl_ca_certs", "ssl_certfile")
        for make in [lambda ports, option=option: redis_at(ports.tls, **{option: "/"})]
    ),
    mistake(
        "Redis: a certificate without a key",
        lambda ports: redis_at(ports.tls, ssl_certfile=ports.authority),
        StoreSetupError,
        "TLS",
        "given as ssl_certfile",
        "pass ssl_keyfile",
    ),
    mistake(
        "Redis: the key of another certificate",
        lambda ports: redis_at(ports.tls, ssl_certfile=ports.authority, ssl_keyfile=ports.no_authority),
        StoreSetupError,
        "TLS",
        "given as ssl_certfile",
        "given as ssl_keyfile",
        "a certificate and its key",
    ),
    mistake(
        "Redis: an encrypted key",
        lambda ports: redis_at(ports.tls, ssl_certfile=ports.certificate, ssl_keyfile=ports.encrypted_key),
        StoreSetupError,
        "TLS",
        "is encrypted",
        "ssl_password in the URL",
    ),
    mistake(
        "Redis: another password of an encrypted key",
        lambda ports: RedisStore(
            url=f"rediss://127.0.0.1:{ports.tls}?ssl_certfile={ports.certificate}&ssl_keyfile={ports.encrypted_key}&ssl_password=other"
        ),
        StoreSetupError,
        "TLS",
        "is ssl_password right",
    ),
    mistake(
        "Redis: a missing file in the URL",
        lambda ports: RedisStore(url=f"rediss://127.0.0.1:{ports.tls}?ssl_ca_certs=/missing.pem"),
        StoreSetupError,
        "TLS",
        "'/missing.pem'",
    ),
    mistake(
        "MongoDB: a missing file",
        lambda ports: mongodb_at(1, "&tls=true&tlsCAFile=/missing.pem"),
        StoreSetupError,
        "TLS",
        "tlscafile='/missing.pem'",
    ),
    mistake(
        "MongoDB: a certificate without a key",
        lambda ports: mongodb_at(1, f"&tls=true&tlsCertificateKeyFile={ports.certificate}"),
        StoreSetupError,
        "TLS: a file does not hold the certificate or the key",
        "certificate.pem'",
    ),
    mistake(
        "Redis: a file of another kind",
        lambda ports: redis_at(ports.tls, ssl_ca_certs=ports.no_authority),
        StoreSetupError,
        "TLS",
        "given as ssl_ca_certs",
        "does not hold certificates",
    ),
    mistake(
        "MongoDB: a file of another kind",
        lambda ports: mongodb_at(1, f"&tls=true&tlsCAFile={ports.no_authority}"),
        StoreSetupError,
        "TLS",
        "a file",
    ),
]


@pytest.mark.parametrize("mistake", PORTS, ids=lambda mistake: mistake.name)
def test_what_listens_on_a_port(mistake: Mistake, ports: Ports) -> None:
    check(mistake, ports)


@pytest.mark.parametrize("name", PLAIN)
def test_no_server(name: str, ports: Ports) -> None:
    says = "region_name and endpoint_url" if name == "DynamoDB" else "is it running"
    check(
        Mistake(
            "no server", lambda: PLAIN[name](ports.nothing).get("k"), UNREACHED, ["could not reach the server", says], ["TLS"], [SECRET]
        )
    )


@pytest.mark.parametrize("name", PLAIN)
def test_trouble_that_the_caller_is_handling_is_not_the_reason(name: str, ports: Ports) -> None:
    async def get() -> None:
        try:
            raise ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate")
        except ssl.SSLError:
            await PLAIN[name](ports.nothing).get("k")

    check(Mistake(name, get, UNREACHED, ["could not reach the server"], ["TLS"]))


NOWHERE = "nowhere.invalid"
UNRESOLVED: dict[str, Callable[[], Any]] = {
    "Redis": lambda: redis_at(6379, NOWHERE),
    "Redis, TLS": lambda: redis_at(6379, NOWHERE, ssl=True),
    "Valkey": lambda: ValkeyStore(host=NOWHERE, timeout=1.0),
    "MongoDB": lambda: mongodb_at(27017, host=NOWHERE),
    "Elasticsearch": lambda: elasticsearch(f"http://{NOWHERE}:9200", timeout=1.0),
    "Vault": lambda: VaultStore(url=f"http://{NOWHERE}:8200", token=SECRET, timeout=1.0),
    "DynamoDB": lambda: dynamodb(
        endpoint_url=f"http://{NOWHERE}", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key=SECRET, timeout=1.0
    ),
    "Memcached": lambda: MemcachedStore(host=NOWHERE, timeout=1.0),
}


@pytest.mark.parametrize("name", UNRESOLVED)
def test_a_host_that_is_not_there(name: str) -> None:
    says = ["could not resolve the name of the host"]
    check(Mistake(name, lambda: UNRESOLVED[name]().get("k"), UNREACHED, says, ["is it running", "TLS"], [SECRET]))


@pytest.mark.parametrize("make", [vault_at, dynamodb_at], ids=["Vault", "DynamoDB"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_behind_a_proxy_nothing_is_looked_at(make: Any, scheme: str, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{ports.nothing}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    check(Mistake("a proxy that is away", lambda: make(ports.ssh, scheme).get("k"), UNREACHED, [], ["SSH", "not Vault", "TLS"], [SECRET]))


def test_an_answer_that_names_https_is_not_about_tls() -> None:
    with answering(lambda _: Reply(400, '{"errors": ["invalid path: HTTPS-settings"]}')) as url:
        store = VaultStore(url=url, token=SECRET)
        check(Mistake("an answer of Vault", lambda: store.get("k"), StoreRefusedError, [], ["TLS"], [SECRET]))


def test_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(tmp_path / "abandoned"))
    for name, says in {"missing": "there is no socket at this path", "abandoned": "nothing listens on this socket"}.items():
        for colour, call in {"get": lambda kv: kv.get("k"), "blocking": lambda kv: BlockingKeyValue(kv).get("k")}.items():
            do = partial(lambda name, call: call(RedisStore(url=f"unix://{tmp_path}/{name}")), name, call)
            check(Mistake(f"{name}, {colour}", do, UNREACHED, [says], ["host and port"]))


@pytest.mark.parametrize("call", [lambda kv: kv.get("k"), lambda kv: BlockingKeyValue(kv).get("k")], ids=["get", "blocking"])
def test_what_a_server_answers_at_a_unix_socket(call: Callable[[Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    store = partial(RedisStore, url=f"unix://{path}")
    with private_server("--unixsocket", str(path), "--requirepass", SECRET):
        for what, password, word in (("no", None, "NOAUTH"), ("a wrong", "nothing", "WRONGPASS")):
            do = partial(lambda password: call(store(password=password)), password)
            check(Mistake(f"{what} password", do, StoreRefusedError, [word, "credentials"], ["over its socket"]))


# What Redis and Valkey answer


def forbid(command: str, server: Any) -> None:
    server.acl_setuser("default", enabled=True, commands=[f"-{command}"])


def lose_primary(server: Any) -> None:
    server.replicaof("127.0.0.1", 1)


def hold_all_slots(server: Any) -> None:
    server.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)


def fail_to_save(server: Any) -> None:
    """Have a save fail: the directory is removed, and so the file can't be written."""
    Path(server.config_get("dir")["dir"]).rmdir()
    server.bgsave()
    await_answer(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err", "the end of the save")


GET, GET_MANY, PUT = "get", "get_many", "put"
ANSWERS: dict[str, tuple[list[str], Callable[[Any], object], str, type[Exception], list[str]]] = {
    "a replica": ([], lose_primary, PUT, UNREACHED, ["READONLY", "read-only replica; connect to its primary"]),
    "a replica without its primary": (
        ["--replica-serve-stale-data", "no"],
        lose_primary,
        GET,
        UNREACHED,
        ["MASTERDOWN", "connect to the primary"],
    ),
    "too few replicas": (["--min-replicas-to-write", "1"], redis.Redis.ping, PUT, UNREACHED, ["NOREPLICAS", "min-replicas-to-write"]),
    "a full memory": (["--maxmemory", "1"], redis.Redis.ping, PUT, StoreRefusedError, ["OOM", "raise its maxmemory"]),
    "a command that was renamed": (
        ["--rename-command", "GET", ""],
        redis.Redis.ping,
        GET,
        StoreRefusedError,
        ["does not know the command", "6.2"],
    ),
    "a command without rights": ([], partial(forbid, "get"), GET, StoreRefusedError, ["NOPERM", "rights (ACL)"]),
    "no password": (["--requirepass", SECRET], lambda server: None, GET, StoreRefusedError, ["NOAUTH", "password="]),
    "as many clients as it takes": (
        ["--maxclients", "1"],
        redis.Redis.ping,
        GET,
        UNREACHED,
        ["has as many clients as it takes", "maxclients"],
    ),
    "a node without a cluster": (
        ["--cluster-enabled", "yes"],
        redis.Redis.ping,
        GET,
        UNREACHED,
        ["CLUSTERDOWN", "slots that no node serves"],
    ),
    "keys of several slots": (
        ["--cluster-enabled", "yes"],
        hold_all_slots,
        GET_MANY,
        StoreRefusedError,
        ["CROSSSLOT", "node of a cluster", "cluster=True"],
    ),
    "no disk to save to": (["--save", "900 1"], fail_to_save, PUT, UNREACHED, ["MISCONF", "can't save to its disk"]),
}
"""States of a server: its options, what brings it there, a call, and what that raises and says."""
GLIDE_SEES_NO_PRIMARY = ("a replica", "a replica without its primary")


@pytest.mark.parametrize("state", ANSWERS)
def test_what_a_server_answers(state: str) -> None:
    if why := REDIS.absent():
        skip_or_fail("redis", why)
    options, bring, method, error, says = ANSWERS[state]
    if "yes" in options:
        options = [*options, "--cluster-port", str(free_port())]
    not_says = ["is there such a database", "is it running"]

    def call(kv: Any) -> Any:
        return kv.get("k") if method == GET else kv.get_many(["k", "l"]) if method == GET_MANY else kv.put("k", VALUE)

    with private_server(*options) as url, redis.Redis.from_url(url) as server:
        bring(server)
        check(Mistake(f"Redis: {state}", lambda: call(redis_at(address(url)["port"])), error, says, not_says, [SECRET]))
        if state in GLIDE_SEES_NO_PRIMARY:
            says = ["there is no primary at this address", "connect to the primary"]
        check(Mistake(f"Valkey: {state}", lambda: call(valkey_at(address(url)["port"])), error, says, not_says, [SECRET]))
        if "--save" in options:  # a server that can't save does not end by a signal either
            server.config_set("save", "")


SERVER: dict[str, tuple[Callable[[int], Any], type[Exception], list[str], list[str]]] = {
    "a server that is no cluster": (partial(redis_at, cluster=True), StoreRefusedError, ["leave out cluster=True"], ["database"]),
    "a server that is no cluster, glide": (partial(valkey_at, cluster=True), StoreRefusedError, ["leave out cluster=True"], ["database"]),
    "a database that is not there": (partial(redis_at, db=99), StoreRefusedError, ["is there such a database", "`databases`"], ["running"]),
    "a database that is not there, glide": (partial(valkey_at, db=99), UNREACHED, ["is it running, and are host, port and db right?"], []),
    "a user who is not there": (partial(redis_at, username="x", password=SECRET), StoreRefusedError, ["WRONGPASS"], ["database"]),
}


@pytest.mark.parametrize("what", SERVER)
def test_what_is_not_on_a_server(what: str, ports: Ports) -> None:
    make, error, says, not_says = SERVER[what]
    check(Mistake(what, lambda: make(ports.plain).get("k"), error, says, not_says, [SECRET]))


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda kv: kv.get("k"),
    "get_many": lambda kv: kv.get_many(["k", "l"]),
    "put": lambda kv: kv.put("k", VALUE),
    "put_many": lambda kv: kv.put_many(["k", "l"], [VALUE, VALUE]),
    "delete": lambda kv: kv.delete("k"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_sentinel(call: str, ports: Ports) -> None:
    for make, says in ((redis_at, "client=Sentinel(…).master_for(…)"), (valkey_at, "the primary")):
        do = CALLS[call]
        error: type[Exception] = StoreRefusedError if make is redis_at else KeyValueStoreError
        check(Mistake(call, lambda make=make, do=do: do(make(ports.sentinel)), error, ["Sentinel", says], RUNNING, [SECRET]))


@pytest.mark.parametrize("make", [redis_at, valkey_at], ids=["Redis", "Valkey"])
def test_a_key_of_another_type(make: Callable[[int], Any], ports: Ports) -> None:
    says = ["answers WRONGTYPE", "something other than a string", "another program"]
    with redis.Redis(port=ports.plain) as server:
        server.delete("default_collection::k")
        server.lpush("default_collection::k", SECRET)
        for name in ("get", "ttl", "delete"):
            check(Mistake(name, lambda name=name: getattr(make(ports.plain), name)("k"), StoreRefusedError, says, ["database"], [SECRET]))
        kv = BlockingKeyValue(make(ports.plain))
        assert kv.get_many(["k", "missing"]) == [None, None]  # as MGET
        assert server.exists("default_collection::k")
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        kv.close()


# RedisStore's arguments

URL = "redis://localhost"
REDIS_ARGUMENTS = [
    Mistake(
        "two passwords",
        lambda: RedisStore(url=f"redis://:{SECRET}@h", password=SECRET),
        ValueError,
        ["password is given twice"],
        secrets=[SECRET],
    ),
    Mistake(
        "two users",
        lambda: RedisStore(url=f"redis://u:{SECRET}@h", username="v"),
        ValueError,
        ["username is given twice"],
        secrets=[SECRET],
    ),
    Mistake("two files", lambda: RedisStore(url=f"{URL}?ssl_ca_certs=a", ssl_ca_certs="b"), ValueError, ["ssl_ca_certs is given twice"]),
    Mistake("a key alone", lambda: RedisStore(ssl_keyfile="key.pem"), ValueError, ["ssl_keyfile", "without ssl_certfile"]),
    Mistake(
        "a key alone in a URL", lambda: RedisStore(url="rediss://h?ssl_keyfile=k"), ValueError, ["ssl_keyfile", "without ssl_certfile"]
    ),
    Mistake("two parts of a path", lambda: RedisStore(url=f"{URL}/0/1"), ValueError, ["path of the URL must be the number of a database"]),
    Mistake("two databases", lambda: RedisStore(url=f"{URL}/2?db=3"), ValueError, ["path of the URL must be the number of a database"]),
    Mistake("white space after a URL", lambda: RedisStore(url=f"{URL}\n"), ValueError, ["starts or ends with white space"]),
    Mistake("a scheme without slashes", lambda: RedisStore(url="unix:/run/redis.sock"), ValueError, ["no scheme with `://`"]),
    Mistake(
        "a raw [ in the password",
        lambda: RedisStore(url=f"redis://u:a[{SECRET}@localhost"),
        ValueError,
        ["raw `/`, `?`, `#`, `[`"],
        ["its port"],
        secrets=[SECRET],
    ),
    Mistake(
        "options beside a client",
        lambda: RedisStore(client=redis.Redis(), host="h", password=SECRET),
        ValueError,
        ["host and password beside a client", "leave them out"],
        secrets=[SECRET],
    ),
    Mistake(
        "a database beside a configuration",
        lambda: ValkeyStore(config=glide.GlideClientConfiguration([glide.NodeAddress("h")]), db=3),
        ValueError,
        ["db beside a client or a config", "leave it out"],
    ),
    Mistake("TLS by a text", lambda: RedisStore(ssl="no"), TypeError, ["ssl must be a bool, not a str"]),  # type: ignore[arg-type]
    Mistake("a host beside a URL", lambda: RedisStore(url=URL, host="h"), ValueError, ["host beside a url", "redis://host:port/0"]),
    Mistake("a port beside a URL", lambda: RedisStore(url=URL, port=1), ValueError, ["port beside a url", "redis://host:port/0"]),
    Mistake("a database beside a URL", lambda: RedisStore(url=URL, db=3), ValueError, ["db=3 beside a url", "redis://host/3"], ["port"]),
    Mistake(
        "an unknown option", lambda: RedisStore(url=f"{URL}?timeout=5"), ValueError, ["unknown option 'timeout' in the URL"], ["__init__"]
    ),
    Mistake(
        "an unknown option of a socket", lambda: RedisStore(url="unix:///r.sock?foo=1"), ValueError, ["unknown option 'foo' in the URL"]
    ),
    Mistake("TLS in a plain URL", lambda: RedisStore(url=f"{URL}?ssl_ca_certs=a"), ValueError, ["'ssl_ca_certs'", "write rediss://"]),
    *(
        Mistake(f"{what} in a URL", lambda url=url: RedisStore(url=url), ValueError, ["can't parse the URL", *says], ["raw"], [SECRET])
        for what, url, says in (
            ("another scheme", f"http://u:{SECRET}@localhost", ["scheme must be redis://, rediss:// or unix://"]),
            ("a port of letters", f"redis://u:{SECRET}@localhost:abc/0", ["port must be a number from 1 to 65535"]),
            ("a port too large", f"redis://u:{SECRET}@localhost:70000", ["port must be a number from 1 to 65535"]),
            ("a value of an option", f"redis://u:{SECRET}@localhost?max_connections={SECRET}", ["option 'max_connections' is invalid"]),
        )
    ),
    *(
        Mistake(f"{kind.__name__}: {name}={value!r}", lambda kind=kind, name=name, value=value: kind(**{name: value}), error, [says])
        for name, kinds in {"port": (RedisStore, ValkeyStore, MemcachedStore), "db": (RedisStore, ValkeyStore)}.items()
        for kind in kinds
        for value, error, says in (
            ("abc", TypeError, f"{name} of {kind.__name__} must be an int, not a str"),
            (-1, ValueError, f"{name} of {kind.__name__} must be "),
            *([(70000, ValueError, "from 1 to 65535")] if name == "port" else []),
        )
    ),
    Mistake("no number", lambda: RedisStore(url=f"{URL}/users"), ValueError, ["the path of the URL must be the number of a database"]),
    Mistake("TLS over a socket", lambda: RedisStore(url="unix:///run/r.sock", ssl=True), ValueError, ["no TLS over a Unix socket"]),
    Mistake(
        "a requirement", lambda: RedisStore(ssl_cert_reqs="always"), ValueError, ["ssl_cert_reqs must be 'required', 'optional' or 'none'"]
    ),
    Mistake("a requirement in a URL", lambda: RedisStore(url="rediss://h?ssl_cert_reqs=CERT_NONE"), ValueError, ["'none'", "in the URL"]),
    Mistake("a database of a cluster", lambda: RedisStore(cluster=True, db=1), ValueError, ["a cluster has database 0 only"]),
    Mistake("a client beside a URL", lambda: RedisStore(client=redis.Redis(), url=URL), ValueError, ["either a client or a url"]),
    Mistake("no time", lambda: RedisStore(timeout=0), ValueError, ["timeout must be a positive number of seconds"]),
    Mistake("a scheme of another kind", lambda: RedisStore(url="http://localhost"), ValueError, ["can't parse the URL", "redis://"]),
]


@pytest.mark.parametrize("mistake", REDIS_ARGUMENTS, ids=lambda mistake: mistake.name)
def test_redis_arguments(mistake: Mistake) -> None:
    check(mistake)


def test_what_is_the_default_beside_a_url() -> None:
    assert repr(RedisStore(url="rediss://localhost", ssl=False)) == "RedisStore(localhost)"


class Files(SimpleHTTPRequestHandler):
    """What `python -m http.server` does, without its log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name
        pass


# Elasticsearch behind a fake proxy, which answers as servers in certain states do

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}


def told(kind: str, reason: str = "", status: int = 400) -> Reply:
    return Reply(status, json.dumps({"error": {"type": kind, "reason": f"{reason} {SECRET}"}, "status": status}), PRODUCT)


ELASTICSEARCH: dict[str, tuple[Reply, list[str]]] = {
    "a client that is newer": (told("media_type_header_exception", "compatible-with=9"), ["client is newer than the server"]),
    "too many shards": (told("validation_exception", "maximum normal shards open"), ["cluster.max_shards_per_node"]),
    "a read-only cluster": (told("cluster_block_exception", status=403), ["blocked", "cluster.blocks"]),
    "another error": (told("mapper_parsing_exception"), ["mapper_parsing_exception"]),
    "a redirect": (Reply(301, "", PRODUCT), ["HTTP status 301", "redirect"]),
    "an odd body": (Reply(200, "[]", PRODUCT), ["not one of Elasticsearch", "[TypeError]", "operation: "]),
    "a body of another kind": (Reply(200, '{"took": 1}', PRODUCT), ["not one of Elasticsearch"]),
}


@pytest.mark.parametrize("what", ELASTICSEARCH)
def test_elasticsearch_behind_a_fake_proxy(what: str) -> None:
    reply, says = ELASTICSEARCH[what]
    with answering(lambda _: reply) as url:
        calls = {"get": lambda: elasticsearch(url).get("k"), "put": lambda: elasticsearch(url).put("k", VALUE)}
        for name, do in calls.items():
            check(Mistake(f"{what}, {name}", do, StoreRefusedError, says, ["is it running"]))


def test_vault_where_files_are_served(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(tmp_path))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            for name, call in CALLS.items():
                do = partial(lambda call: call(vault_at(server.server_address[1])), call)
                check(Mistake(name, do, StoreRefusedError, ["what answers is not Vault"], ["not initialized"], [SECRET]))
        finally:
            server.shutdown()
            thread.join()


# What is too large

TOO_LARGE = [
    Mistake("Memcached", lambda: MemcachedStore().put("k", {"a": "x" * 2**20}), ValueTooLargeError, ["-I", "max_value_size"]),
    Mistake("MongoDB", lambda: encode_entries([Entry("c", "k", None, b'"' + b"x" * 2**24 + b'"')]), ValueTooLargeError, ["16 MiB"]),
    Mistake("DynamoDB", lambda: encode_item("1:ck", Entry("c", "k", None, b'"' + b"x" * 2**19 + b'"')), ValueTooLargeError, ["400 KB"]),
]


@pytest.mark.parametrize("mistake", TOO_LARGE, ids=lambda mistake: mistake.name)
def test_what_is_too_large(mistake: Mistake) -> None:
    check(mistake)


def test_what_redis_takes(ports: Ports) -> None:
    with redis.Redis(port=ports.plain) as server:
        server.config_set("proto-max-bulk-len", 2**20)
        put = Mistake("Redis", lambda: redis_at(ports.plain).put("k", {"a": "x" * 2**21}), ValueTooLargeError, ["proto-max-bulk-len"])
        try:
            check(put)
        finally:
            server.config_set("proto-max-bulk-len", 2**29)
