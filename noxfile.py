"""The project's checks: `python -m nox` runs those that a contributor and CI run, `python -m nox --list` tells about all."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import nox

os.environ.pop("PYTHONPATH", None)  # it may be how nox itself was found; what is tested must not see it

SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
EXTRAS = tuple(sorted(nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]))
ALL = tuple(extra for extra in EXTRAS if extra not in ("all", "testing"))  # what `all` has, by one name or another
CONTRACTS = ["tests/stores/test_contract.py", "tests/stores/test_backends.py"]
STORES = ("contract", "memory", "simple", "files", "disk", "multi_disk", "filetree", "rocksdb")
WITHOUT_SERVERS = ["tests/core", *(f"tests/stores/test_{name}.py" for name in STORES)]

T = TypeVar("T")


def _interpreters() -> list[str]:
    """Return the supported versions of Python that this machine has, on the PATH or of pyenv, and put the latter on the PATH."""
    found: list[str] = []
    for version in SUPPORTED:
        pyenv = sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin")))
        if pyenv:
            os.environ["PATH"] = os.pathsep.join([pyenv[-1], os.environ["PATH"]])
        if shutil.which(f"python{version}"):
            found.append(version)
    return found


INTERPRETERS = _interpreters()
OLDEST, NEWEST = INTERPRETERS[0], INTERPRETERS[-1]
TESTED = sorted({OLDEST, INTERPRETERS[len(INTERPRETERS) // 2], NEWEST}, key=INTERPRETERS.index)
"""The Pythons that are tested if none is asked for: all on the newest, the contracts on the oldest, what needs no server on one between."""

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", *(f"tests-{python}" for python in TESTED), "interop", "extras", "wheel", "docs"]
nox.options.error_on_external_run = True


def _groups(*names: str) -> list[str]:
    return list(nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *names))


def _run_concurrently(function: Callable[[T], object], items: Iterable[T]) -> None:
    """Call a function of each item, two at a time; most tools here use one core."""
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(function, items):  # which raises what a call raised
            pass


def _ruff(session: nox.Session) -> None:
    session.run("ruff", "check")
    session.run("ruff", "format", "--check", "--diff")


def _pytest(session: nox.Session, *arguments: str, runner: Iterable[str] = ("python", "-m"), without: str = "", **environment: str) -> None:
    """Run tests in parallel; `without` names backends to leave out, besides those that the caller's environment names."""
    without = f"{os.environ.get('KEYVALUE_TEST_WITHOUT', '')} {without}"
    command = [*runner, "pytest", "-n", "auto", *arguments]
    session.run(*command, env={"KEYVALUE_TEST_WITHOUT": without, **environment})


@nox.session(python=NEWEST)
def quick(session: nox.Session) -> None:
    """What to run while you work, in under a minute: ruff, the core, and the embedded stores. Needs nothing that pip can't install."""
    session.install("-e", ".[disk,filetree,memory,rocksdb]", *_groups("lint", "harness"), "pytest-xdist>=3.6")
    _ruff(session)
    _pytest(session, *(session.posargs or WITHOUT_SERVERS), without="wrappers servers")


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff."""
    session.install(*_groups("lint"))
    _ruff(session)


@nox.session(python=NEWEST)
def types(session: nox.Session) -> None:
    """Types: basedpyright and mypy, both strict, the latter on what callers see; and that the whole public API is annotated."""
    session.install("-e", ".[all]", *_groups("types", "predecessor"))
    session.run("python", "-m", "tests.programs", "build/programs")  # which both check
    # An environment of the contributor's own, `.venv`, may lack some of what is checked.
    check = ["basedpyright", "--pythonpath", str(Path(session.bin, "python"))]
    commands = [
        [*check, *session.posargs],
        ["mypy", "tests/typing", "build/programs"],
        ["basedpyright", "--verifytypes", "keyvalue", "--ignoreexternal"],
    ]
    _run_concurrently(lambda command: session.run(*command), commands[:1] if session.posargs else commands)


@nox.session(python=INTERPRETERS)
def tests(session: nox.Session) -> None:
    """The tests: all on the newest Python, with coverage; the contracts on the oldest, with the lowest versions; the quick set else."""
    oldest = session.python == OLDEST != NEWEST
    session.install("-e", ".[all]", *_groups("test", "predecessor"), *(["--resolution=lowest-direct"] if oldest else []))
    if os.environ.get("CI"):
        session.run("python", "-m", "tests.servers")  # downloads what is not there yet
    if session.posargs:
        session.run("pytest", *session.posargs)
    elif session.python == NEWEST:
        session.run("coverage", "erase")
        # By lines: counting branches takes twice as long on Pythons before 3.14.
        _pytest(session, runner=("coverage", "run", "-m"), COVERAGE_CORE="sysmon")
        session.run("coverage", "combine", "--quiet")
        # Only CI is sure to have all servers.
        session.run("coverage", "report", "--skip-covered", "--fail-under", "95" if os.environ.get("CI") else "0")
    elif oldest:  # the package with the server of Valkey is for later ones
        _pytest(session, *CONTRACTS, "-k", "not trio and not portal", without="redis-cluster valkey valkey-cluster mongodb-replicaset")
    else:
        _pytest(session, *WITHOUT_SERVERS, without="wrappers servers")


@nox.session(python=NEWEST)
def long(session: nox.Session) -> None:
    """Everything at full length on the newest Python: hundreds of kills, property tests with all their examples."""
    session.install("-e", ".[all]", *_groups("test", "predecessor"))
    if os.environ.get("CI"):
        session.run("python", "-m", "tests.servers")
    _pytest(session, *session.posargs, KEYVALUE_TEST_LONG="1")


@nox.session(python=NEWEST)
def interop(session: nox.Session) -> None:
    """What uses such stores, for real: FastMCP, pydocket, Litestar, Starlette, requests-cache, and the predecessor's protocols."""
    session.install("-e", ".[all]", *_groups("test", "predecessor", "interop"))
    session.run("pytest", *(session.posargs or ["-n", "auto", "tests/interop"]))


