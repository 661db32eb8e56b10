"""Mistakes with the stores on files: the directory and whose it is, what lies in it, a full disk, and wrong arguments."""

# pyright: reportArgumentType=false, reportCallIssue=false
# Wrong arguments are what these tests are about.

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import diskcache
import pytest
from rocksdict import AccessType, Options, Rdict

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    DeserializationError,
    KeyValueStoreError,
    PathSecurityError,
    StoreClosedError,
    StoreRefusedError,
    StoreSetupError,
)
from keyvalue.stores.disk import DiskStore, MultiDiskStore
from keyvalue.stores.filetree import FileTreeStore, FileTreeV1KeySanitizationStrategy
from keyvalue.stores.rocksdb import RocksDBStore
from tests.messages import Mistake, check
from tests.stores.files import limited, sql, without_rights

pytestmark = pytest.mark.filterwarnings("ignore:(Multi)?(Disk|FileTree|RocksDB)Store:UserWarning")  # which say less than the errors do

KINDS: dict[str, Callable[..., Any]] = {
    "disk": lambda path, **options: DiskStore(directory=path, **options),
    "multi-disk": lambda path, **options: MultiDiskStore(base_directory=path, **options),
    "filetree": lambda path, **options: FileTreeStore(data_directory=path, **options),
    "rocksdb": lambda path, **options: RocksDBStore(path=path, **options),
}
Make = Callable[..., Any]


