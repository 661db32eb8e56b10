"""Start a server and print its URL: `python -m tests.servers redis`. It runs until this is interrupted.

Without a name: download what the servers need and no package manager of Python brings.
"""

from __future__ import annotations

import argparse
import signal

from tests.servers.registry import SERVERS

SIGNALS = {signal.SIGINT, signal.SIGTERM}

parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
parser.add_argument("server", choices=SERVERS, nargs="?")
chosen = parser.parse_args().server
wanted = SERVERS.values() if chosen is None else [SERVERS[chosen]]
for server in wanted:
    if server.fetch is not None:
        server.fetch()
if chosen is not None:
    server = SERVERS[chosen]
    why = server.missing()
    if why:
        parser.exit(1, f"{why}\n")
    with server.running() as url:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # or the first one ends this at once, and the server stays
        print(url, flush=True)  # noqa: T201 # that is what it is for
        signal.sigwait(SIGNALS)
