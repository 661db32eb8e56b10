"""Sessions of a Starlette application in any store, on asyncio or trio. The cookie holds only a random name.

Needs `starlette`, and a server: `hypercorn --worker-class trio examples.starlette_sessions:app` serves the application below.
"""

from __future__ import annotations

import copy
import secrets
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore


class KeyValueSessionMiddleware:
    """`request.session`, kept in a store instead of in the cookie. It is stored when it has changed, before the response starts.

    Args:
        app: The application.
        key_value: The store.
        collection: The collection of the sessions.
        cookie: The name of the cookie.
        max_age: Seconds that a session lives after its last change.
        https_only: Whether browsers send the cookie over HTTPS only.
    """

    def __init__(
        self,
        app: ASGIApp,
        key_value: AsyncKeyValue,
        *,
        collection: str = "sessions",
        cookie: str = "session",
        max_age: int = 14 * 24 * 3600,
        https_only: bool = True,
    ) -> None:
        self._app = app
        self._key_value = key_value
        self._collection = collection
        self._cookie = cookie
        self._max_age = max_age
        self._flags = "path=/; httponly; samesite=lax" + ("; secure" if https_only else "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        name = HTTPConnection(scope).cookies.get(self._cookie)
        before = (await self._key_value.get(name, collection=self._collection) or {}) if name else {}
        session = scope["session"] = copy.deepcopy(before)

        async def send_after_storing(message: Message) -> None:
            if message["type"] == "http.response.start" and session != before:
                MutableHeaders(scope=message).append("Set-Cookie", await self._store(name if before else None, session))
            await send(message)

        await self._app(scope, receive, send_after_storing)

    async def _store(self, name: str | None, session: dict[str, Any]) -> str:
        """Store or delete a session and return its cookie; a name that is in no store is never taken over."""
        if not session:
            if name:
                await self._key_value.delete(name, collection=self._collection)
            return f"{self._cookie}=; max-age=0; {self._flags}"
        name = name or secrets.token_urlsafe(32)
        await self._key_value.put(name, session, collection=self._collection, ttl=self._max_age)
        return f"{self._cookie}={name}; max-age={self._max_age}; {self._flags}"


async def count(request: Request) -> JSONResponse:
    """Count the visits of a session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse({"visits": request.session["visits"]})


async def leave(request: Request) -> JSONResponse:
    """End a session."""
    request.session.clear()
    return JSONResponse({"visits": 0})


def make_app(key_value: AsyncKeyValue, *, https_only: bool = True) -> Starlette:
    """Make an application that counts visits."""
    sessions = Middleware(KeyValueSessionMiddleware, key_value=key_value, https_only=https_only)
    return Starlette(routes=[Route("/", count), Route("/leave", leave)], middleware=[sessions])


app = make_app(MemoryStore(), https_only=False)