@pytest.fixture
def where() -> Generator[Path, None, None]:
    """A directory that any user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def put(store: Any) -> None:
    with BlockingKeyValue(store) as kv:
        kv.put("k", {"a": "secret-text"})


def a_file(path: Path) -> Path:
    path.write_text("mine")
    return path


def a_link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def with_mode(make: Make, path: Path, mode: int, below: str = "", **options: Any) -> None:
    """Use a store in a directory, or in one below it, on which this user has the rights that its mode gives to others."""
    (path / below).mkdir(parents=True, exist_ok=True)
    with without_rights(path, mode):
        put(make(path / below, **options))


def losing_rights(make: Make, path: Path, call: Callable[[Any], Any]) -> None:
    """Call an open store after this user has lost the rights on the directory above."""
    path.mkdir()
    with BlockingKeyValue(make(path / "db")) as kv:
        kv.put("k", {"a": "secret-text"})
        with without_rights(path, 0o700):
            call(kv)


def on_a_full_disk(make: Make, path: Path, *, exists: bool) -> None:
    if exists:
        put(make(path))
    with limited("RLIMIT_FSIZE", 10):
        put(make(path))


NOT_WRITABLE = ["does not exist", "removed", "full", "database"]
FOR_ALL = [
    Mistake("an empty path", lambda make, where: make(""), ValueError, ["empty"], ["exactly one"]),
    Mistake("a number for a directory", lambda make, where: make(5), TypeError, ["must be a str or a Path, not an int"]),
    Mistake("bytes for a directory", lambda make, where: make(b"x"), TypeError, ["must be a str or a Path, not bytes"]),
    Mistake("a path with NUL", lambda make, where: make("a\0b"), ValueError, ["'a\\x00b'", "NUL"]),
    Mistake(
        "a user who is not there",
        lambda make, where: make("~no-such-user/db"),
        ValueError,
        ["~no-such-user/db", "no user 'no-such-user'", "'./~"],
    ),
    Mistake(
        "a variable that is not set",
        lambda make, where: make(f"{where}/${{NO_SUCH_VARIABLE}}/db"),
        ValueError,
        ["NO_SUCH_VARIABLE is not set in the environment"],
        ["no user"],
    ),
    Mistake(
        "missing, and not to be made",
        lambda make, where: make(where / "new", auto_create=False),
        ValueError,
        ["/new' does not exist", "create it, or leave out auto_create=False"],
    ),
    Mistake(
        "a file, not to be made",
        lambda make, where: make(a_file(where / "file"), auto_create=False),
        ValueError,
        ["/file' is a file, where a directory belongs"],
        ["does not exist"],
    ),
    Mistake(
        "without the rights, not to be made",
        lambda make, where: with_mode(make, where / "locked", 0o700, "db", auto_create=False),
        ValueError,
        ["may not enter the directory", "/locked', which belongs to uid ", "permissions"],
        ["does not exist"],
    ),
    Mistake(
        "a file where the directory belongs",
        lambda make, where: put(make(a_file(where / "file"))),
        StoreSetupError,
        ["/file' is a file, where a directory belongs; move it"],
        ["writable", "full", "database"],
    ),
    Mistake(
        "a file above the directory",
        lambda make, where: put(make(a_file(where / "file") / "db")),
        StoreSetupError,
        ["/file' is a file, where a directory belongs"],
        ["writable", "full", "database"],
    ),
    Mistake(
        "a link to nowhere",
        lambda make, where: put(make(a_link(where / "link", where / "gone"))),
        StoreSetupError,
        ["/link' is a link to ", "/gone', where there is nothing"],
        ["writable", "full", "File exists"],
    ),
    Mistake(
        "a link to itself",
        lambda make, where: put(make(a_link(where / "link", where / "link"))),
        StoreSetupError,
        ["/link' is a link to "],
        ["removed", "full"],
    ),
    Mistake(
        "too long a name",
        lambda make, where: put(make(where / ("n" * 300))),
        StoreSetupError,
        ["longer name", "choose a shorter one"],
        ["writable", "full"],
    ),
    Mistake(
        "a directory of another user that may not be entered",
        lambda make, where: with_mode(make, where / "locked", 0o700),
        KeyValueStoreError,
        ["this user (uid ", "/locked'", "which belongs to uid ", "change its permissions"],
        NOT_WRITABLE,
    ),
    Mistake(
        "below a directory that may not be entered",
        lambda make, where: with_mode(make, where / "locked", 0o700, "db"),
        StoreSetupError,
        ["may not enter the directory", "/locked', which belongs to uid "],
        [*NOT_WRITABLE, "open already"],
    ),
    Mistake(
        "a directory for reading only",
        lambda make, where: with_mode(make, where / "theirs", 0o755),
        KeyValueStoreError,
        ["may not create anything in the directory", "/theirs', which belongs to uid "],
        NOT_WRITABLE,
    ),
    *(
        Mistake(
            f"rights lost while it is open, {name}",
            functools.partial(lambda make, where, call: losing_rights(make, where / "above", call), call=call),
            StoreRefusedError,
            ["may not enter the directory", "/above', which belongs to uid "],
            ["removed or moved", "full"],
            secrets=["secret-text"],
        )
        for name, call in {
            "put": lambda kv: kv.put("k", {"a": "secret-text"}),
            "put_many": lambda kv: kv.put_many(["k"], [{}]),
            "delete": lambda kv: kv.delete("k"),
        }.items()
    ),
    *(
        Mistake(
            f"a full disk, {'an old' if exists else 'a new'} directory",
            functools.partial(lambda make, where, exists: on_a_full_disk(make, where / "db", exists=exists), exists=exists),
            StoreRefusedError,
            ["/db", "the disk is full", "make room"],
            ["database of diskcache", "writable", "damaged", "permissions"],
            secrets=["secret-text"],
        )
        for exists in (False, True)
    ),
    Mistake("a closed store", lambda make, where: closed(make(where / "db")), StoreClosedError, ["is closed; make a new one"]),
    Mistake("a mode that is not octal", lambda make, where: make(where, file_mode=640), ValueError, ["file_mode", "octal", "0o640"]),
    Mistake(
        "a mode that is a str", lambda make, where: make(where, file_mode="0o640"), TypeError, ["must be an int such as 0o640, not a str"]
    ),
    Mistake("a misspelt argument", lambda make, where: make(where, maxsize=5), TypeError, ["maxsize", "it takes"]),
]


def closed(store: Any) -> None:
    with BlockingKeyValue(store) as kv:
        pass
    kv.get("k")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mistake", FOR_ALL, ids=lambda mistake: mistake.name)
def test_the_directory(mistake: Mistake, kind: str, where: Path) -> None:
    check(mistake, KINDS[kind], where)


def call(store: Any, function: Callable[[Any], Any]) -> None:
    with BlockingKeyValue(store) as kv:
        function(kv)


def cache(path: Path) -> Any:
    return diskcache.Cache(str(path))


def closed_cache(path: Path) -> Any:
    with cache(path) as made:
        return made


def with_shards(where: Path) -> None:
    with diskcache.FanoutCache(str(where), shards=1) as made:
        DiskStore(disk_cache=made)


async def make_cache(_: str) -> Any:
    raise AssertionError


def spoil_row(where: Path) -> Path:
    """Store something, and plant a pickle in its place."""
    put(DiskStore(directory=where))
    sql(where, "UPDATE Cache SET mode = 4, value = ?", b"secret-text")
    return where


def remove_given(where: Path) -> Any:
    with cache(where / "given") as given:
        store = DiskStore(disk_cache=given)
    shutil.rmtree(where / "given")
    return store


def database_of_another_program(where: Path) -> Path:
    sql(where, "CREATE TABLE Settings (secret_column)")
    return where


def text_for_a_database(where: Path) -> Path:
    (where / "cache.db").write_text("secret-text" * 1000)
    return where


def read_only_database(where: Path) -> None:
    where.chmod(0o777)
    put(DiskStore(directory=where))
    with without_rights(where / "cache.db", 0o600):
        put(DiskStore(directory=where))


DISK = [
    Mistake("no directory and no cache", lambda where: DiskStore(), ValueError, ["exactly one of: directory, disk_cache"]),
    Mistake(
        "a directory and a cache",
        lambda where: DiskStore(directory=where, disk_cache=Mock(diskcache.Cache)),
        ValueError,
        ["exactly one of: directory, disk_cache"],
    ),
    Mistake(
        "a path for a cache", lambda where: DiskStore(disk_cache=str(where)), TypeError, ["disk_cache must be a diskcache.Cache, not a str"]
    ),
    Mistake(
        "a FanoutCache",
        with_shards,
        TypeError,
        ["disk_cache must be a diskcache.Cache, not a FanoutCache"],
        ["removed or moved"],
    ),
    Mistake(
        "a path by position",
        lambda where: DiskStore(where),
        TypeError,
        ["too many positional arguments", "it takes by name: disk_cache, directory"],
    ),
    Mistake(
        "too small a limit",
        lambda where: DiskStore(directory=where, max_size=10_000),
        ValueError,
        ["max_size", "1048576 bytes", "leave it out"],
    ),
    Mistake("a negative limit", lambda where: DiskStore(directory=where, max_size=-1), ValueError, ["max_size", "1048576 bytes"]),
    Mistake(
        "a limit in words",
        lambda where: DiskStore(directory=where, max_size="10MB"),
        TypeError,
        ["max_size must be a number of bytes", "not a str"],
    ),
    Mistake("a float for a limit", lambda where: DiskStore(directory=where, max_size=1e9), TypeError, ["max_size", "not a float"]),
    Mistake(
        "a mode beside a cache",
        lambda where: DiskStore(disk_cache=Mock(diskcache.Cache), file_mode=0o600),
        ValueError,
        ["file_mode can't be combined with disk_cache"],
    ),
    Mistake(
        "a given cache that was removed", lambda where: put(remove_given(where)), StoreSetupError, ["/given/cache.db'", "removed or moved"]
    ),
    Mistake(
        "another program's database",
        lambda where: put(DiskStore(directory=database_of_another_program(where))),
        StoreSetupError,
        ["not diskcache's database, or damaged", "choose another directory"],
        ["writable", "full", "may not"],
    ),
    Mistake(
        "a text where the database belongs",
        lambda where: put(DiskStore(directory=text_for_a_database(where))),
        StoreSetupError,
        ["not diskcache's database, or damaged"],
        ["writable", "full", "may not"],
        ["secret-text"],
    ),
    Mistake(
        "a database of another user",
        read_only_database,
        StoreSetupError,
        ["may not use the file", "cache.db', which belongs to uid ", "permissions"],
        ["damaged", "full"],
    ),
    Mistake(
        "a row that is a pickle",
        lambda where: call(DiskStore(directory=spoil_row(where)), lambda kv: kv.get("k")),
        DeserializationError,
        ["can't be read", "Delete or overwrite", "key: k"],
        secrets=["secret-text"],
    ),
]


@pytest.mark.parametrize("mistake", DISK, ids=lambda mistake: mistake.name)
def test_disk(mistake: Mistake, where: Path) -> None:
    check(mistake, where)


def multi(factory: Any, **options: Any) -> Any:
    return MultiDiskStore(disk_cache_factory=factory, **options)


MULTI_DISK = [
    Mistake("neither", lambda where: MultiDiskStore(), ValueError, ["exactly one of: base_directory, disk_cache_factory"]),
    Mistake("both", lambda where: multi(cache, base_directory=where), ValueError, ["exactly one of: base_directory, disk_cache_factory"]),
    Mistake(
        "the argument of DiskStore",
        lambda where: MultiDiskStore(directory=where),
        TypeError,
        ["'directory'", "it takes by name: disk_cache_factory, base_d"],
    ),
    Mistake(
        "a cache for a factory",
        lambda where: multi(closed_cache(where)),
        TypeError,
        ["disk_cache_factory must be a function that returns the diskcache.Cache", "not a Cache"],
    ),
    Mistake("a limit beside a factory", lambda where: multi(cache, max_size=2**30), ValueError, ["let disk_cache_factory set size_limit"]),
    Mistake(
        "a mode beside a factory", lambda where: multi(cache, file_mode=0o600), ValueError, ["can't be combined with disk_cache_factory"]
    ),
    Mistake(
        "a factory that returns nothing",
        lambda where: put(multi(lambda name: None)),
        TypeError,
        ["must return a diskcache.Cache, not None"],
    ),
    Mistake(
        "a factory that returns a path",
        lambda where: put(multi(lambda name: where / name)),
        TypeError,
        ["must return a diskcache.Cache, not a Posix"],
    ),
    Mistake("an async factory", lambda where: put(multi(make_cache)), TypeError, ["must return a diskcache.Cache, not a coroutine"]),
    Mistake(
        "a collection that is a link",
        lambda where: call(
            MultiDiskStore(base_directory=a_link(where / "c", where / "gone").parent), lambda kv: kv.put("k", {}, collection="c")
        ),
        PathSecurityError,
        ["/c' is a link, which is not followed", "Put the directory itself there"],
    ),
    Mistake(
        "a file where a collection belongs",
        lambda where: call(MultiDiskStore(base_directory=a_file(where / "c").parent), lambda kv: kv.put("k", {}, collection="c")),
        StoreSetupError,
        ["/c' is a file, where a directory belongs"],
        ["writable", "full"],
    ),
]


@pytest.mark.parametrize("mistake", MULTI_DISK, ids=lambda mistake: mistake.name)
def test_multi_disk(mistake: Mistake, where: Path) -> None:
    check(mistake, where)


class NamesNothing:
    def sanitize(self, value: str) -> None:
        pass


def tree(where: Path, **options: Any) -> Any:
    return FileTreeStore(data_directory=where / "tree", **options)


def tree_with(path: str, where: Path, make: Callable[[Path], Any]) -> Any:
    (where / "tree" / path).parent.mkdir(parents=True)
    make(where / "tree" / path)
    return tree(where)


FILETREE = [
    Mistake("an argument that is not there", lambda where: FileTreeStore(dir=where), TypeError, ["'dir'", "data_directory"]),
    Mistake("nothing", lambda where: FileTreeStore(), TypeError, ["'data_directory'", "it takes by name: data_directory"]),
    Mistake(
        "the argument of DiskStore",
        lambda where: FileTreeStore(directory=where),
        TypeError,
        ["'directory'", "it takes by name: data_directory"],
    ),
    Mistake("None", lambda where: FileTreeStore(data_directory=None), TypeError, ["must be a str or a Path, not None"]),
    Mistake(
        "an empty path", lambda where: FileTreeStore(data_directory=""), ValueError, ["directory is an empty str", "'.'"], ["exactly one"]
    ),
    Mistake(
        "a file for the metadata",
        lambda where: put(tree(where, metadata_directory=a_file(where / "file"))),
        StoreSetupError,
        ["/file' is a file, where a directory belongs"],
    ),
    Mistake(
        "a strategy that is a class",
        lambda where: tree(where, key_sanitization_strategy=FileTreeV1KeySanitizationStrategy),
        TypeError,
        ["key_sanitization_strategy must be an object with a method sanitize", "not the class FileTreeV1KeySanitizationStrategy"],
    ),
    Mistake(
        "a strategy that is a function",
        lambda where: tree(where, collection_sanitization_strategy=str.lower),
        TypeError,
        ["collection_sanitization_strategy must be an object with a method sanitize"],
    ),
    Mistake(
        "a strategy that names nothing",
        lambda where: put(tree(where, key_sanitization_strategy=NamesNothing())),
        TypeError,
        ["NamesNothing.sanitize must return a str, not None"],
    ),
    Mistake(
        "a strategy for a directory that is missing",
        lambda where: FileTreeV1KeySanitizationStrategy(where / "new"),
        FileNotFoundError,
        ["/new"],
    ),
    Mistake(
        "a collection that is a link",
        lambda where: put(tree_with("default_collection", where, lambda path: a_link(path, where))),
        PathSecurityError,
        ["/default_collection' is a link, which is not followed", "Put the file or directory itself there"],
    ),
    Mistake(
        "an entry that is a link",
        lambda where: call(
            tree_with("default_collection/k.json", where, lambda path: a_link(path, a_file(where / "file"))), lambda kv: kv.get("k")
        ),
        PathSecurityError,
        ["/k.json' is a link, which is not followed"],
    ),
    Mistake(
        "a file where a collection belongs",
        lambda where: put(tree_with("default_collection", where, a_file)),
        StoreRefusedError,
        ["/default_collection' is a file, where a directory belongs"],
        ["writable", "full"],
    ),
    Mistake(
        "a directory where an entry belongs",
        lambda where: put(tree_with("default_collection/k.json", where, Path.mkdir)),
        StoreRefusedError,
        ["/default_collection/k.json' is a directory, where a file belongs"],
        ["writable", "full", "~drafts"],
    ),
    Mistake(
        "an entry that is no document",
        lambda where: call(
            tree_with("default_collection/k.json", where, lambda path: path.write_text("secret-text")), lambda kv: kv.get("k")
        ),
        DeserializationError,
        ["can't be read", "not a valid JSON document", "key: k"],
        secrets=["secret-text"],
    ),
]


@pytest.mark.parametrize("mistake", FILETREE, ids=lambda mistake: mistake.name)
def test_filetree(mistake: Mistake, where: Path) -> None:
    check(mistake, where)


def open_twice(where: Path) -> None:
    with BlockingKeyValue(RocksDBStore(path=where)) as kv:
        kv.put("k", {})
        put(RocksDBStore(path=where))


def over(where: Path, **options: Any) -> None:
    with closing(Rdict(str(where / "db"), Options(**options))) as db:
        put(RocksDBStore(db=db))


def closed_database(where: Path) -> Rdict:
    db = Rdict(str(where / "db"))
    db.close()
    return db


def read_only(where: Path) -> None:
    closed_database(where)
    with closing(Rdict(str(where / "db"), Options(), access_type=AccessType.read_only())) as db:
        put(RocksDBStore(db=db))


def damaged(where: Path) -> Path:
    (where / "CURRENT").write_text("damaged")
    return where


def remove_open(where: Path) -> None:
    with BlockingKeyValue(RocksDBStore(path=where / "db")) as kv:
        kv.put("k", {})
        shutil.rmtree(where / "db")
        kv.put("k", {})


ROCKSDB = [
    Mistake("neither", lambda where: RocksDBStore(), ValueError, ["exactly one of: path, db"]),
    Mistake("both", lambda where: RocksDBStore(path=where, db=Mock(Rdict)), ValueError, ["exactly one of: path, db"]),
    Mistake(
        "the argument of DiskStore", lambda where: RocksDBStore(directory=where), TypeError, ["'directory'", "it takes by name: db, path"]
    ),
    Mistake("a path for a database", lambda where: RocksDBStore(db=str(where)), TypeError, ["db must be a rocksdict.Rdict, not a str"]),
    Mistake(
        "a mode beside a database", lambda where: RocksDBStore(db=Mock(Rdict), file_mode=0o600), ValueError, ["can't be combined with db"]
    ),
    Mistake(
        "open already", open_twice, StoreSetupError, ["it is open already", "share one store, or close the other"], ["writable", "damaged"]
    ),
    Mistake("a database in raw mode", lambda where: over(where, raw_mode=True), StoreSetupError, ["raw_mode; open it without"]),
    Mistake("a closed database", lambda where: put(RocksDBStore(db=closed_database(where))), StoreSetupError, ["is closed; open it"]),
    Mistake("a database for reading only", read_only, StoreRefusedError, ["read only mode"]),
    Mistake(
        "a damaged database",
        lambda where: put(RocksDBStore(path=damaged(where))),
        StoreSetupError,
        ["not a RocksDB database, or damaged", "CURRENT"],
        ["writable", "full", "open already"],
    ),
    Mistake("removed while it is open", remove_open, StoreSetupError, ["/db'", "removed or moved while it was open", "open a new one"]),
]


@pytest.mark.parametrize("mistake", ROCKSDB, ids=lambda mistake: mistake.name)
def test_rocksdb(mistake: Mistake, where: Path) -> None:
    check(mistake, where)