def _build(session: nox.Session) -> Path:
    """Build the sdist, and from it the wheel, and return the directory that holds the two."""
    distribution = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(distribution, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(distribution))
    return distribution


@nox.session
def extras(session: nox.Session) -> None:
    """The built wheel with each extra alone, at the highest versions, and with all of them at the lowest: what they promise can be used."""
    (built,) = _build(session).glob("*.whl")
    project = nox.project.load_toml("pyproject.toml")["project"]
    required, optional = project["dependencies"], project["optional-dependencies"]
    program, temporary = Path("tests", "extras.py").resolve(), Path(session.create_tmp()).resolve()
    session.install("uv")

    def check(case: tuple[str, str]) -> None:
        extra, resolution = case
        environment = temporary / f"{extra or 'none'}-{resolution}"
        shutil.rmtree(environment, ignore_errors=True)
        # What is lowest has wheels for the oldest Python only.
        session.run("uv", "venv", "--quiet", "--python", OLDEST if resolution == "lowest-direct" else NEWEST, str(environment))
        inside = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
        named = ALL if extra == "all" else [extra] if extra else []
        direct = [*required, *(one for name in named for one in optional[name])]
        wanted = [f"keyvalue[{extra}] @ {built.as_uri()}", *direct]  # what the wheel asks for would not be direct by itself
        session.run("uv", "pip", "install", "--quiet", "--python", inside, f"--resolution={resolution}", *wanted)
        session.run(inside, "-I", str(program), extra, external=True)

    _run_concurrently(check, [*((extra, "highest") for extra in session.posargs or ["", *EXTRAS]), ("all", "lowest-direct")])


@nox.session
def wheel(session: nox.Session) -> None:
    """The built sdist, and the wheel that is built from it: complete; the quickstart and the tests of memory run from the wheel."""
    distribution = _build(session)
    session.install("twine")
    session.run("twine", "check", "--strict", *map(str, distribution.iterdir()))
    (built,) = distribution.glob("*.whl")
    (source,) = distribution.glob("*.tar.gz")
    session.run("python", "tests/distribution.py", str(built), str(source))
    session.install(f"keyvalue[disk] @ {built.as_uri()}", "trio")
    quickstart = Path("examples", "quickstart.py").resolve()
    with session.chdir(session.create_tmp()):
        session.run("python", "-I", str(quickstart))
    session.install(f"keyvalue[testing] @ {built.as_uri()}")
    session.run("python", "-c", "import keyvalue; assert 'site-packages' in keyvalue.__file__, keyvalue.__file__")
    session.run("pytest", "tests/stores/test_memory.py")


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """The site, built strictly: every link leads somewhere, every exported name is in the reference. `-- serve` shows it."""
    session.install("-e", ".[all,testing]", *_groups("docs"))  # all that has a page in the reference must import
    environment = {"NO_MKDOCS_2_WARNING": "1"}
    if session.posargs:
        session.run("mkdocs", *session.posargs, env=environment)
        return
    # Not --quiet: that hides warnings from --strict too.
    session.run("mkdocs", "build", "--strict", env=environment)
    session.run("python", "-m", "tests.site", "site")


@nox.session(python=NEWEST)
def wine(session: nox.Session) -> None:
    """WindowsRegistryStore on the real winreg: its tests, the contract and the predecessor on Python for Windows, under Wine."""
    session.install("uv")
    session.run("python", "-m", "tests.wine", *session.posargs)


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """The benchmarks, side by side with the predecessor and the bare clients."""
    session.install(".[all]", *_groups("predecessor", "test"))
    session.run("python", "benchmarks/run.py", *session.posargs)
    if not session.posargs:
        session.run("python", "benchmarks/wrappers.py")
        session.run("python", "benchmarks/stalls.py")
