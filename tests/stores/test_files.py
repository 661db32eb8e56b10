"""What the embedded stores on files have in common: their directory, damage, what others keep there, and what stays open."""

# pyright: reportUnknownParameterType=false, reportArgumentType=false
# diskcache has no types, and what is inferred of them is too narrow.

from __future__ import annotations

import functools
import os
import pickle
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import diskcache
import pytest
from rocksdict import Rdict

from keyvalue._core import listing
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores.disk import DiskStore, MultiDiskStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.rocksdb import RocksDBStore
from keyvalue.testing import Clock
from keyvalue.testing._runtime import Awaited, step
from keyvalue.wrappers.retry import RetryWrapper
from tests import backends
from tests.budget import scale
from tests.children import child, hold_open
from tests.interpreter import run_fresh
from tests.runtimes import Runtime
from tests.stores.files import EXPLODED, Bomb, limited, open_facade, open_files, side_files, sql
from tests.stores.hooks import assert_raised

LARGE = {"text": "secret" + os.urandom(50_000).hex()}  # diskcache puts it into a file of its own, compressed or not

SHARED = ("disk", "multi-disk", "filetree")
"""Those of which two stores can be open on the same directory."""


# The directory


KINDS: Mapping[str, tuple[Callable[..., Any], str, str]] = {
    "disk": (DiskStore, "directory", "disk_cache"),
    "multi-disk": (MultiDiskStore, "base_directory", "disk_cache_factory"),
    "filetree": (FileTreeStore, "data_directory", ""),
    "rocksdb": (RocksDBStore, "path", "db"),
}
"""The class, its directory, and what may be given instead."""


def open_client(backend: str, where: Path, **options: Any) -> closing[Any]:
    """Return what may be given instead of a directory, to be closed."""
    return closing({"disk": diskcache.Cache, "rocksdb": Rdict}[backend](str(where), **options))


@pytest.mark.backends(*KINDS)
def test_either_a_directory_or_what_is_given(backend: str, tmp_path: Path) -> None:  # H-58
    kind, directory, instead = KINDS[backend]
    client: Any = nullcontext(diskcache.Cache) if backend in ("multi-disk", "filetree") else open_client(backend, tmp_path / "given")
    with client as client:
        with pytest.raises(ValueError, match=f"{directory} is empty$" if instead else "empty str"):
            kind(**{directory: ""})
        for arguments in [{}, {directory: None}, {directory: tmp_path, instead: client}] if instead else []:
            with pytest.raises(ValueError, match=f"exactly one of: {directory}, {instead}$"):
                kind(**arguments)


@pytest.mark.backends(*KINDS)
def test_a_missing_directory_is_only_made_if_it_may_be_and_at_the_first_use(backend: str, tmp_path: Path) -> None:
    kind, directory, _ = KINDS[backend]
    where = tmp_path / "new" / "newer"
    with pytest.raises(ValueError, match="does not exist"):
        kind(**{directory: where}, auto_create=False)
    store = kind(**{directory: where})
    assert list(tmp_path.iterdir()) == []
    with BlockingKeyValue(store) as kv:
        kv.put("k", {"a": 1})
    with BlockingKeyValue(kind(**{directory: str(where)}, auto_create=False)) as kv:
        assert kv.get("k") == {"a": 1}


