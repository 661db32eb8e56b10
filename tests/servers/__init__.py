"""Real servers for the tests, the benchmarks and people: `python -m tests.servers redis` starts one and prints its URL.

A server listens on a free port of the loopback address, keeps its data in a temporary directory, and stops with what started it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_RESERVED = 100  # ports, at most
_reserved: deque[int] = deque()


class Running(NamedTuple):
    """A running server. Whoever started it may kill its process."""

    url: str
    process: subprocess.Popen[bytes]


@dataclass
class Server:
    """A kind of server."""

    name: str
    absent: Callable[[], str | None]  # returns why it can't be started here, or None; quick, and fetches nothing
    # On a port. In a directory it keeps its data as durably as it can; with None it forgets everything at its end.
    run: Callable[[int, str | None], AbstractContextManager[Running]]
    empty: Callable[[str], None]  # removes all data
    fetch: Callable[[], object] | None = None  # downloads what no package manager of Python brings, to where `absent` looks
    may_be_given: bool = True  # one that runs already may be used, which the tests empty
    needs_directory: bool = False  # `running` gives it one in memory, where syncing costs nothing

    @property
    def variable(self) -> str:
        """The environment variable with the URL of one that runs already. The tests empty it."""
        return f"KEYVALUE_TEST_{self.name.upper().replace('-', '_')}_URL"

    @property
    def _given(self) -> str | None:
        return os.environ.get(self.variable) if self.may_be_given else None

    def missing(self) -> str | None:
        """Return why there is none to be had, or None."""
        if self._given:
            return None
        why = self.absent()
        return f"{why}, and {self.variable} is not set" if why and self.may_be_given else why

    @contextmanager
    def running(self) -> Generator[str, None, None]:
        """Yield the URL of a running one. A given one whose URL ends in the number of a database gets one for each parallel worker."""
        given = self._given
        if not given:
            memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**31 else None
            with ExitStack() as stack:
                directory = tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) if self.needs_directory else nullcontext()
                yield stack.enter_context(self.run(free_port(), stack.enter_context(directory))).url
            return
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        base, _, database = given.rpartition("/")
        yield f"{base}/{int(database) + worker}" if database.isdigit() else given


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on, and that no outgoing connection is given while nothing does.

    A socket stays bound to it for a while. That keeps this function from returning it again, here or in another process, but not a server,
    since both say that they share the address.
    """
    while True:
        port = 16384 + secrets.randbelow(16384)  # Linux gives out those from 32768 on
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            continue
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if len(_reserved) == _RESERVED:
            os.close(_reserved.popleft())
        _reserved.append(holder.detach())
        return port


@contextmanager
def process(
    command: Callable[[str], Sequence[str]],  # returns the command line for a directory
    answers: Callable[[], bool],  # says whether it is up; may raise OSError
    seconds: float = 60,  # how long to wait for that
    directory: str | None = None,  # where it keeps its data; None for one of its own, which is removed at the end
    *,
    environment: Mapping[str, str] | None = None,  # all of its environment variables; None for those of this process
    standard_input: bytes = b"",
    quiet: bool = False,  # its complaints are not shown
) -> Generator[subprocess.Popen[bytes], None, None]:
    """Run a server until the end of the block, from when it answers. One that does not is started again, once."""
    with ExitStack() as stack:
        where = directory or stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))

        def started() -> subprocess.Popen[bytes]:
            with tempfile.TemporaryFile() as text:
                text.write(standard_input)
                text.seek(0)
                errors = subprocess.DEVNULL if quiet else None
                arguments = command(where)
                running = subprocess.Popen(arguments, stdin=text, stdout=subprocess.DEVNULL, stderr=errors, cwd=where, env=environment)
            try:
                await_answer(answers, arguments, seconds, running)
            except BaseException:
                running.kill()
                running.wait()
                raise
            return running

        try:
            running = started()
        except RuntimeError:  # seen of OpenBao, once in thousands of starts
            running = started()
        try:
            yield running
        finally:
            running.terminate()
            running.wait()


def fetch_once(what: str, fetch: Callable[[Path], None] | None = None) -> Path | None:
    """Return the directory of a version of something that was downloaded once for all, by `fetch` if it is not there yet, or None.

    It lies in `KEYVALUE_TEST_CACHE`, which defaults to `keyvalue-tests` in the user's cache directory.
    """
    cache = Path(os.environ.get("KEYVALUE_TEST_CACHE") or Path("~/.cache/keyvalue-tests").expanduser())
    there = cache / what
    if there.exists() or fetch is None:
        return there if there.exists() else None
    import fcntl  # not on Windows, where there are no servers to fetch

    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers may want it at the same time
        if not there.exists():
            draft = Path(tempfile.mkdtemp(dir=cache))
            try:
                fetch(draft)
                draft.rename(there)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return there


def find_program(name: str, package: str, pattern: str) -> str | None:
    """Return the path of a program: the one on the PATH, or the file of a package that fits a pattern."""
    found = find_spec(package)
    files = [str(path) for where in (found.submodule_search_locations if found else None) or () for path in Path(where).glob(pattern)]
    return shutil.which(name) or next(iter(files), None)


def await_answer(answers: Callable[[], bool], what: object, seconds: float = 60, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until a server answers, or its process has ended."""
    deadline = time.monotonic() + seconds
    while True:
        if process is not None and process.poll() is not None:  # before it is asked: somebody else may have its port
            raise RuntimeError(f"{what} was started and ended with {process.returncode}")
        try:
            if answers():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was started and does not answer")
        time.sleep(0.01)
