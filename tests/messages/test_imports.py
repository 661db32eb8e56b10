"""Importing what needs a package that is not installed: the message names the extra, and a command that works before a release too."""

from __future__ import annotations

import json
import shlex
from functools import partial
from importlib import metadata
from typing import Any

import pytest

from keyvalue._core.extras import needs
from tests.interpreter import run_fresh
from tests.messages import Mistake, check

MODULES = {
    "stores.disk": ("diskcache", "disk", ["diskcache", "pathvalidate"]),
    "stores.rocksdb": ("rocksdict", "rocksdb", ["rocksdict"]),
    "stores.redis": ("redis", "redis", ["redis"]),
    "stores.valkey": ("glide_sync", "valkey", ["valkey-glide", "valkey-glide-sync"]),
    "stores.memcached": ("pymemcache", "memcached", ["aiomcache", "pymemcache"]),
    "stores.mongodb": ("pymongo", "mongodb", ["pymongo"]),
    "stores.dynamodb": ("botocore", "dynamodb", ["aiobotocore"]),
    "stores.elasticsearch": ("elasticsearch", "elasticsearch", ["elasticsearch[async]"]),
    "stores.vault": ("hvac", "vault", ["hvac", "requests", "urllib3"]),
    "stores.keyring": ("keyring", "keyring", ["keyring"]),
    "wrappers.encryption": ("cryptography", "wrappers-encryption", ["cryptography"]),
    "adapters.pydantic": ("pydantic", "pydantic", ["pydantic"]),
}
"""By module of this library: what can't be imported, the extra, and the packages that the command installs."""


PROGRAM = f"""
import importlib, json, sys
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {[missing for missing, _, _ in MODULES.values()]}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuses())
said = {{}}
for module in {list(MODULES)}:
    try: importlib.import_module(f"keyvalue.{{module}}")
    except ImportError as error: said[module] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What modules say in an interpreter in which none of the packages is installed."""
    return json.loads(run_fresh(PROGRAM))


def say_again(said: dict[str, str], module: str) -> None:
    raise ImportError(said[module])


MISTAKES = [
    Mistake(
        f"{module} without {missing}",
        partial(say_again, module=module),
        ImportError,
        [missing, f"keyvalue's extra '{extra}'", "pip install "],
        ["keyvalue["],
    )
    for module, (missing, extra, _) in MODULES.items()
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_package_that_is_missing(mistake: Mistake, said: dict[str, str]) -> None:
    check(mistake, said)


@pytest.mark.parametrize("extra", sorted({extra for _, extra, _ in MODULES.values()}))
def test_the_command_installs_all_that_the_extra_needs(extra: str) -> None:
    with pytest.raises(ImportError) as caught, needs(extra):
        raise ModuleNotFoundError("No module named 'x'", name="x")
    command = shlex.split(str(caught.value).partition("with: ")[2])
    assert command[:2] == ["pip", "install"]
    (packages,) = {tuple(packages) for _, other, packages in MODULES.values() if other == extra}
    assert sorted(part.partition(">")[0].partition("<")[0] for part in command[2:]) == sorted(packages)


def test_a_directory_of_sources_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", fails)
    with pytest.raises(ImportError, match=r"keyvalue's extra 'redis'; install keyvalue with that$"), needs("redis"):
        raise ModuleNotFoundError("No module named 'redis'", name="redis")