def paths_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.backends(*KINDS)
@pytest.mark.parametrize("path", ["~/kv", "$WHERE/kv", "kv"])
def test_a_path_is_expanded_once_and_names_never_are(backend: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, directory, _ = KINDS[backend]
    names = ["${PASSWORD}", "$UP", "%UP%", "~", "~user"]
    (tmp_path / "elsewhere").mkdir()
    for name, value in {"HOME": str(tmp_path / "there"), "WHERE": "there", "PASSWORD": "hunter2", "UP": "../outside"}.items():
        monkeypatch.setenv(name, value)
    for turn in range(2):
        monkeypatch.chdir(tmp_path)
        with BlockingKeyValue(kind(**{directory: path})) as facade:
            kv: Any = facade
            monkeypatch.chdir("elsewhere")
            for name in names if turn == 0 else ():
                kv.put("$UP", LARGE, collection=name)
            assert [kv.get("$UP", collection=name) for name in names] == [LARGE] * len(names)
            assert sorted(kv.collections()) == sorted(names)
    assert (tmp_path / ("kv" if path == "kv" else "there/kv")).is_dir()
    assert not {name for name in paths_below(tmp_path) if "hunter2" in name or "outside" in name or name.startswith("elsewhere/")}


@pytest.mark.backends(*KINDS)
def test_a_directory_of_just_that_name_is_used_as_it_is(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, directory, _ = KINDS[backend]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~" / "$HOME").mkdir(parents=True)
    with BlockingKeyValue(kind(**{directory: "~/$HOME"})) as kv:
        kv.put("k", {})
    assert any(name.startswith("~/$HOME/") for name in paths_below(tmp_path))


@pytest.mark.backends(*KINDS)
async def test_a_directory_that_can_not_be_made(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    kind, directory, _ = KINDS[backend]
    (tmp_path / "file").write_text("mine")
    said = r"/file' is a file, where a directory belongs"
    kv = runtime.adapt(kind(**{directory: tmp_path / "file" / "below"}))
    await assert_raised(StoreSetupError, said, lambda: kv.get("k"), lambda: kv.put("k", {}), kv.setup)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "file").unlink()
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


# What passes


@pytest.mark.backends(*KINDS)
async def test_without_descriptors(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    kind, directory, _ = KINDS[backend]
    kv, other = (runtime.adapt(kind(**{directory: tmp_path / name})) for name in ("open", "other"))
    (tmp_path / "other").mkdir()
    await kv.put("k", LARGE)
    await kv.setup()  # and whatever else is done once
    with limited("RLIMIT_NOFILE", 0):
        calls = [lambda: other.put("k", {})]
        if backend != "multi-disk":  # which opens nothing to read
            calls += [other.setup, lambda: other.get("k")]
        if backend != "rocksdb":  # which needs no more of them for long
            calls += [lambda: kv.put("l", LARGE), lambda: kv.get("k"), lambda: kv.keys(), lambda: kv.destroy()]
        await assert_raised(StoreConnectionError, "no file descriptors left", *calls)
    assert await kv.get_many(["k", "l"]) == [LARGE, None]
    await other.put("k", {})
    assert await other.get("k") == {}


@pytest.mark.backends("disk", "multi-disk")
@pytest.mark.parametrize("exists", [False, True])
async def test_a_database_that_is_locked_while_it_is_opened(
    backend: str, exists: bool, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, directory, _ = KINDS[backend]
    where = tmp_path / "default_collection" if backend == "multi-disk" else tmp_path
    if exists:
        async with runtime.adapt(kind(**{directory: tmp_path})) as kv:
            await kv.put("k", {"a": 1})
    else:
        where.mkdir(exist_ok=True)
        sql(where, "PRAGMA user_version = 0")
    minutes = count(0, 61)  # diskcache tries for one
    monkeypatch.setattr(diskcache.core, "time", SimpleNamespace(time=lambda: next(minutes), sleep=lambda _: None))
    kv = runtime.adapt(RetryWrapper(kind(**{directory: tmp_path}), max_retries=1, initial_delay=0.001))
    with closing(sqlite3.connect(where / "cache.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        await assert_raised(StoreConnectionError, "locked by another process", lambda: kv.get("k"), lambda: kv.put("k", {}))
    monkeypatch.undo()
    assert await kv.get("k") == ({"a": 1} if exists else None)
    await kv.put("k", {"a": 2})
    assert await kv.get("k") == {"a": 2}


# A directory that is removed or moved


LOST = r"removed or moved.*open a new one"


def assert_writes_are_refused(kv: Any) -> None:
    for call in (lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}]), lambda: kv.delete("k"), kv.destroy):
        with pytest.raises(StoreSetupError, match=LOST):
            call()


@pytest.mark.backends(*KINDS)
@pytest.mark.parametrize("how", ["removed", "moved"])
def test_what_is_put_when_the_directory_is_gone_is_kept_or_refused(backend: str, how: str, tmp_path: Path) -> None:
    where, moved = tmp_path / backend, tmp_path / "moved"
    with open_facade(backend, tmp_path) as kv:
        kv.put_many(["k", "large"], [{"a": 1}, LARGE])
        where.rename(moved) if how == "moved" else shutil.rmtree(where)
        if backend == "rocksdb":
            assert_writes_are_refused(kv)
        else:
            assert kv.get_many(["k", "large"]) == [None, None]
            assert kv.keys() == kv.collections() == []
            kv.cull()
            kv.put_many(["k", "new"], [{"a": 2}, LARGE])
            assert kv.get_many(["k", "large", "new"]) == [{"a": 2}, None, LARGE]
    with open_facade(backend, tmp_path) as kv:
        assert kv.get_many(["k", "large", "new"]) == ([None] * 3 if backend == "rocksdb" else [{"a": 2}, None, LARGE])
    if how == "moved":
        shutil.rmtree(where)
        moved.rename(where)
        with open_facade(backend, tmp_path) as kv:
            assert kv.get_many(["k", "large", "new"]) == [{"a": 1}, LARGE, None]


@pytest.mark.backends(*KINDS)
def test_what_another_program_made_in_its_place_is_used_or_left_alone(backend: str, tmp_path: Path) -> None:
    with open_facade(backend, tmp_path) as kv:
        kv.put_many(["k", "mine"], [{"theirs": False}, LARGE])
        shutil.rmtree(tmp_path / backend)
        with child(hold_open, backend, tmp_path) as (_, receiver):
            assert receiver.recv() == "open"
            if backend == "rocksdb":
                assert_writes_are_refused(kv)
            else:
                assert kv.get_many(["k", "mine"]) == [{"theirs": True}, None]
                kv.put("new", LARGE)
            kv.close()
    # RocksDB's lock on the old directory is held to the end of the process.
    shutil.copytree(tmp_path / backend, tmp_path / "copy" / backend)
    with open_facade(backend, tmp_path / "copy") as kv:
        assert kv.get_many(["k", "mine", "new"]) == [{"theirs": True}, None, None if backend == "rocksdb" else LARGE]


@pytest.mark.backends(*KINDS)
def test_a_removed_directory_is_only_made_again_if_it_may_be(backend: str, tmp_path: Path) -> None:
    kind, directory, _ = KINDS[backend]
    where = tmp_path / "there"
    where.mkdir()
    with BlockingKeyValue(kind(**{directory: where}, auto_create=False)) as kv:
        kv.put("k", {})
        shutil.rmtree(where)
        for call in (lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}])):
            with pytest.raises(StoreSetupError, match=r"removed or moved.*put it back"):
                call()
        assert not where.exists()
        if backend != "rocksdb":
            where.mkdir()
            kv.put("k", {"a": 1})
            assert kv.get("k") == {"a": 1}


