"""Vault."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import hvac
import hvac.adapters
import requests

from keyvalue._core.layout import digest
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.vault import VaultStore
from tests.servers.vault import names, open_client, plant
from tests.stores.hooks import SECRET, Hooks, document


class VaultHooks(Hooks):
    kind = VaultStore
    causes = requests.ConnectionError
    client_types = r"an hvac\.Client"

    misnamed = (("a", "copy"), ("a", "x//"))
    bad_keys = ("bad", "bad//")
    damaged: Mapping[str, Mapping[str, Any]] = {
        "no JSON": {"value": "{"},
        "no text": {"value": ""},
        "no date": {"value": json.dumps({"value": {"a": SECRET}, "expires_at": "soon"})},
        "an object": {"value": {"value": {"a": SECRET}}},
        "null": {"value": None},
        "another field": {"password": SECRET},
        "empty": {},
    }
    leaves_graves = True

    def with_secret(self, url: str) -> AsyncKeyValue:
        return VaultStore(url=url.replace("://", f"://user:{SECRET}@"), token=SECRET)

    def refused(self) -> Iterable[tuple[Mapping[str, Any], type[Exception], str]]:
        for more in ({"url": "http://other:8200"}, {"token": SECRET}, {"namespace": "n"}):
            yield {"client": hvac.Client(), **more}, ValueError, "either a client or"
        for url in ("localhost:8200", "ftp://localhost:8200", f"http://user:{SECRET}@localhost:82000", f"http://user:{SECRET}@local host"):
            yield {"url": url}, ValueError, "parse the URL"
        for token, message in (("", "The token"), (f"{SECRET}\n", "line break"), (f"{SECRET}é", "The token")):
            yield {"token": token}, ValueError, message
        yield {"namespace": "a\nb"}, ValueError, "The namespace"
        for mount_point in ("", "/", "a/../sys", "a//b", "a\n"):
            yield {"mount_point": mount_point}, ValueError, "mount_point"
        yield {"timeout": 0}, ValueError, "positive"

    def accepted(self) -> Iterable[Mapping[str, Any]]:
        return {}, {"url": None}, {"mount_point": "/team/app kv/"}, {"namespace": "team", "token": SECRET}

    def wrong_clients(self) -> Iterable[Any]:
        return "http://localhost", object(), hvac.Client

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        kinds = [(adapter, strict) for adapter in (hvac.adapters.JSONAdapter, hvac.adapters.RawAdapter) for strict in (False, True)]
        return {f"{adapter.__name__} {strict}": open_client(url, adapter=adapter, strict_http=strict) for adapter, strict in kinds}

    def assert_open(self, client: Any) -> None:
        assert len(client.session.get_adapter(client.url).poolmanager.pools) == 1

    def raw(self, url: str) -> AbstractContextManager[Any]:
        return open_client(url)

    def contents(self, url: str) -> Mapping[str, Any]:
        with self.raw(url) as there:
            read = there.secrets.kv.v2.read_secret_version
            return {name: read(name, raise_on_deleted_version=False)["data"] for name in names(there)}

    def names(self, url: str) -> set[str]:
        """Return the names of all secrets but what a delete leaves."""
        found = self.contents(url)
        return {name for name, secret in found.items() if "1970-01-01" not in str((secret["data"] or {}).get("value"))}

    def plant_foreign(self, url: str) -> None:
        theirs: dict[str, dict[str, Any]] = {
            "database": {"user": "u", "password": "p"},
            "app/config": {"value": "text"},
            "app/a::other": {"value": "not a document"},
            "a::fields": {"host": "h"},
            "a::number": {"value": 7},
            "a::copy": {"value": document("a", "original")},
            f"{digest('a')}/{digest('x//')}": {"value": document("a", "original")},
            "a": {"value": document("a", "k")},
        }
        for name, data in theirs.items():
            plant(url, name, data)

    def plant(self, url: str, name: str, data: bytes) -> None:
        plant(url, name, {"value": data.decode()})

    def damage(self, url: str, key: str, damaged: Mapping[str, Any]) -> None:
        plant(url, "c::bad" if key == "bad" else f"{digest('c')}/{digest(key)}", damaged)


HOOKS = {"vault": VaultHooks("vault")}
