"""Who gets through to a service of a workspace: every way of asking, over ASGI."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import MutableMapping
from typing import Any

import pytest

from modelcd.adapters.guard import Guard, credential

TOKEN = "a-token-of-a-workspace"
BASIC = "Basic " + base64.b64encode(f"modelcd:{TOKEN}".encode()).decode()
GOOD = {"host": "127.0.0.1:8702", "authorization": f"Bearer {TOKEN}"}

Messages = list[MutableMapping[str, Any]]


def ask(*headers: tuple[str, str], kind: str = "http", extensions: tuple[str, ...] = ()) -> Messages:
    """Return what one request gets to see; the application behind the guard says only that it was reached."""
    said: Messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "reached"})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    sent = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "headers": sent, "extensions": dict.fromkeys(extensions)}
    asyncio.run(Guard(app, TOKEN)(scope, receive, send))
    return said


def status(*headers: tuple[str, str]) -> int:
    """Return the status of the refusal; 0 when the request got through."""
    (first, *_) = ask(*headers)
    return 0 if first["type"] == "reached" else int(first["status"])


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", BASIC])
@pytest.mark.parametrize("host", ["127.0.0.1:8702", "localhost:9", "LOCALHOST", "[::1]:8702", "127.0.0.1"])
def test_who_has_the_credential_gets_through(authorization: str, host: str) -> None:
    assert status(("host", host), ("authorization", authorization)) == 0


@pytest.mark.parametrize(
    "given",
    [(), ("",), ("Bearer",), (f"Bearer {TOKEN}x",), (f"Token {TOKEN}",), (TOKEN,), (f"Basic {TOKEN}",), ("Bearer é",)],
)
def test_who_has_none_is_asked_for_it(given: tuple[str, ...]) -> None:
    said = ask(("host", "127.0.0.1:8702"), *(("authorization", one) for one in given))

    assert said[0]["status"] == 401
    assert dict(said[0]["headers"])[b"www-authenticate"].startswith(b"Basic ")
    assert b'"error"' in said[1]["body"]
    assert b'"help"' in said[1]["body"]
    assert TOKEN.encode() not in said[1]["body"]


def test_two_credentials_are_none() -> None:
    assert status(*GOOD.items(), ("authorization", "Bearer other")) == 401


@pytest.mark.parametrize(
    "hosts",
    [(), ("evil.example",), ("evil.example:8702",), ("127.0.0.1.evil.example",), ("localhost", "evil.example"), ("",)],
)
def test_a_name_that_is_not_this_machine_is_refused_with_the_credential_too(hosts: tuple[str, ...]) -> None:
    assert status(("authorization", BASIC), *(("host", host) for host in hosts)) == 403


@pytest.mark.parametrize(
    "mark",
    [
        ("origin", "http://evil.example"),
        ("origin", "http://127.0.0.1:9"),
        ("origin", "http://localhost:8702"),
        ("origin", "null"),
        ("origin", ""),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ],
)
def test_another_page_is_refused_with_the_credential_that_the_browser_adds(mark: tuple[str, str]) -> None:
    assert status(*GOOD.items(), mark) == 403


@pytest.mark.parametrize(
    "mark",
    [
        ("origin", "http://127.0.0.1:8702"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
    ],
)
def test_its_own_page_gets_through(mark: tuple[str, str]) -> None:
    assert status(*GOOD.items(), mark) == 0


def test_a_websocket_is_asked_for_the_same() -> None:
    assert ask(*GOOD.items(), kind="websocket") == [{"type": "reached"}]
    assert ask(("host", "localhost"), kind="websocket")[0]["code"] == 1008
    told = ask(
        *GOOD.items(), ("origin", "http://evil.example"), kind="websocket", extensions=("websocket.http.response",)
    )
    assert (told[0]["type"], told[0]["status"]) == ("websocket.http.response.start", 403)


def test_the_start_of_the_application_is_not_asked_for_anything() -> None:
    assert ask(kind="lifespan") == [{"type": "reached"}]


def test_our_own_processes_have_it() -> None:
    assert status(("host", "127.0.0.1:1"), *((name.lower(), value) for name, value in credential(TOKEN).items())) == 0
