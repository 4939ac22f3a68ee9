"""The door of every HTTP service of a workspace: who may ask at all.

A port of the loopback is open to every page that a browser on this machine shows, and to every user of it.  A request
gets through with a `Host` that means this machine, from no foreign page, and with the credential of the workspace, as
`Authorization: Bearer TOKEN` or as the password of the user `modelcd`, which a browser asks its person for.  Websockets
are asked for the same.

The browser's own marks are not enough: older ones send none with a GET, and programs send whatever they like.  The
credential is not enough either: once a person gave it, the browser adds it to what foreign pages send as well.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from modelcd.domain.hosts import is_local

if TYPE_CHECKING:
    import uvicorn

USER = "modelcd"
"""Whom a browser's dialogue is answered with; the password is the credential."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FOREIGN_PAGE = "a page of another site asked, and this service answers none"
_FOREIGN_HOST = "this service answers only to the names of this machine"
_ASK = {"www-authenticate": f'Basic realm="{USER}", charset="UTF-8"'}


def credential(token: str) -> dict[str, str]:
    """Return the headers with which our own processes ask."""
    return {"Authorization": f"Bearer {token}"}


class Guard:
    """An ASGI application that lets through to *app* what has the credential *token* and comes from no foreign page."""

    def __init__(self, app: App, token: str) -> None:
        self.app = app
        basic = base64.b64encode(f"{USER}:{token}".encode()).decode()
        self._good = {"bearer": token.encode(), "basic": basic.encode()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        given: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.lower(), []).append(value)
        hosts = [value.decode("latin-1") for value in given.get(b"host", ())]
        if len(hosts) != 1 or not is_local(hosts[0]):
            return await _refuse(scope, send, 403, _FOREIGN_HOST, "ask 127.0.0.1 or localhost")
        if _foreign(given, hosts[0]):
            return await _refuse(scope, send, 403, _FOREIGN_PAGE, "open its address itself; see docs/security.md")
        if not self._known(given.get(b"authorization", [])):
            how = f"user {USER}, password or bearer token: what `modelcd ui` shows"
            return await _refuse(scope, send, 401, "this service asks for the workspace's credential", how, _ASK)
        return await self.app(scope, receive, send)

    def _known(self, given: list[bytes]) -> bool:
        if len(given) != 1:
            return False
        scheme, _, credential = given[0].partition(b" ")
        good = self._good.get(scheme.decode("latin-1").lower())
        return good is not None and hmac.compare_digest(credential.strip(), good)


def _foreign(given: dict[bytes, list[bytes]], host: str) -> bool:
    """Say whether a page of another origin asks: another port is another origin, and `null` is nobody's."""
    own = {f"{scheme}://{host}".lower().encode() for scheme in ("http", "https")}
    sites = {b"same-origin", b"none"}
    return any(origin.lower() not in own for origin in given.get(b"origin", ())) or any(
        site.lower() not in sites for site in given.get(b"sec-fetch-site", ())
    )


async def _refuse(
    scope: Scope, send: Send, status: int, error: str, help: str, more: dict[str, str] | None = None
) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            return await send({"type": "websocket.close", "code": 1008, "reason": error})
    body = json.dumps({"error": error, "help": help}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **(more or {})}
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{kind}.start", "status": status, "headers": sent})
    await send({"type": f"{kind}.body", "body": body})


def server(app: App, port: int, token: str) -> uvicorn.Server:
    """Return the server of *app* on *port* of the loopback, behind a guard that asks for *token*."""
    import uvicorn  # only where something is served: who asks needs the name above alone

    guarded = Guard(app, token)
    return uvicorn.Server(uvicorn.Config(guarded, host="127.0.0.1", port=port, log_level="warning", access_log=False))
