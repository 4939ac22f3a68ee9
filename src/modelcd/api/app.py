"""The HTTP API: the door for labels, and the state of things for scripts.  Loopback only; the CLI does not need it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

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
        return JSONResponse({"error": error.message, "help": error.help}, status_code=status)

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
