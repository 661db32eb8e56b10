"""A fake of an identity provider such as a company's: OAuth 2.0 endpoints that let one user in without asking."""

from __future__ import annotations

import secrets
import time
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT_ID = "the-mcp-server"
CLIENT_SECRET = "a secret between the two, long enough"
SCOPE = "read"


class FakeIdentityProvider:
    """The authorization code flow with its token and introspection endpoints: an ASGI `app`, and the access `tokens` it has given out."""

    def __init__(self) -> None:
        self._codes: set[str] = set()
        self.tokens: set[str] = set()
        self.app = Starlette(
            routes=[
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/introspect", self._introspect, methods=["POST"]),
            ]
        )

    async def _authorize(self, request: Request) -> Response:
        assert request.query_params["client_id"] == CLIENT_ID
        code = secrets.token_hex()
        self._codes.add(code)
        query = urlencode({"code": code, "state": request.query_params["state"]})
        return RedirectResponse(f"{request.query_params['redirect_uri']}?{query}", status_code=302)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        self._codes.remove(str(form["code"]))  # nothing lasts long enough to be refreshed
        access = secrets.token_hex()
        self.tokens.add(access)
        tokens = {"access_token": access, "refresh_token": secrets.token_hex()}
        return JSONResponse({**tokens, "token_type": "Bearer", "expires_in": 3600, "scope": SCOPE})

    async def _introspect(self, request: Request) -> Response:
        token = str((await request.form())["token"])
        if token not in self.tokens:
            return JSONResponse({"active": False})
        user = {"sub": "alice", "client_id": CLIENT_ID, "scope": SCOPE, "exp": int(time.time()) + 3600}
        return JSONResponse({"active": True, **user})
