"""A fake HTTP server, which answers as a real one does in a state that it can't be brought into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Request(NamedTuple):
    """A request: method and path, headers, and body."""

    line: str
    headers: Mapping[str, str]
    text: str


class Reply(NamedTuple):
    """An answer. It is JSON, unless the headers say otherwise."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = {}


@contextmanager
def answering(answer: Callable[[Request], Reply]) -> Generator[str, None, None]:
    """Run a server that answers by a function, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # which would hold back the body for 40 ms

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            status, content, headers = answer(Request(f"{self.command} {self.path}", dict(self.headers.items()), text))
            self.send_response(status)
            length = str(len(content.encode()))
            for name, value in {"Content-Type": "application/json", "Content-Length": length, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
