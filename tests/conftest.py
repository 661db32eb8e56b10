from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyvalue._core import clock as clock_module
from tests import backends, runtimes
from tests.servers import case_insensitive
from tests.servers import redis as redis_server

CI = os.environ.get("CI", "").lower() in ("1", "true")


class Clock:
    """The clock that all stores ask, moved by hand."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._real = clock_module.now

    def now(self) -> float:
        return self._real() + self._ahead

    def freeze(self) -> None:
        moment = self.now()
        self._real = lambda: moment
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(clock_module, "now", moved.now)
    return moved


@pytest.fixture(params=runtimes.NAMES)
def runtime(request: pytest.FixtureRequest) -> runtimes.Runtime:
    return runtimes.Runtime(request.param)


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    why = redis_server.missing()
    if why is not None:
        if CI:
            pytest.fail(f"Redis must be tested here: {why}")
        pytest.skip(why)
    with redis_server.server() as url:
        yield url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    import redis

    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture
def ignoring_case() -> Iterator[Path]:
    """A directory on a file system that ignores case."""
    why = case_insensitive.missing()
    if why is not None:
        pytest.skip(why)
    with case_insensitive.directory() as directory:
        yield directory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses a backend on those that the nearest `backends` mark names, or else on all that store."""
    if "backend" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("backends")
        metafunc.parametrize("backend", mark.args if mark else backends.STORING, scope="session")


@pytest.fixture
def make_raw(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Make stores over the backend of the test, as they are."""
    url: str = request.getfixturevalue("redis_url") if backend == "redis" else ""
    return lambda **kwargs: backends.MAKERS[backend](tmp_path, url, **kwargs)


@pytest.fixture
def make(make_raw: Callable[..., Any], runtime: runtimes.Runtime) -> Callable[..., Any]:
    """Make stores over the backend of the test, for the runtime of the test."""
    return lambda **kwargs: runtime.adapt(make_raw(**kwargs))


@pytest.fixture
def kv(make: Callable[..., Any]) -> Any:
    return make()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests on their runtime (asyncio if they don't ask for one)."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames  # pyright: ignore[reportPrivateUsage] # what every runner of asynchronous tests reads
    runtime = pyfuncitem.funcargs.get("runtime") or runtimes.Runtime("asyncio")
    assert isinstance(runtime, runtimes.Runtime)
    runtime.run(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    untested = {"redis": redis_server.missing(), "a file system that ignores case": case_insensitive.missing()}
    for what, why in untested.items():
        if why is not None:
            terminalreporter.write_line(f"NOT TESTED: {what} ({why}).", yellow=True)
    if not any(untested.values()):
        terminalreporter.write_line("All backends were tested.")
