"""The project's checks: `python -m nox` runs those that a contributor and CI run, `python -m nox --list` tells about all."""

from __future__ import annotations

import glob
import json
import os
import shutil
from pathlib import Path

import nox

os.environ.pop("PYTHONPATH", None)  # it may be how nox itself was found; what is tested must not see it

SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
EXTRAS = tuple(sorted(nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]))
ALL = tuple(extra for extra in EXTRAS if extra not in ("all", "testing"))  # what `all` has, by one name or another

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "interop", "extras", "wheel", "docs"]
nox.options.error_on_external_run = True


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


CLUSTERS = "redis-cluster valkey-cluster mongodb-replicaset"
SERVERS = "redis valkey memcached mongodb dynamodb elasticsearch keyring vault"
BETWEEN = [
    "tests/core",
    "tests/wrappers/test_wrappers.py",
    "tests/adapters",
    *(f"tests/stores/test_{name}.py" for name in ("contract", "disk", "rocksdb")),
]
STORES = ["tests/legacy/test_predecessor.py", *(f"tests/stores/test_{name}.py" for name in SERVERS.split() if name != "valkey")]
LONG = (
    "tests/stores/test_properties.py",
    "tests/stores/test_endurance.py",
)  # with as many examples as they have, minutes: on the newest Python only
# In worker threads, which trio and the portal need, the clients are the same ones.
WITHOUT_THREADS = "(not test_contract or asyncio or direct) and not (trio and (mongodb or dynamodb or elasticsearch or keyring or vault))"
INTERPRETERS = _interpreters()
NEWEST = INTERPRETERS[-1]


def _groups(*names: str) -> list[str]:
    return list(nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *names))


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff."""
    session.install(*_groups("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check", "--diff")


@nox.session(python=NEWEST)
def types(session: nox.Session) -> None:
    """Types, in strict mode: basedpyright, also that the public API is annotated throughout; and mypy on the types that callers see."""
    session.install("-e", ".[all]", *_groups("types", "predecessor"))
    # An environment of the contributor's own, `.venv`, may lack some of what is checked.
    session.run("basedpyright", "--pythonpath", str(Path(session.bin, "python")), *session.posargs)
    session.run("mypy", "tests/typing")
    if not session.posargs:
        programs = Path(session.create_tmp(), "programs")
        shutil.rmtree(programs, ignore_errors=True)
        session.run("python", "-m", "tests.programs", str(programs))
        # In standard mode, as readers do; a façade's optional methods come with what it stands before, which types don't say.
        settings = {"typeCheckingMode": "standard", "reportAttributeAccessIssue": False}
        (programs / "pyrightconfig.json").write_text(json.dumps(settings))
        session.run("basedpyright", "--project", str(programs), "--pythonpath", str(Path(session.bin, "python")))
        session.run("basedpyright", "--verifytypes", "keyvalue", "--ignoreexternal")


@nox.session(python=INTERPRETERS)
def tests(session: nox.Session) -> None:
    """The tests: all on the newest Python found, with coverage; on the oldest with the lowest versions of all dependencies."""
    oldest = session.python == INTERPRETERS[0]
    session.install("-e", ".[all]", *_groups("test", "predecessor"), *(["--resolution=lowest-direct"] if oldest else []))
    environment = {"KEYVALUE_TEST_EXAMPLES": "20"}
    what = session.posargs or ["-n", "auto"]
    if session.python not in (INTERPRETERS[0], NEWEST):  # what is left out, no Python between the two is likely to break alone
        environment["KEYVALUE_TEST_WITHOUT"] = f"wrappers {CLUSTERS} {SERVERS}"
        what = session.posargs or [*what, *BETWEEN]
    elif session.python != NEWEST:  # the package with the server of Valkey is for later ones
        environment["KEYVALUE_TEST_WITHOUT"] = f"wrappers {CLUSTERS} valkey"
        what = session.posargs or [*what, *BETWEEN, *STORES, "-k", WITHOUT_THREADS]
    if os.environ.get("CI"):
        session.run("python", "-m", "tests.servers")  # downloads what is not there yet
    if session.python != NEWEST or session.posargs:
        session.run("pytest", *what, env=environment)
        return
    session.run("coverage", "erase")
    # By lines: counting branches takes twice as long on Pythons before 3.14.
    short = [*what, *(f"--ignore={path}" for path in LONG)]
    session.run("coverage", "run", "-m", "pytest", *short, env={**environment, "COVERAGE_CORE": "sysmon"})
    session.run("coverage", "combine", "--quiet")
    # Only CI is sure to have all servers.
    session.run("coverage", "report", "--skip-covered", "--fail-under", "95" if os.environ.get("CI") else "0")
    session.run("pytest", *what, *LONG)  # uncounted: these would take three times as long


@nox.session(python=NEWEST)
def interop(session: nox.Session) -> None:
    """What uses such stores, for real: FastMCP, pydocket, Litestar, Starlette, requests-cache, and the predecessor's protocols."""
    session.install("-e", ".[all]", *_groups("test", "predecessor", "interop"))
    session.run("pytest", *(session.posargs or ["-n", "auto", "tests/interop"]))


