from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from keyvalue.testing import Clock
from tests import backends, makers, runtimes
from tests.servers import case_insensitive
from tests.servers.registry import SERVERS

GROUPS = {"wrappers": list(backends.WRAPPERS), "servers": list(SERVERS)}
"""Names for several backends in `KEYVALUE_TEST_WITHOUT`."""
WITHOUT = [backend for name in os.environ.get("KEYVALUE_TEST_WITHOUT", "").split() for backend in GROUPS.get(name, [name])]
CI = os.environ.get("CI", "").lower() in ("1", "true")

# Nothing in this process, or in what it starts, may find the keyring of whoever runs it. `tests.servers.keyring` has one of its own.
for variable in [name for name in os.environ if name.startswith("KEYRING_PROPERTY_")]:
    del os.environ[variable]
os.environ["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nonexistent"
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"


def skip_or_fail(what: str, why: str) -> None:
    """Skip a test for want of something; with `CI=true`, fail."""
    if CI:
        pytest.fail(f"{what} must be tested here: {why}")
    pytest.skip(why)


@pytest.fixture
def clock() -> Iterator[Clock]:
    with Clock() as moved:
        yield moved


@pytest.fixture
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
            try:
                why = SERVERS[name].missing()
            except ModuleNotFoundError as error:
                why = f"{error}: its client is not installed"
            if why is not None:
                skip_or_fail(name, why)
            if name not in urls:
                urls[name] = stack.enter_context(SERVERS[name].running())
            return urls[name]

        yield url_of


@pytest.fixture
def empty_server(server_urls: Callable[[str], str]) -> Callable[[str], str]:
    """Return the URL of a server without data."""

    def emptied(name: str) -> str:
        url = server_urls(name)
        SERVERS[name].empty(url)
        return url

    return emptied


@pytest.fixture
def redis_url(empty_server: Callable[[str], str]) -> str:
    return empty_server("redis")


@pytest.fixture
def ignoring_case() -> Iterator[Path]:
    """A directory on a file system that ignores case."""
    why = case_insensitive.missing()
    if why is not None:
        skip_or_fail("a file system that ignores case", why)
    with case_insensitive.directory() as directory:
        yield directory


@pytest.fixture
def make_raw(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Make stores over the backend of the test, as they are."""
    url: str = request.getfixturevalue("empty_server")(backend) if backend in SERVERS else ""
    if backend in makers.MAKERS:  # the others are wrappers of memory
        makers.load(backend)

    def make(**kwargs: Any) -> Any:
        try:
            return backends.MAKERS[backend](tmp_path, url, **kwargs)
        except ImportError as error:
            skip_or_fail(backend, str(error))

    return make


@pytest.fixture
def make(make_raw: Callable[..., Any], runtime: runtimes.Runtime) -> Callable[..., Any]:
    """Make stores over the backend of the test, for the runtime of the test."""
    return lambda **kwargs: runtime.adapt(make_raw(**kwargs))


@pytest.fixture
def kv(make: Callable[..., Any]) -> Any:
    return make()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    # pytest and trio are enough for the tests that need no client.
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "ignored: pytest-timeout is not installed")


def pytest_configure(config: pytest.Config) -> None:
    if unknown := {*WITHOUT} - {*backends.MAKERS}:
        known = ", ".join([*GROUPS, *backends.MAKERS])
        raise pytest.UsageError(f"KEYVALUE_TEST_WITHOUT names {', '.join(sorted(unknown))}, which is not among {known}")
    if not config.pluginmanager.hasplugin("timeout"):
        config.addinivalue_line("markers", "timeout(seconds): ignored: pytest-timeout is not installed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the backends and the runtimes of a test.

    Backends are those that the nearest `backends` mark names, or all that store. Runtimes are those that the nearest `runtimes` mark
    names, or asyncio and direct.
    """
    if hasattr(metafunc.cls, "pytest_generate_tests"):  # which sees to it itself
        return
    if "backend" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("backends")
        metafunc.parametrize("backend", mark.args if mark else backends.STORING, scope="session")
    if "runtime" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("runtimes")
        metafunc.parametrize("runtime", mark.args if mark else runtimes.USUAL, indirect=True)


def name_of(path: Path) -> str:
    """Return what a file of tests is named after, as backends are spelled."""
    return path.stem.removeprefix("test_").replace("_", "-")


def backend_of(item: pytest.Item) -> str | None:
    """Return the backend that a test is about: its parameter, or the one that its file is named after."""
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    names = (parameters.get("backend"), name_of(item.path))
    return next((name for name in names if name in backends.MAKERS), None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the backends that `KEYVALUE_TEST_WITHOUT` names."""
    items[:] = [item for item in items if backend_of(item) not in WITHOUT]
    for item in items:
        item.user_properties.append(("backend", backend_of(item)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have one worker run all tests of a server, so that few servers start more than once, the servers with most tests first."""
    from xdist.scheduler import LoadScopeScheduling

    servers = "|".join(sorted(SERVERS, key=len, reverse=True))

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path, _, parameters = nodeid.partition("[")
            name = name_of(Path(path.partition("::")[0]))
            if name in SERVERS or name == "testing":  # its tests share what one long run found
                return name
            named = re.search(rf"(?:^|-)({servers})(?:-|\]$)", parameters)
            return named[1] if named else nodeid

    return ByServer(config, log)


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
    """Say which backends were tested, and why the others were not."""

    def iter_reports(outcome: str) -> Iterator[tuple[str, str]]:
        for report in terminalreporter.getreports(outcome):
            backend = dict(getattr(report, "user_properties", ())).get("backend")  # a module skipped while it is collected has none
            if backend is not None:
                yield backend, str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")

    tested = {backend for outcome in ("passed", "failed") for backend, _ in iter_reports(outcome)}
    failed_to_start = dict.fromkeys((backend for backend, _ in iter_reports("error")), "could not be set up: see the errors")
    reasons = {**dict(iter_reports("skipped")), **failed_to_start, **dict.fromkeys(WITHOUT, "left out by KEYVALUE_TEST_WITHOUT")}
    if not tested and not reasons:
        return
    untested: dict[str, list[str]] = {}
    for backend in dict.fromkeys([*backends.STORING, *WITHOUT]):
        if backend not in tested:
            untested.setdefault(reasons.get(backend, "no test selected"), []).append(backend)
    said = ", ".join(backend for backend in backends.STORING if backend in tested) or "none"
    terminalreporter.write_line(f"Backends tested: {said}." if untested else "All backends were tested.")
    for reason, names in untested.items():
        terminalreporter.write_line(f"NOT TESTED: {', '.join(names)} ({reason}).", yellow=True)
    if not runtimes.NOTICES_BLOCKING:
        terminalreporter.write_line("NOT TESTED: blocking calls on the event loop (blockbuster is not installed).", yellow=True)
