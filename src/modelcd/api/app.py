"""The HTTP API: the door for labels, and the state of things for scripts.  Loopback only; the CLI does not need it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from modelcd.control import Control
from modelcd.errors import ModelcdError, UnknownName, UsageError

STATUS = ((UnknownName, 404), (UsageError, 422))


class Truth(BaseModel):
    """The truth for one prediction: its id as in `X-Prediction-Id` (`ID/K` for the K-th row of many), and the label."""

    id: str
    label: Any


class Feedback(BaseModel):
    """Truths that belong to predictions of one endpoint."""

    labels: list[Truth] = Field(min_length=1, max_length=100_000)
    environment: str = "production"


def application(control: Control) -> FastAPI:
    """Return the application over *control*."""
    app = FastAPI(title="modelcd", version="1")

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
        return _told(error.status_code, f"{request.method} {request.url.path}: {error.detail}", "what there is: /docs")

    @app.get("/v1/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "workspace": str(control.workspace.path)}

    @app.get("/v1/status")
    def status(model: str = "") -> list[dict[str, Any]]:
        return control.status(model)

    @app.post("/v1/models/{model:path}/feedback")
    def feedback(model: str, given: Feedback) -> dict[str, Any]:
        return control.feedback(model, [(truth.id, truth.label) for truth in given.labels], given.environment)

    return app


def _told(status: int, error: str, help: str) -> JSONResponse:
    """Every error has the same form, whoever found it."""
    return JSONResponse({"error": error, "help": help}, status_code=status)