# Modes


on_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


@contextmanager
def umask(mask: int) -> Generator[None, None, None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes_below(directory: Path) -> tuple[set[str], set[str]]:
    """Return the modes of the files and of the directories, with a directory itself."""
    paths = [directory, *directory.rglob("*")]
    files, directories = [path for path in paths if path.is_file()], [path for path in paths if path.is_dir()]
    assert files
    return {oct(path.stat().st_mode & 0o7777) for path in files}, {oct(path.stat().st_mode & 0o7777) for path in directories}


@on_posix
@pytest.mark.backends(*KINDS)
@pytest.mark.parametrize("mask", [0, 0o077], ids=oct)
@pytest.mark.parametrize(
    ("file_mode", "files", "directories"), [(None, "0o600", "0o700"), (0o640, "0o640", "0o750"), (0o660, "0o660", "0o770")]
)
def test_what_a_store_creates_has_its_mode_whatever_the_umask(
    backend: str, mask: int, file_mode: int | None, files: str, directories: str, tmp_path: Path
) -> None:
    kind, directory, _ = KINDS[backend]
    with umask(mask), BlockingKeyValue(kind(**{directory: tmp_path / "new" / "newer"}, file_mode=file_mode)) as kv:
        kv.put_many(["small", "large"], [{}, LARGE], collection="c")
        found = modes_below(tmp_path / "new")
    assert found[1] == {directories}
    if backend != "rocksdb":  # it makes its files itself
        assert found[0] == {files}


@on_posix
@pytest.mark.backends(*KINDS)
def test_what_exists_keeps_its_mode(backend: str, tmp_path: Path) -> None:
    kind, directory, _ = KINDS[backend]
    tmp_path.chmod(0o2775)
    with umask(0):
        with BlockingKeyValue(kind(**{directory: tmp_path})) as kv:
            kv.put("large", LARGE)
        assert oct(tmp_path.stat().st_mode & 0o7777) == "0o2775"
        if backend != "rocksdb":
            assert modes_below(tmp_path)[0] == {"0o600"}
        with BlockingKeyValue(kind(**{directory: tmp_path / "shared"}, file_mode=0o660)) as kv:
            kv.put("large", LARGE)
        assert modes_below(tmp_path / "shared")[1] == {"0o2770"}  # with the bit that hands on the group
        with BlockingKeyValue(kind(**{directory: tmp_path / "shared"})) as kv:
            kv.put("other", LARGE)
        assert modes_below(tmp_path / "shared")[1] == {"0o2770"}
        if backend in ("disk", "multi-disk"):  # beside a database, files have its mode
            assert modes_below(tmp_path / "shared")[0] == {"0o660"}


@pytest.mark.filterwarnings("ignore:.*file_mode should be:UserWarning")
@pytest.mark.backends(*KINDS)
def test_modes_that_can_not_be(backend: str, tmp_path: Path) -> None:
    kind, directory, instead = KINDS[backend]
    for mode in (True, False, -1, 0, 640, 0o400, 0o066, 0o700, 0o755, 0o4600, 0o1600, 0o100600):
        with pytest.raises(ValueError, match=r"owner.*in octal"):
            kind(**{directory: tmp_path / "new"}, file_mode=mode)
    for other in ("0o640", 416.0):
        with pytest.raises(TypeError, match=r"file_mode must be an int such as 0o640"):
            kind(**{directory: tmp_path / "new"}, file_mode=other)
    assert list(tmp_path.iterdir()) == []
    if instead:
        client: Any = nullcontext(diskcache.Cache) if backend == "multi-disk" else open_client(backend, tmp_path / "given")
        with client as client, pytest.raises(ValueError, match=f"file_mode can't be combined with {instead}"):
            kind(**{instead: client}, file_mode=0o640)


# A locale that is not UTF-8


NAMES = ["\xe9", "\u65e5\u672c", "x/\xe9", "\U0001f600" * 70]
IN_ANOTHER_LOCALE = """
import os, sys
from pathlib import Path
from keyvalue.blocking import BlockingKeyValue
from tests.makers import MAKERS

backend, where, names = {backend!a}, {where!a}, {names!a}
assert sys.getfilesystemencoding() != "utf-8"
os.chdir(os.fsdecode(where.encode()))
with BlockingKeyValue(MAKERS[backend](Path("."), "")) as kv:
    assert sorted(kv.collections()) == sorted(names), ascii(kv.collections())
    for name in names:
        assert kv.get_many(names, collection=name) == [{{"n": 1}}] * len(names)
        assert sorted(kv.keys(name)) == sorted(names)
        kv.put_many(names, [{{"n": 2}}] * len(names), collection=name)
        kv.put("new" + name, {{"n": 2}}, collection="new" + name)
try:
    MAKERS[backend](Path(where), "")
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="the names of files are always UTF-8")
@pytest.mark.backends(*KINDS)
def test_names_mean_the_same_files_in_a_locale_that_is_not_utf_8(backend: str, tmp_path: Path) -> None:
    where = tmp_path / "\xe9"
    with open_facade(backend, where) as kv:
        for name in NAMES:
            kv.put_many(NAMES, [{"n": 1}] * len(NAMES), collection=name)
    before = paths_below(where)
    program = IN_ANOTHER_LOCALE.format(backend=backend, where=str(where), names=NAMES)
    said = run_fresh(program, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "can't be encoded as ascii" in said
    assert "PYTHONUTF8=1" in said
    assert backend == "rocksdb" or {path for path in before if not path.startswith("~drafts")} <= paths_below(where)
    with open_facade(backend, where) as kv:
        for name in NAMES:
            assert kv.get_many(NAMES, collection=name) == [{"n": 2}] * len(NAMES)
            assert kv.keys("new" + name) == ["new" + name]
        assert sorted(kv.collections()) == sorted([*NAMES, *("new" + name for name in NAMES)])


@pytest.mark.skipif(sys.platform != "linux", reason="the file system takes no such name")
@pytest.mark.backends(*KINDS)
async def test_a_path_that_is_not_utf_8(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    kind, directory, _ = KINDS[backend]
    kv = runtime.adapt(kind(**{directory: tmp_path / "\udcff"}))
    if backend == "rocksdb":
        with pytest.raises(StoreSetupError, match="only takes paths in UTF-8"):
            await kv.put("k", {})
        return
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    with pytest.raises(ValueError, match=r"can't be encoded as utf-8, the encoding of file names here$"):
        kind(**{directory: tmp_path / "\ud800"})


# Damage


PICKLE = pickle.dumps(Bomb())


@dataclass
class Place:
    """A store, and how to get at its rows behind its back."""

    kv: Any  # a façade over it
    directory: Path  # what it keeps its rows in; the collection's, of a MultiDiskStore
    row: Any = "c::bad"  # the name of the row of "bad" in "c"
    client: Any = None  # what was given to it

    def set_row(self, mode: int, value: object, filename: str | None = None) -> None:
        sql(self.directory, "UPDATE Cache SET mode = ?, value = ?, filename = ? WHERE key = ?", mode, value, filename, self.row)

    @property
    def side_file(self) -> Path:
        """The side file of the one large entry."""
        return next(path for path in side_files(self.directory) if path.is_file())

    def unpickle_side_file(self) -> None:
        self.side_file.write_bytes(PICKLE)
        self.set_row(4, None, str(self.side_file.relative_to(self.directory)))


@contextmanager
def open_place(kind: str, where: Path) -> Generator[Place, None, None]:
    backend, _, disk = kind.partition(" of ")
    if backend in ("multi-disk", "filetree"):
        with open_facade(backend, where) as kv:
            yield Place(kv, where / backend / "c", "bad")
    elif kind == "disk":
        with open_facade(backend, where) as kv:
            yield Place(kv, where / "disk")
    else:
        options = {"disk": getattr(diskcache, disk)} if disk else {}
        with open_client(backend, where, **options) as client:
            store = RocksDBStore(db=client) if backend == "rocksdb" else DiskStore(disk_cache=client)
            row = client.disk.put("c::bad")[0] if backend == "disk" else "c::bad"
            with BlockingKeyValue(store) as kv:
                yield Place(kv, where, row, client)


Harm = Callable[[Place], object]


def rows(*damages: tuple[int, object]) -> dict[str, Harm]:
    return {f"{mode} {value!r}": functools.partial(Place.set_row, mode=mode, value=value) for mode, value in damages}


def turn_into_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def turn_into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


IN_SIDE_FILES: dict[str, Harm] = {
    "side file cut": lambda place: os.truncate(place.side_file, 40_000),
    "side file emptied": lambda place: os.truncate(place.side_file, 0),
    "side file removed": lambda place: place.side_file.unlink(),
    "side file a directory": lambda place: turn_into_directory(place.side_file),
    "side file no text": lambda place: place.side_file.write_bytes(b"\xff" * 40_000),
    "side file a pickle": Place.unpickle_side_file,
}


def file(harm: Callable[[Path], object]) -> Harm:
    return lambda place: harm(place.directory / "bad.json")


def document(value: object) -> Harm:
    return lambda place: place.client.__setitem__(place.row, value)


OTHERS = [7, 7.5, True, 2**80, "secret-text", b"secret-text", b"\xff", b"", b"{}", b"[]", ["secret-text"], None, Bomb()]
BAD_TEXT = "UPDATE Cache SET mode = 1, value = CAST(x'ff' AS TEXT), filename = NULL WHERE key = 'c::bad'"
# The modes are diskcache's: 1 raw, 2 bytes in a file, 3 text in a file, 4 a pickle.
DAMAGES: Mapping[str, Mapping[str, Harm]] = {
    "disk": {
        **rows((1, "secret-text"), (1, '{"secret-text": 1}'), (1, "[]"), (1, '{"version":1,"value":{"a":"secret-text'), (1, 7), (1, 7.5)),
        **rows((1, None), (0, "{}"), (9, "{}"), (3, None), (1, b"\xff"), (4, PICKLE)),
        "text that is no text": lambda place: sql(place.directory, BAD_TEXT),
        **IN_SIDE_FILES,
    },
    "disk of Disk": rows((4, PICKLE)) | IN_SIDE_FILES,
    "disk of JSONDisk": rows((1, b"\xff"), (1, b"x\x9c"), (1, "text"), (1, 7), (1, None), (4, PICKLE)) | IN_SIDE_FILES,
    "multi-disk": rows((1, "secret-text"), (4, PICKLE)) | IN_SIDE_FILES,
    "filetree": {
        "a text": file(lambda path: path.write_text("a text")),
        "emptied": file(lambda path: path.write_bytes(b"")),
        "cut": file(lambda path: path.write_bytes(path.read_bytes()[:-9])),
        "a pickle": file(lambda path: path.write_bytes(PICKLE)),
        "a directory": file(turn_into_directory),
        "a pipe": file(turn_into_pipe),
    },
    "rocksdb": {repr(other)[:30]: document(other) for other in OTHERS},
}


@pytest.mark.parametrize(
    ("kind", "harm"), [pytest.param(kind, harm, id=f"{kind}-{name}") for kind, harms in DAMAGES.items() for name, harm in harms.items()]
)
def test_what_is_damaged_is_an_error_for_its_own_key_alone_and_never_unpickled(kind: str, harm: Harm, tmp_path: Path) -> None:  # H-37, H-42
    with open_place(kind, tmp_path) as there:
        kv = there.kv

        def damage() -> None:
            kv.put("bad", LARGE, collection="c", ttl=100)
            harm(there)

        def assert_unreadable() -> None:
            for call, keys in ((kv.get, "bad"), (kv.ttl, "bad"), (kv.get_many, ["good", "bad"]), (kv.ttl_many, ["bad", "no"])):
                with pytest.raises(DeserializationError, match="overwrite") as caught:
                    call(keys, collection="c")
                assert caught.value.extra_info == {"collection": "c", "key": "bad"}
                assert "secret" not in str(caught.value)

        kv.put("good", {"a": 1}, collection="c", ttl=100)
        damage()
        assert_unreadable()
        assert kv.get("good", collection="c") == {"a": 1}
        assert kv.keys("c") == ["good"]
        assert kv.collections() == ["c"]
        kv.cull()
        assert kv.destroy() is True
        assert_unreadable()
        if kind == "filetree" and (there.directory / "bad.json").is_dir():
            with pytest.raises(StoreRefusedError):
                kv.put("bad", {"a": 2}, collection="c")
            return
        kv.put("bad", {"a": 2}, collection="c")
        assert kv.get("bad", collection="c") == {"a": 2}
        damage()
        kv.put_many(["bad", "good"], [{"a": 3}, {"a": 4}], collection="c")
        assert kv.get_many(["bad", "good"], collection="c") == [{"a": 3}, {"a": 4}]
        damage()
        assert kv.delete("bad", collection="c") is True
        assert kv.get("bad", collection="c") is None
        assert kv.get("good", collection="c") == {"a": 4}
    assert EXPLODED == []


# What others keep there

UNNAMED, ELSEWHERE = '{"value":{}}', '{"version":1,"collection":"c","key":"elsewhere","value":{}}'
THEIRS: dict[Any, Any] = {1: "a", 2.5: "b", "text": "c", "c::k2": "no document", "c::k3": UNNAMED, "c::k4": ELSEWHERE}
MORE: Mapping[str, dict[Any, Any]] = {
    "disk of Disk": {"text::": b"x", b"c::bytes": b"d", ("c", "pickled"): "e", "big": "f" * 50_000},
    "rocksdb": {False: "c", b"c::bytes": b"{}", b"\xff": b"{}", "c::k5": 5, "\U0010ffff": b"e", "c::k6": ELSEWHERE.encode()},
}


@pytest.mark.parametrize("kind", MORE)
def test_rows_of_others_are_not_listed_and_survive(kind: str, tmp_path: Path) -> None:  # H-27
    theirs = THEIRS | MORE[kind]
    with open_place(kind, tmp_path) as there:
        kv, client = there.kv, there.client
        for key, value in {**theirs, "bomb": Bomb()}.items():
            client[key] = value
        kv.put_many(["k", "l"], [{}, {}], collection="c")
        kv.put("k", {}, collection="\U0010ffff")
        assert sorted(kv.keys("c")) == ["k", "l"]
        assert sorted(kv.collections()) == ["c", "\U0010ffff"]
        kv.cull()
        assert kv.destroy_collection("c") is True
        kv.put("k", {}, collection="c::d")
        assert kv.destroy() is True
        assert set(client.keys() if kind == "rocksdb" else client) == {*theirs, "bomb"}
        assert {key: client[key] for key in theirs} == theirs
    assert EXPLODED == []


# Many pages


@pytest.mark.backends(*backends.FILES)
def test_culling_goes_through_all_pages(backend: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:  # H-23b
    monkeypatch.setattr(listing, "PAGE", 2)
    with open_facade(backend, tmp_path) as kv:
        kv.put_many([f"k{number}" for number in range(9)], [LARGE] * 9, ttl=5)
        kv.put_many(["k", "l"], [{}, {}], collection="a::b", ttl=5)
        kv.put("stays", {}, ttl=6)
        clock.advance(5)
        kv.cull()
        clock.advance(-5)  # what was merely hidden would come back
        assert kv.keys() == ["stays"]
        assert kv.collections() == ["default_collection"]
    assert side_files(tmp_path) == []


# Several stores, threads and loops


@pytest.mark.backends(*SHARED)
def test_two_stores_on_one_directory_see_each_others_writes(backend: str, tmp_path: Path) -> None:
    with open_facade(backend, tmp_path) as one, open_facade(backend, tmp_path) as other:
        for number in range(5):
            one.put("k", {"n": number}, ttl=100)
            value, left = other.ttl("k")
            assert value == {"n": number}
            assert left is not None
            assert left > 0
            other.put(f"l{number}", LARGE)
            assert one.get(f"l{number}") == LARGE
        assert other.delete("k") is True
        assert one.get("k") is None
        assert one.delete("k") is False
        assert sorted(one.keys()) == sorted(other.keys()) == [f"l{number}" for number in range(5)]
        assert one.destroy() is True
        assert other.keys() == []


@pytest.mark.backends(*SHARED)
@pytest.mark.parametrize("bulk", [False, True])
def test_what_another_store_overwrites_can_be_read_and_is_whole(backend: str, tmp_path: Path, bulk: bool) -> None:
    with open_facade(backend, tmp_path) as reader, open_facade(backend, tmp_path) as writer, ThreadPoolExecutor(1) as pool:
        writer.put_many(["k", "l"], [LARGE, LARGE])
        stop = threading.Event()

        def write() -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                value = {"turn": turn, "text": f"{turn:06}" * 10_000}
                if bulk:
                    writer.put_many(["k", "l"], [value, value])
                else:
                    writer.put("k", value)

        writing = pool.submit(write)
        try:
            for _ in range(scale(300, 1000)):
                value = reader.get("k")
                assert value == LARGE or value["text"] == f"{value['turn']:06}" * 10_000
                assert sorted(reader.keys()) == ["k", "l"]
        finally:
            stop.set()
        writing.result()
    assert len(side_files(tmp_path)) == (0 if backend == "filetree" else 2)


@pytest.mark.backends(*backends.FILES)
def test_one_store_in_many_threads_and_loops_at_once_leaves_nothing_open(backend: str, tmp_path: Path) -> None:
    store: Any = backends.MAKERS[backend](tmp_path, "")
    facade: Any = BlockingKeyValue(store)
    barrier = threading.Barrier(9)

    async def work(kv: Any, number: int) -> None:
        for turn in range(5):
            await kv.put(f"k{number}", {**LARGE, "turn": turn})
            assert await kv.get(f"k{number}") == {**LARGE, "turn": turn}
            await kv.put_many(["a", "b"], [{"n": 1}, {"n": 2}], collection=f"c{turn}")
            assert await kv.get_many(["a", "b"], collection=f"c{turn}") == [{"n": 1}, {"n": 2}]

    def run(number: int) -> None:
        barrier.wait()
        if number % 3 == 2:
            step(work(Awaited(facade), number))
        else:
            anyio.run(work, store, number, backend=("asyncio", "trio")[number % 3])

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(run, range(9)))
    assert sorted(facade.keys()) == [f"k{number}" for number in range(9)]
    assert sorted(facade.collections()) == ["c0", "c1", "c2", "c3", "c4", "default_collection"]
    if backend == "disk":
        assert [path for path in open_files(tmp_path) if path.endswith("cache.db")] == [str(tmp_path / "disk" / "cache.db")]
    facade.close()
    assert open_files(tmp_path) == []
