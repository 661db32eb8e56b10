"""The project's checks: `python -m nox` runs those that a contributor and CI run, `python -m nox --list` tells about all."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

import nox

os.environ.pop("PYTHONPATH", None)  # it may be how nox itself was found; what is tested must not see it

SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
EXTRAS = tuple(sorted(nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]))

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "extras", "wheel"]
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
    """Types, in strict mode: basedpyright."""
    session.install("-e", ".[all]", *_groups("types", "predecessor"))
    session.run("basedpyright", *session.posargs)


@nox.session(python=INTERPRETERS)
def tests(session: nox.Session) -> None:
    """The tests, on each Python found, with coverage; on the oldest with the lowest versions of all dependencies."""
    oldest = session.python == INTERPRETERS[0]
    session.install("-e", ".[all]", *_groups("test", "predecessor"), *(["--resolution=lowest-direct"] if oldest else []))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *(session.posargs or ["-n", "auto"]), env={"KEYVALUE_TEST_EXAMPLES": "40"})
    session.run("coverage", "combine", "--quiet")
    # Only CI is sure to have all servers.
    complete = os.environ.get("CI") and not session.posargs
    session.run("coverage", "report", "--skip-covered", "--fail-under", "95" if complete else "0")
    if session.python == NEWEST and not session.posargs:
        # At their full length these take minutes: once is enough, and without coverage, which slows them down.
        session.run("pytest", "-n", "auto", "tests/test_properties.py", "tests/test_endurance.py")


@nox.session
@nox.parametrize("extra", EXTRAS)
def extras(session: nox.Session, extra: str) -> None:
    """Each extra alone: what it promises can be used, what it does not install says how to install it."""
    session.install(f".[{extra}]")
    session.run("python", "tests/extras.py", extra)


@nox.session
def wheel(session: nox.Session) -> None:
    """The built wheel and sdist: complete, and the quickstart runs from the wheel."""
    session.install("build", "twine")
    distribution = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(distribution, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(distribution))
    session.run("twine", "check", "--strict", *map(str, distribution.iterdir()))
    (built,) = distribution.glob("*.whl")
    session.install(f"keyvalue[disk] @ {built.as_uri()}", "trio")
    session.run("python", "-c", "import keyvalue, pathlib; assert pathlib.Path(keyvalue.__file__).with_name('py.typed').exists()")
    session.run("python", "examples/quickstart.py")


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """The benchmarks, side by side with the predecessor and the bare clients."""
    session.install(".[all]", *_groups("predecessor"), "trio")
    session.run("python", "benchmarks/run.py", *session.posargs)
    if not session.posargs:
        session.run("python", "benchmarks/stalls.py")
