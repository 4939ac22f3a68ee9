"""The routes of the model server, as one RSGI application (granian's own interface, leaner than ASGI).

Routing is one look-up in a dictionary of whole paths, made once for the model's name.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter, time
from typing import Any
from urllib.parse import quote

import orjson

from modelcd.domain.versions import slug
from modelcd.serving.dialects import MLFLOW, OPEN_INFERENCE, OPEN_INFERENCE_TYPES, OWN, Answer, Dialect
from modelcd.serving.engine import INLINE, Engine
from modelcd.serving.inputs import BadInput
from modelcd.serving.loading import ModelFailed
from modelcd.serving.predictions import PredictionLog
from modelcd.serving.settings import Settings
from modelcd.serving.telemetry import OPENMETRICS, Telemetry, log

_JSON = ("content-type", "application/json")
_Get = Callable[[], tuple[int, dict[str, Any]]]


class Service:
    """Answers requests; `engine` is there once the model is loaded and warm, `draining` once it was told to end."""

    def __init__(self, settings: Settings, predictions: PredictionLog | None, predicting: ThreadPoolExecutor) -> None:
        self.settings = settings
        self.engine: Engine | None = None
        self.draining = False
        self.in_flight = 0
        self.telemetry = Telemetry()
        self._predictions = predictions
        self._predicting = predicting
        self._in_thread = 0
        self._gets, self._posts = self._routes()

    def _routes(self) -> tuple[dict[str, _Get], dict[str, Dialect]]:
        gets: dict[str, _Get] = {"/readyz": self._ready, "/ping": self._ready, "/v2/health/ready": self._ready}
        gets |= {"/healthz": self._live, "/v2/health/live": self._live}
        posts = {"/predict": OWN, "/invocations": MLFLOW}
        name, version = self.settings.model, quote(self.settings.version, safe="")
        for one in (name, slug(name), quote(name, safe="")):
            for path in (f"/v2/models/{one}", f"/v2/models/{one}/versions/{version}"):
                gets |= {path: self._metadata, f"{path}/ready": self._ready}
                posts[f"{path}/infer"] = OPEN_INFERENCE
        return gets, posts

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        path, method = scope.path, scope.method
        if method == "POST" and (dialect := self._posts.get(path)) is not None:
            self.in_flight += 1
            try:
                await self._infer(dialect, scope, proto)
            finally:
                self.in_flight -= 1
        elif method == "GET" and path in self._gets:
            status, body = self._gets[path]()
            proto.response_bytes(status, self._headers(), orjson.dumps(body))
        elif method == "GET" and path == "/metrics":
            proto.response_str(200, [("content-type", OPENMETRICS)], self._metrics())
        else:
            self._unknown(scope, proto)

    # -- probes ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Say whether the model is loaded, warm and not about to end."""
        return self.engine is not None and not self.draining

    def _ready(self) -> tuple[int, dict[str, Any]]:
        if not self.ready:
            return 503, {"error": "draining: the server was told to end" if self.draining else _LOADING}
        return 200, {"model": self.settings.model, "version": self.settings.version}

    def _live(self) -> tuple[int, dict[str, Any]]:
        return 200, {"model": self.settings.model, "version": self.settings.version}

    def _metadata(self) -> tuple[int, dict[str, Any]]:
        if self.engine is None:
            return 503, {"error": _LOADING}
        inputs = [
            {"name": column.name, "datatype": OPEN_INFERENCE_TYPES[column.kind], "shape": [-1]}
            for column in self.engine.model.inputs.columns
        ]
        outputs = [{"name": "scores", "datatype": "FP64", "shape": [-1]}]
        return 200, {
            "name": self.settings.model,
            "versions": [self.settings.version],
            "platform": "modelcd",
            "inputs": inputs,
            "outputs": outputs,
        }

    def _metrics(self) -> str:
        lost = self._predictions.lost if self._predictions else 0
        gauges = {"modelcd_ready": int(self.ready), "modelcd_in_flight": self.in_flight}
        counters = {"modelcd_predictions_lost": lost}
        return self.telemetry.text(self.settings.model, self.settings.version, gauges, counters)

    def _unknown(self, scope: Any, proto: Any) -> None:
        known = scope.path in self._posts or scope.path in self._gets or scope.path == "/metrics"
        if known:
            allowed = "POST" if scope.path in self._posts else "GET"
            headers = [_JSON, ("allow", allowed)]
            proto.response_bytes(405, headers, orjson.dumps({"error": f"{scope.path} takes {allowed}"}))
        else:
            error = f"there is no {scope.path} here: scores are at POST /predict"
            proto.response_bytes(404, [_JSON], orjson.dumps({"error": error}))

    def _headers(self, prediction: str = "") -> list[tuple[str, str]]:
        headers = [_JSON, ("x-model-version", self.settings.version)]
        if prediction:
            headers.append(("x-prediction-id", prediction))
        if self.draining:
            headers.append(("connection", "close"))
        return headers

    # -- scores ------------------------------------------------------------------------------------------------------

    async def _infer(self, dialect: Dialect, scope: Any, proto: Any) -> None:
        begin = perf_counter()
        try:
            if self.engine is None:
                raise BadInput(_LOADING, 503)
            body = await self._body(scope, proto)
            written, answer = await self._answer(self.engine, dialect, body)
        except BadInput as error:
            self._refuse(scope, proto, error.status, str(error), begin)
        except ModelFailed as error:
            self.telemetry.model_errors += 1
            self._refuse(scope, proto, 500, str(error), begin, trace=_trace(error.__cause__))
        except Exception as error:  # a mistake of ours must be an answer too, and be counted
            self._refuse(scope, proto, 500, f"{type(error).__name__}: {error}", begin, trace=_trace(error))
        else:
            self._log_prediction(scope.headers, answer)
            proto.response_bytes(200, self._headers(answer.prediction), written)
            seconds = perf_counter() - begin
            self.telemetry.count(200, seconds, len(answer.scores))
            if self.settings.log_all:
                rows = len(answer.scores)
                log("info", "request", path=scope.path, status=200, seconds=seconds, rows=rows, id=answer.prediction)

    def _answer(self, engine: Engine, dialect: Dialect, body: bytes) -> Awaitable[tuple[bytes, Answer]]:
        if not self._in_thread and engine.pace.expected(len(body)) <= INLINE:
            return _done(engine, dialect, body)
        return self._answer_in_thread(engine, dialect, body)

    async def _answer_in_thread(self, engine: Engine, dialect: Dialect, body: bytes) -> tuple[bytes, Answer]:
        self._in_thread += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._predicting, engine.answer, dialect, body)
        finally:
            self._in_thread -= 1

    async def _body(self, scope: Any, proto: Any) -> bytes:
        limit = self.settings.body_limit
        length = scope.headers.get("content-length")
        if length is not None and length.isdecimal():
            if int(length) > limit:
                raise BadInput(f"the body is longer than {limit} bytes: send fewer rows at a time", 413)
            whole: bytes = await proto()
            return whole
        parts, size = [], 0
        async for part in proto:
            size += len(part)
            if size > limit:
                raise BadInput(f"the body is longer than {limit} bytes: send fewer rows at a time", 413)
            parts.append(part)
        return b"".join(parts)

    def _refuse(self, scope: Any, proto: Any, status: int, error: str, begin: float, **fields: str) -> None:
        seconds = perf_counter() - begin
        self.telemetry.count(status, seconds)
        level = "error" if status >= 500 else "warning"
        log(level, "request", path=scope.path, status=status, seconds=seconds, error=error, **fields)
        proto.response_bytes(status, self._headers(), orjson.dumps({"error": error}))

    def _log_prediction(self, headers: Any, answer: Answer) -> None:
        """Remember *answer* when a gateway routed the request; a direct call is nobody's production traffic."""
        if self._predictions is not None and (revision := headers.get("x-modelcd-routing")):
            leg = headers.get("x-modelcd-leg") or "main"
            self._predictions.add((answer.prediction, time(), revision, leg, answer.scores))


def _trace(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error)) if error else ""


_LOADING = "loading: the model is not ready yet"


async def _done(engine: Engine, dialect: Dialect, body: bytes) -> tuple[bytes, Answer]:
    return engine.answer(dialect, body)
