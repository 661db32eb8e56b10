"""What is released: extras, exported names and metadata are what `pyproject.toml` and the sources say."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from keyvalue import __version__
from tests import extras, fake_winreg
from tests.interpreter import run_fresh
from tests.site import public_modules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parent.parent
CONFIGURATION: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = CONFIGURATION["project"]
GROUPS: dict[str, list[Any]] = CONFIGURATION["dependency-groups"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SOURCES = sorted((ROOT / "src" / "keyvalue").rglob("*.py"))
SUPPORTED = re.findall(r"3\.\d+", (ROOT / "noxfile.py").read_text().partition("SUPPORTED = (")[2].partition(")")[0])


def test_all_has_every_extra() -> None:
    (everything,) = EXTRAS["all"]
    named = re.fullmatch(r"keyvalue\[(.*)\]", everything)
    assert named
    # Of the others, one is another name of keyring, and the last is for those who write stores rather than use them.
    assert named[1].split(",") == sorted(set(EXTRAS) - {"all", "keyring-linux", "testing"})


def test_the_tests_of_this_project_need_what_those_of_others_need() -> None:
    assert set(EXTRAS["testing"]) <= {one for one in GROUPS["harness"] if isinstance(one, str)}


def test_every_extra_that_installs_something_is_named_by_the_error_of_what_needs_it() -> None:
    needed = {extra for path in SOURCES for extra in re.findall(r'\bneeds\("([\w-]+)"\)', path.read_text())}
    assert needed == {extra for extra, requirements in EXTRAS.items() if requirements} - {"all", "keyring-linux"}


def test_every_client_is_imported_inside_needs() -> None:
    """What `import keyvalue` installs is all that a module may import outside of it."""
    program = f"""
import sys, importlib
from keyvalue._core import extras
own = {{"keyvalue", "anyio", "beartype", "orjson", "typing_extensions", "sniffio", "idna", "exceptiongroup"}}
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in own | sys.stdlib_module_names: raise ModuleNotFoundError(f"no {{name}}", name=name)
for module in {sorted(public_modules())}:
    sys.meta_path.insert(0, Refuses())
    try: importlib.import_module(module)
    except ImportError as error: print(module, error, sep=": ")
    del sys.meta_path[0]
"""
    refused = dict(line.split(": ", 1) for line in run_fresh(program).splitlines())
    if sys.platform != "win32":
        said = refused.pop("keyvalue.stores.windows_registry")
        assert said.startswith("WindowsRegistryStore is for Windows only")
        assert "pip install" not in said
    for module, message in refused.items():
        assert re.search(r"keyvalue's extra '[\w-]+'; install it with: pip install '\w", message), f"{module}: {message}"
    stores = {f"keyvalue.stores.{name}" for name in extras.STORES if EXTRAS[name]}
    assert "keyvalue's extra 'testing'" in refused["keyvalue.testing"]
    assert stores <= set(refused)
    for module in stores:
        assert f"keyvalue's extra '{module.rpartition('.')[2]}'" in refused[module], refused[module]


@pytest.mark.parametrize("name", sorted(public_modules()))
def test_what_a_module_exports_is_there_and_documented(name: str) -> None:
    with fake_winreg.installed():
        module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", ()))
    assert len(exported) == len(set(exported))
    for one in exported:
        value = getattr(module, one)
        if isinstance(value, type) and value.__module__.startswith("keyvalue"):
            assert value.__doc__, f"{name}.{one}"
    assert exported or name in ("keyvalue.stores", "keyvalue.wrappers", "keyvalue.adapters"), name


def test_the_version_is_said_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    said = [path for path in [*SOURCES, ROOT / "pyproject.toml", ROOT / "noxfile.py"] if __version__ in path.read_text()]
    assert said == [ROOT / "src" / "keyvalue" / "__init__.py"]
    for page in ("README.md", "CHANGELOG.md"):  # these are for people, and must say the same
        assert __version__ in (ROOT / page).read_text(), page


def test_classifiers_name_the_pythons_that_are_tested() -> None:
    named = [match[1] for one in PROJECT["classifiers"] if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one))]
    assert named == SUPPORTED
    assert PROJECT["requires-python"] == f">={SUPPORTED[0]}"
