"""Run by the nox session `extras` in an environment that holds one extra and nothing else: `python tests/extras.py redis`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from keyvalue import blocking, stores
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.compression import CompressionWrapper

STORES = sorted({path.stem for path in Path(*stores.__path__).glob("[a-z]*.py")} - {"base", "null", "simple", "windows_registry"})
"""The modules of stores that have an extra of their name."""


def check(works: bool, make: Callable[[], object], expected: str) -> None:
    """Fail unless something works, or raises an ImportError that holds a text."""
    message = ""
    try:
        make()
    except ImportError as error:
        message = str(error)
    assert works == (not message), message or f"it works, but was to say: {expected}"
    assert works or expected in message, message


def check_module(works: bool, name: str, extra: str) -> None:
    """Fail unless a module can be imported, or names the command that installs what it needs."""
    check(works, partial(import_module, f"keyvalue.{name}"), f"keyvalue's extra '{extra}'; install it with: pip install '")


def check_wrappers(extra: str) -> None:
    encrypts, zstd = (extra in (f"wrappers-{what}", "all") for what in ("encryption", "compression"))
    encrypts |= extra.startswith("keyring") and sys.platform == "linux"  # whose Secret Service is talked to in ciphers
    check_module(encrypts, "wrappers.encryption", "wrappers-encryption")
    check(
        zstd,
        lambda: CompressionWrapper(MemoryStore(), algorithm="zstd"),
        "keyvalue's extra 'wrappers-compression'; install it with: pip install 'zstandard>=",
    )
    with BlockingKeyValue(CompressionWrapper(MemoryStore(), 0, algorithm="zstd" if zstd else "gzip")) as kv:
        kv.put("k", {"a": "a" * 1000})
        assert kv.get("k") == {"a": "a" * 1000}


def check_adapters(extra: str) -> None:
    works = extra in ("pydantic", "all")
    for name in ("pydantic", "base_model", "dataclass"):
        check_module(works, f"adapters.{name}", "pydantic")
    with BlockingKeyValue(MemoryStore()) as kv:
        assert blocking.RaiseOnMissingAdapter(kv).get("k") is None
        if works:
            numbers = blocking.PydanticAdapter(kv, int)
            numbers.put("k", 1)
            assert numbers.get("k") == 1


TESTS = """
from pathlib import Path

from keyvalue.stores.filetree import FileTreeStore
from keyvalue.testing import StoreContract


class TestFileTreeStore(StoreContract):
    runtimes = ("trio", "direct")

    def make(self, directory: Path) -> FileTreeStore:
        return FileTreeStore(data_directory=directory)
"""


def check_testing(extra: str) -> None:
    check_module(extra == "testing", "testing", "testing")
    if extra == "testing":
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # nox has temporary directories within the project
            Path(directory, "test_filetree.py").write_text(TESTS, encoding="utf-8")
            command = [sys.executable, "-I", "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"]
            result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stdout + result.stderr
            assert " passed in " in result.stdout, result.stdout


def check_stores(extra: str) -> None:
    for name in STORES:
        works = extra in (name, f"{name}-linux", "all") or name in ("memory", "filetree")
        check_module(works, f"stores.{name}", name)
        assert not works or any(exported.endswith("Store") for exported in import_module(f"keyvalue.stores.{name}").__all__)
    # The system decides, no extra does.
    check(sys.platform == "win32", lambda: import_module("keyvalue.stores.windows_registry"), "for Windows only")
    has = {"disk": extra in ("disk", "all"), "rocksdb": extra in ("rocksdb", "all")}
    with tempfile.TemporaryDirectory() as directory:
        for module, name, arguments in (
            ("memory", "MemoryStore", {}),
            ("null", "NullStore", {}),
            ("simple", "SimpleStore", {}),
            ("filetree", "FileTreeStore", {"data_directory": f"{directory}/filetree"}),
            ("disk", "DiskStore", {"directory": f"{directory}/disk"}),
            ("disk", "MultiDiskStore", {"base_directory": f"{directory}/multi-disk"}),
            ("rocksdb", "RocksDBStore", {"path": f"{directory}/rocksdb"}),
        ):
            if has.get(module, True):
                with BlockingKeyValue(getattr(import_module(f"keyvalue.stores.{module}"), name)(**arguments)) as kv:
                    kv.put("k", {"a": 1}, ttl=60)
                    assert kv.get("k") == (None if module == "null" else {"a": 1})


if __name__ == "__main__":
    for part in (check_wrappers, check_testing, check_adapters, check_stores):
        part(sys.argv[1])
