"""The HTTP door: what is refused is refused in one form, with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelcd.api.app import application
from modelcd.control import Control
from modelcd.serving.settings import MEGABYTE
from modelcd.workspace import open_workspace


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(open_workspace(tmp_path / "workspace"))


def ask(control: Control, method: str, path: str, **sent: Any) -> tuple[int, Any]:
    """Send one request to the application in this process, and return status and body."""

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(application(control))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **sent)

    answer = asyncio.run(go())
    return answer.status_code, answer.json()


def test_an_empty_workspace_has_no_status(control: Control) -> None:
    assert ask(control, "GET", "/v1/status") == (200, [])


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "error"),
    [
        ("GET", "/v1/status?model=churn", {}, 404, "no model is named 'churn'"),
        ("GET", "/v1/nothing", {}, 404, "GET /v1/nothing: Not Found"),
        ("GET", "/v1/models/churn/feedback", {}, 405, "GET /v1/models/churn/feedback: Method Not Allowed"),
        ("POST", "/v1/models/churn/feedback", {"json": "x"}, 422, "body: Input should be a valid dict"),
        ("POST", "/v1/models/churn/feedback", {"json": {"labels": []}}, 404, "no model is named 'churn'"),
        ("POST", "/v1/models/churn/feedback", {"json": {"labels": {"a": 1}}}, 422, "body.labels: Input should be"),
        (
            "POST",
            "/v1/models/churn/feedback",
            {"json": {"labels": [{"id": "a", "label": 1}], "environment": "prod"}},
            404,
            "no environment is named 'prod'",
        ),
    ],
)
def test_every_refusal_has_the_same_form(
    control: Control, method: str, path: str, sent: dict[str, Any], status: int, error: str
) -> None:
    code, body = ask(control, method, path, **sent)

    assert code == status
    assert body["error"].startswith(error)
    assert body["help"]
    assert set(body) == {"error", "help"}


@pytest.mark.parametrize("said", [True, False], ids=["with its length", "in chunks"])
def test_a_body_that_is_too_long_is_refused_and_not_read_to_its_end(control: Control, said: bool) -> None:
    read = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal read
        for part in (b'{"labels": [', *(b" " * MEGABYTE for _ in range(20)), b"]}"):
            read += len(part)
            yield part

    headers = {"content-length": str(20 * MEGABYTE + 14)} if said else {}
    code, body = ask(control, "POST", "/v1/models/churn/feedback", content=parts(), headers=headers)

    assert (code, body["help"]) == (413, "send fewer labels at a time")
    assert body["error"] == "POST /v1/models/churn/feedback: the body is longer than 16,777,216 bytes"
    assert read < 18 * MEGABYTE
