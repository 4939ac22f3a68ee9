"""Who may ask the gateway: a document beside those of the endpoints, which Traefik takes up at once when it changes.

The public port takes no credential, since applications ask there; it refuses names that do not mean this machine and
pages of other origins, until they are allowed.  API, metrics and ping are behind the workspace's credential.  What is
refused, and what is nowhere, is answered as JSON by a plugin of a few lines in Go (`answer.go`): Traefik has no fixed
answers of its own, and a service that gave them would have to live.

Every endpoint's router names `VISITORS`, which is defined here: without this document none of them serves anything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelcd.adapters.guard import USER
from modelcd.domain.hosts import LOOPBACK

PUBLIC = "public"
ADMIN = "traefik"
"""The name under which Traefik looks for its own API."""

DOCUMENT = "doors.yml"
VISITORS = "visitors"
"""The middleware that every request to an endpoint passes first."""

GATEWAY_HEADER = "X-Modelcd-Gateway"
"""The header that shows a model server that a request came through the gateway; no answer has it."""

PLUGINS = {"localPlugins": {"answer": {"moduleName": "modelcd.local/answer"}}, "abortOnPluginFailure": True}
"""Our plugin, for Traefik's own settings; without it Traefik does not start, and nothing is open by mistake."""

_FIRST, _LAST = 1_000_000, 1
_EXPOSED = ["X-Prediction-Id", "X-Model-Version", "X-Version", "X-Modelcd-Routing"]


@dataclass(frozen=True)
class Doors:
    """The credential *token*; the names besides this machine's own (*hosts*) and the pages (*origins*) let in."""

    token: str
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    @property
    def secret(self) -> str:
        """What model servers know the gateway by.  It is made from the credential, which cannot be had from it."""
        return hmac.new(self.token.encode(), b"gateway", hashlib.sha256).hexdigest()


def document(doors: Doors, port: int) -> dict[str, Any]:
    """Return the dynamic configuration of *doors*; *port* is the public one."""
    by_page = f"({_page('Origin', '.*')} || {_page('Sec-Fetch-Site', '^(cross-site|same-site)$')})"
    known = _page("Origin", f"^({'|'.join(_origins(doors, port))})$")
    routers = {
        "refused-host": _router(PUBLIC, f"!({_hosts((*LOOPBACK, *doors.hosts))})", _FIRST + 1, "refused-host"),
        "refused-page": _router(PUBLIC, f"{by_page} && !{known}", _FIRST, "refused-page"),
        "not-found": _router(PUBLIC, "PathPrefix(`/`)", _LAST, "not-found"),
        "admin-host": _router(ADMIN, f"!({_hosts(LOOPBACK)})", _FIRST + 1, "refused-host"),
        "admin-page": _router(ADMIN, by_page, _FIRST, "refused-page"),
        "admin-api": _router(ADMIN, "PathPrefix(`/api`)", 3, "credential", "api@internal"),
        "admin-metrics": _router(ADMIN, "Path(`/metrics`)", 3, "credential", "prometheus@internal"),
        "admin-ping": _router(ADMIN, "PathPrefix(`/`)", _LAST, "credential", "ping@internal"),
    }
    return {"http": {"routers": routers, "middlewares": _middlewares(doors)}}


def _middlewares(doors: Doors) -> dict[str, Any]:
    # SHA-1 will do for a random word of 256 bits; bcrypt would cost each look at the gateway a tenth of a second.
    known = base64.b64encode(hashlib.sha1(doors.token.encode()).digest()).decode()
    asked_with = {"X-Modelcd-Leg": "", "X-Version": "", GATEWAY_HEADER: doors.secret}
    visitors: dict[str, Any] = {"customRequestHeaders": asked_with}
    if doors.origins:
        visitors |= {
            "accessControlAllowOriginList": list(doors.origins),
            "accessControlAllowMethods": ["GET", "HEAD", "POST"],
            "accessControlAllowHeaders": ["*"],
            "accessControlExposeHeaders": _EXPOSED,
            "accessControlMaxAge": 600,
            "addVaryHeader": True,
        }
    return {
        VISITORS: {"headers": visitors},
        "credential": {"basicAuth": {"users": [f"{USER}:{{SHA}}{known}"], "removeHeader": True}},
        "refused-host": answering(403, "this gateway does not answer to that name", "modelcd up --allow-host NAME"),
        "refused-page": answering(
            403, "a page of an origin that is not allowed asked", "modelcd up --allow-origin https://app.example"
        ),
        "not-found": answering(404, "no model is at {path}", "modelcd status says what serves where"),
    }


def _router(entry: str, rule: str, priority: int, middleware: str, service: str = "noop@internal") -> dict[str, Any]:
    return {
        "entryPoints": [entry],
        "rule": rule,
        "priority": priority,
        "middlewares": [middleware],
        "service": service,
    }


def answering(status: int, error: str, help: str, retry_after: int = 0) -> dict[str, Any]:
    """Return a middleware that answers by itself; *retry_after* is in seconds, 0 says nothing of that."""
    said: dict[str, Any] = {"status": status, "error": error, "help": help}
    return {"plugin": {"answer": said | ({"retryAfter": retry_after} if retry_after else {})}}


def _hosts(names: Iterable[str]) -> str:
    return " || ".join(f"Host(`{name}`)" for name in dict.fromkeys((*names, "::1")))


def _page(header: str, values: str) -> str:
    return f"HeaderRegexp(`{header}`, `{values}`)"


def _origins(doors: Doors, port: int) -> Iterable[str]:
    """Return patterns of the origins whose pages may ask: the gateway's own, and those that were allowed."""
    yield from (re.escape(f"http://{name}:{port}") for name in LOOPBACK)
    yield from (f"https?://{re.escape(name)}" for name in doors.hosts)
    yield from (re.escape(origin) for origin in doors.origins)


def write_plugin(folder: Path) -> None:
    """Put our plugin where a Traefik that runs in *folder* looks for it."""
    place = folder / "plugins-local" / "src" / "modelcd.local" / "answer"
    place.mkdir(parents=True, exist_ok=True)
    said = {"displayName": "answer", "type": "middleware", "import": "modelcd.local/answer", "summary": "Answers."}
    (place / ".traefik.yml").write_text(json.dumps({**said, "testData": {"status": 404}}), encoding="utf-8")
    (place / "go.mod").write_text("module modelcd.local/answer\n", encoding="utf-8")
    source = Path(__file__).with_name("answer.go").read_text(encoding="utf-8")
    (place / "answer.go").write_text(source, encoding="utf-8")