def _built(session: nox.Session) -> Path:
    """Build the sdist, and from it the wheel, and return the directory that holds the two."""
    distribution = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(distribution, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(distribution))
    return distribution


@nox.session
@nox.parametrize("resolution", ["highest", "lowest-direct"])
def extras(session: nox.Session, resolution: str) -> None:
    """The built wheel with each extra alone, at the highest and the lowest versions of all it needs: what it promises can be used."""
    (built,) = _built(session).glob("*.whl")
    project = nox.project.load_toml("pyproject.toml")["project"]
    lowest = resolution == "lowest-direct"
    python = INTERPRETERS[0] if lowest else NEWEST  # what is lowest has wheels for the oldest Python only
    program = Path("tests", "extras.py").resolve()
    session.install("uv")
    for extra in session.posargs or ["", *EXTRAS]:
        environment = Path(session.create_tmp()).resolve() / "extra"
        shutil.rmtree(environment, ignore_errors=True)
        session.run("uv", "venv", "--quiet", "--python", python, str(environment))
        inside = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
        named = ALL if extra == "all" else [extra] if extra else []
        direct = [*project["dependencies"], *(one for name in named for one in project["optional-dependencies"][name])]
        wanted = [f"keyvalue[{extra}] @ {built.as_uri()}", *direct]  # what the wheel asks for would not be direct by itself
        session.run("uv", "pip", "install", "--quiet", "--python", inside, f"--resolution={resolution}", *wanted)
        with session.chdir(environment):  # so that the tree is not what is imported
            session.run(inside, "-I", str(program), extra, external=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """The built sdist, and the wheel that is built from it: complete; the quickstart and the contract run from the wheel."""
    distribution = _built(session)
    session.install("twine")
    session.run("twine", "check", "--strict", *map(str, distribution.iterdir()))
    (built,) = distribution.glob("*.whl")
    (source,) = distribution.glob("*.tar.gz")
    session.run("python", "tests/distribution.py", str(built), str(source))
    session.install(f"keyvalue[disk] @ {built.as_uri()}", "trio")
    quickstart = Path("examples", "quickstart.py").resolve()
    with session.chdir(session.create_tmp()):
        session.run("python", "-I", str(quickstart))
    session.install(f"keyvalue[all] @ {built.as_uri()}", *_groups("test"))
    session.run("python", "-c", "import keyvalue; assert 'site-packages' in keyvalue.__file__, keyvalue.__file__")
    environment = {"KEYVALUE_TEST_WITHOUT": f"wrappers {CLUSTERS} {SERVERS}"}  # what servers answer does not depend on the packaging
    session.run("pytest", "-n", "auto", "tests/stores/test_contract.py", "-k", "asyncio or direct", env=environment)


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
