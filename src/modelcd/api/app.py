"""The HTTP API: the door for labels, and the state of things for scripts.  Loopback only; the CLI does not need it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelcd.control import Control
from modelcd.errors import ModelcdError, UnknownName, UsageError
from modelcd.labelling import kept
from modelcd.serving.settings import MEGABYTE

STATUS = ((UnknownName, 404), (UsageError, 422))


LIMIT = 16 * MEGABYTE
"""Bytes of the longest body that is read, as many as a model's server takes by itself."""


class Bounded:
    """An ASGI application that hands *app* bodies of at most *limit* bytes; of longer ones only the beginning is read.

    Raises `HTTPException` (413) where *app* reads the body, so that it is answered as every other refusal.
    """

    def __init__(self, app: ASGIApp, limit: int = LIMIT) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request by *app*."""
        said = dict(scope.get("headers", ())).get(b"content-length", b"")
        size = int(said) if said.isdigit() else 0
        if size <= self.limit:
            size = 0  # it is counted as it comes

        async def bounded() -> Message:
            nonlocal size
            message = await receive() if size <= self.limit else {}
            size += len(message.get("body", b""))
            if size > self.limit:
                raise HTTPException(413, f"the body is longer than {self.limit:,} bytes")
            return message

        await self.app(scope, bounded, send)


class Feedback(BaseModel):
    """Truths of predictions of one endpoint: `{"id": …, "label": …}`, ids to withdraw, and why, if any are changed.

    An id is as in `X-Prediction-Id` (`ID/K` for the K-th row of many).  Each label is checked by itself.
    """

    labels: list[Any] = Field(default=[], max_length=100_000, description='`{"id": …, "label": …}`')
    withdraw: list[Any] = Field(default=[], max_length=100_000, description="ids whose label is taken back")
    correct: bool = Field(default=False, description="replace labels that were told before and differ")
    reason: str = Field(default="", max_length=500, description="why labels are changed")
    by: str = Field(default="", max_length=100, description="who tells them; by default who runs the workspace")
    environment: str = Field(default="", description="where the predictions were served; by default the last one")


def application(control: Control) -> FastAPI:
    """Return the application over *control*."""
    app = FastAPI(title="modelcd", version="1")
    app.add_middleware(Bounded)

    @app.exception_handler(ModelcdError)
    def failed(_: Request, error: ModelcdError) -> JSONResponse:
        status = next((code for kind, code in STATUS if isinstance(error, kind)), 503)
        return _told(status, error.message, error.help)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first, *more = error.errors()
        where = ".".join(str(part) for part in first["loc"])
        rest = f" (and {len(more)} more)" if more else ""
        return _told(422, f"{where}: {first['msg']}{rest}", "what each call takes: /docs")

    @app.exception_handler(HTTPException)
    def unanswerable(request: Request, error: HTTPException) -> JSONResponse:
        help = "send fewer labels at a time" if error.status_code == 413 else "what there is: /docs"
        return _told(error.status_code, f"{request.method} {request.url.path}: {error.detail}", help)

    @app.get("/v1/health")
    def health() -> dict[str, str]:
        """Say that the control process answers, and for which workspace."""
        return {"status": "ok", "workspace": str(control.workspace.path)}

    @app.get("/v1/status")
    def status(model: str = "") -> list[dict[str, Any]]:
        """Return what serves where, of one model or of all: the lines of `modelcd status --json`."""
        return control.status(model)

    @app.post("/v1/models/{model:path}/feedback")
    def feedback(model: str, given: Feedback) -> JSONResponse:
        """Tell the truth of predictions: `{"labels": [{"id": "0198…", "label": true}]}`.

        An id is as in `X-Prediction-Id` (`ID/K` for the K-th row of many).  200 says how many labels were kept, and of
        those refused the first twenty with the reason; 413 that the body is longer than 16 MB; 422 that none was kept;
        503 that they have to be sent again.
        """
        told = control.feedback(model, **dict(given))
        if not told["refused"] or kept(told):
            return JSONResponse(told)
        first = told["problems"][0]
        none = "none of {refused:,} labels was kept; the first" if told["refused"] > 1 else "the label was not kept"
        error = f"{none.format(**told)}: {first['why']}"
        return JSONResponse({"error": error, "help": first["help"], **told}, status_code=422)

    return app


def _told(status: int, error: str, help: str) -> JSONResponse:
    """Every error has the same form, whoever found it."""
    return JSONResponse({"error": error, "help": help}, status_code=status)
