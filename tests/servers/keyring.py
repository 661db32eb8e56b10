"""A real Secret Service: gnome-keyring on a session bus of its own, which is the only one that the tests may reach.

Its URL is the address of the bus. Nobody's own keyring is ever touched: an address from outside is not used.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keyring
from keyring.backends import SecretService

from tests.servers import Running, Server, process

if TYPE_CHECKING or sys.platform != "win32":  # for which there is neither
    import secretstorage
    from jeepney import DBusAddress, DBusErrorResponse, new_method_call
    from jeepney.io.blocking import open_dbus_connection
    from secretstorage.util import add_match_rules, format_secret, open_session

    _connect = secretstorage.dbus_init

PASSWORD = b"of the tests"
SERVICE = "py-key-value"
LOGIN = "/org/freedesktop/secrets/collection/login"
# The default of sessions, without what starts services by itself.
CONFIG = """
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  <limit name="max_incoming_bytes">1000000000</limit>
  <limit name="max_outgoing_bytes">1000000000</limit>
  <limit name="max_message_size">1000000000</limit>
</busconfig>
"""


def session_bus(url: str) -> None:
    """Have this process, and what it starts, use the Secret Service on a bus."""
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = url
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.SecretService.Keyring"
    keyring.set_keyring(SecretService.Keyring())
    secretstorage.dbus_init = _connect_and_greet


def _greet(connection: Any) -> None:
    """Have a Secret Service learn of a connection by a call that needs nothing known of it, as the first.

    gnome-keyring 42.1 notes a new client in one callback of its main loop and makes the call in another. If the first call arrives while
    the loop looks through its callbacks, the second may run before the first, and most calls then abort the whole keyring
    ("invoke_get_property_in_idle_cb: assertion failed: (error != NULL)"): on a loaded machine once in some five thousand connections.
    """
    service = DBusAddress("/org/freedesktop/secrets", "org.freedesktop.secrets", "org.freedesktop.Secret.Service")
    with suppress(OSError):  # of which the next call tells
        connection.send_and_get_reply(new_method_call(service, "ReadAlias", "s", ("",)))


def _connect_and_greet() -> Any:
    connection = _connect()
    _greet(connection)
    return connection


@contextmanager
def private_bus(address: str) -> Generator[None, None, None]:
    """Run a bus, without any service on it."""

    def command(where: str) -> list[str]:
        config = Path(where, "bus.conf")
        config.write_text(CONFIG.format(address=address))
        return ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"]

    with process(command, partial(_answers, address), environment={"PATH": os.environ["PATH"]}, quiet=True):
        yield


@contextmanager
def daemon(address: str, directory: str) -> Generator[Running, None, None]:
    """Run a keyring on a bus, which keeps what it holds in a directory."""
    Path(directory).chmod(0o700)  # as its runtime directory must be
    command = ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"]
    environment = {"PATH": os.environ["PATH"], "HOME": directory, "XDG_RUNTIME_DIR": directory, "DBUS_SESSION_BUS_ADDRESS": address}
    environment |= {f"XDG_{kind}_HOME": os.path.join(directory, kind.lower()) for kind in ("DATA", "CONFIG", "CACHE")}
    with process(
        lambda _: command, partial(_is_unlocked, address), directory=directory, environment=environment, standard_input=PASSWORD, quiet=True
    ) as running:
        yield Running(address, running)


@contextmanager
def _run(port: int, directory: str | None) -> Generator[Running, None, None]:
    assert directory is not None  # where it writes the whole keyring with each put
    address = f"unix:abstract=keyvalue-tests-{port}"  # a path in a directory of pytest's would be too long for a socket
    with private_bus(address), daemon(address, directory) as running:
        yield running


@contextmanager
def collection(url: str) -> Generator[Any, None, None]:
    """Yield the default collection of a Secret Service."""
    with closing(open_dbus_connection(url)) as connection:
        add_match_rules(connection)
        _greet(connection)
        yield secretstorage.Collection(connection, LOGIN)


def names(url: str) -> set[str]:
    """Return the names of the users that a Secret Service has passwords of, in any service."""
    with collection(url) as found:
        return {item.get_attributes()["username"] for item in found.get_all_items()}


def plant(url: str, name: str, secret: bytes, service: str = SERVICE) -> None:
    """Store anything as the password of a user."""
    with collection(url) as found:
        attributes = {"service": service, "username": name, "application": "Python keyring library"}
        found.create_item(name, attributes, secret, replace=True)


def lock(url: str) -> None:
    """Lock the collection. Nobody can be prompted to unlock it, so each prompt is dismissed at once."""
    with collection(url) as found:
        found.lock()


def unlock(url: str) -> None:
    """Unlock the collection, as a login does."""
    with collection(url) as found:
        session = open_session(found.connection)
        service = DBusAddress(
            "/org/freedesktop/secrets", "org.freedesktop.secrets", "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"
        )
        arguments = LOGIN, format_secret(session, PASSWORD, "text/plain")
        found.connection.send_and_get_reply(new_method_call(service, "UnlockWithMasterPassword", "o(oayays)", arguments))
        assert not found.is_locked()


def _answers(address: str) -> bool:
    with closing(open_dbus_connection(address)):
        return True


def _is_unlocked(address: str) -> bool:
    try:
        with collection(address) as found:
            return not found.is_locked()
    except (DBusErrorResponse, secretstorage.SecretStorageException):  # not there yet
        return False


def _absent() -> str | None:
    absent = [name for name in ("gnome-keyring-daemon", "dbus-daemon") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)} on the PATH" if absent else None


def _empty(url: str) -> None:
    session_bus(url)
    with collection(url) as found:
        for item in list(found.get_all_items()):
            item.delete()


KEYRING = Server("keyring", _absent, _run, _empty, may_be_given=False, needs_directory=True)
