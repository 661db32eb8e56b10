from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from keyvalue.testing import Clock
from keyvalue.testing._runtime import RUNTIMES
from tests import backends, runtimes
from tests.servers import case_insensitive, keyring
from tests.servers.registry import SERVERS

keyring.shut_out()

WITHOUT = os.environ.get("KEYVALUE_TEST_WITHOUT", "").split()
OFF_PORTAL = {*backends.WRAPPERS, *SERVERS} - {"redis"}
CI = os.environ.get("CI", "").lower() in ("1", "true")


@pytest.fixture
def clock() -> Iterator[Clock]:
    with Clock() as moved:
        yield moved


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> runtimes.Runtime:
    return runtimes.Runtime(request.param)


@pytest.fixture(scope="session")
def server_urls() -> Iterator[Callable[[str], str]]:
    """Start servers, each once, when they are first asked for."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def url_of(name: str) -> str:
            if name in WITHOUT:
                pytest.skip("left out by KEYVALUE_TEST_WITHOUT")
            why = SERVERS[name].missing()
            if why is not None:
                if CI:
                    pytest.fail(f"{name} must be tested here: {why}")
                pytest.skip(why)
            if name not in urls:
                urls[name] = stack.enter_context(SERVERS[name].running())
            return urls[name]

        yield url_of


@pytest.fixture
def empty_server(server_urls: Callable[[str], str]) -> Callable[[str], str]:
    """Return the URL of a server without data."""

    def emptied(name: str) -> str:
        SERVERS[name].empty(server_urls(name))
        return server_urls(name)

    return emptied


@pytest.fixture(scope="session")
def redis_server_url(server_urls: Callable[[str], str]) -> str:
    return server_urls("redis")


@pytest.fixture
def redis_url(empty_server: Callable[[str], str]) -> str:
    return empty_server("redis")


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
    if "backend" in metafunc.fixturenames and not hasattr(metafunc.cls, "pytest_generate_tests"):  # which sees to it itself
        mark = metafunc.definition.get_closest_marker("backends")
        metafunc.parametrize("backend", mark.args if mark else backends.STORING, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the ready-made wrappers and all servers but one on a portal: to them it is a loop like any other.

    Also what `KEYVALUE_TEST_WITHOUT` names: backends, and "wrappers" for the contract of the ready-made wrappers.
    """

    def is_wanted(item: pytest.Item) -> bool:
        parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        backend = parameters.get("backend")
        if backend in WITHOUT or (backend in backends.WRAPPERS and "wrappers" in WITHOUT):
            return False
        return not (parameters.get("runtime") == "portal" and backend in OFF_PORTAL)

    items[:] = filter(is_wanted, items)


@pytest.fixture
def make_raw(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Make stores over the backend of the test, as they are."""
    url: str = request.getfixturevalue("empty_server")(backend) if backend in SERVERS else ""
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
    untested = {
        **{name: server.missing() for name, server in SERVERS.items()},
        "a file system that ignores case": case_insensitive.missing(),
    }
    untested |= dict.fromkeys(WITHOUT, "left out by KEYVALUE_TEST_WITHOUT")
    for what, why in untested.items():
        if why is not None:
            terminalreporter.write_line(f"NOT TESTED: {what} ({why}).", yellow=True)
    if not any(untested.values()):
        terminalreporter.write_line("All backends were tested.")
