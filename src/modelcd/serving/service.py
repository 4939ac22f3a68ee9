"""The routes of the model server, as one RSGI application (granian's own interface, leaner than ASGI).

Routing is one look-up in a dictionary of whole paths, made once for the model's name.
"""

from __future__ import annotations

import asyncio
import hmac
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from time import perf_counter, time
from typing import Any
from urllib.parse import quote

import orjson

from modelcd.domain.hosts import LOOPBACK, is_local
from modelcd.domain.versions import slug
from modelcd.serving.bodies import encoding_of, inflated, too_long
from modelcd.serving.dialects import JSON, Answer, Ask, Dialect, Written, rows_asked
from modelcd.serving.engine import INLINE, Engine
from modelcd.serving.inputs import BadInput
from modelcd.serving.invocations import invocation_asked
from modelcd.serving.loading import ModelFailed
from modelcd.serving.predictions import PredictionLog
from modelcd.serving.settings import Settings
from modelcd.serving.telemetry import OPENMETRICS, Telemetry, log
from modelcd.serving.tensors import DATATYPES, OUTPUT, tensors_asked

SMALL = 8192
"""A compressed body up to this many bytes is unpacked in the event loop: it cannot become more than 8 MB."""

_Get = Callable[[], tuple[int, Written]]


class Service:
    """Answers requests; `engine` is there once the model is loaded and warm, `draining` once it was told to end."""

    def __init__(self, settings: Settings, predictions: PredictionLog | None, predicting: ThreadPoolExecutor) -> None:
        self.settings = settings
        self._local = settings.host in LOOPBACK
        self._gateway = settings.gateway.encode()
        self.engine: Engine | None = None
        self.draining = False
        self.in_flight = 0
        self.telemetry = Telemetry()
        self._predictions = predictions
        self._predicting = predicting
        self._in_thread = 0
        self._gets, self._posts = self._routes()

    def _routes(self) -> tuple[dict[str, _Get], dict[str, Dialect]]:
        gets: dict[str, _Get] = {"/readyz": self._ready, "/healthz": self._live, "/metrics": self._metrics}
        gets |= {"/ping": self._ping, "/health": self._ping, "/version": self._mlflow_version}
        gets |= {"/v2": self._server, "/v2/health/ready": self._ready, "/v2/health/live": self._live}
        posts: dict[str, Dialect] = {"/predict": rows_asked, "/invocations": invocation_asked}
        name, version = self.settings.model, quote(self.settings.version, safe="")
        for one in (name, slug(name), quote(name, safe="")):
            for path in (f"/v2/models/{one}", f"/v2/models/{one}/versions/{version}"):
                gets |= {path: self._metadata, f"{path}/ready": self._ready}
                posts[f"{path}/infer"] = tensors_asked
        return gets, posts

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        path, method = scope.path, scope.method
        if self._local and (why := self._foreign(scope.headers)):
            proto.response_bytes(403, self._headers((JSON,)), _plain({"error": why}).body)
        elif method == "POST" and (dialect := self._posts.get(path)) is not None:
            self.in_flight += 1
            try:
                await self._infer(dialect, scope, proto)
            finally:
                self.in_flight -= 1
        elif method in ("GET", "HEAD") and (get := self._gets.get(path)) is not None:
            status, written = get()
            # Of an answer to HEAD, granian sends the headers only.
            proto.response_bytes(status, self._headers(written.headers), written.body)
        else:
            self._unknown(path, proto)

    # -- probes ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Say whether the model is loaded, warm and not about to end."""
        return self.engine is not None and not self.draining

    def _ready(self) -> tuple[int, Written]:
        if not self.ready:
            return 503, _plain({"error": "draining: the server was told to end" if self.draining else _LOADING})
        return 200, _plain(self._who() | {"ready": True})

    def _live(self) -> tuple[int, Written]:
        return 200, _plain(self._who() | {"live": True})

    def _who(self) -> dict[str, Any]:
        name, version = self.settings.model, self.settings.version
        return {"model": name, "version": version, "name": name}

    def _ping(self) -> tuple[int, Written]:
        """Answer as MLflow's server does, but for its 404 for a model that is not there."""
        status, written = self._ready()
        return (200, Written(b"\n")) if status == 200 else (status, written)

    def _mlflow_version(self) -> tuple[int, Written]:
        version = _installed("mlflow")
        return (200, Written(version.encode())) if version else (404, _plain({"error": "MLflow is not installed here"}))

    def _server(self) -> tuple[int, Written]:
        ours = {"name": "modelcd", "version": _installed("modelcd"), "extensions": ["binary_tensor_data"]}
        return 200, _plain(ours)

    def _metadata(self) -> tuple[int, Written]:
        if self.engine is None:
            return 503, _plain({"error": _LOADING})
        inputs = [_tensor(c.name, c.kind, c.length) for c in self.engine.model.inputs.columns]
        output = self.engine.model.manifest.output
        outputs = [_tensor(OUTPUT, output.kind, output.length)]
        if output.names:
            outputs[0]["labels"] = list(map(str, output.names))
        said = {"name": self.settings.model, "versions": [self.settings.version], "platform": "modelcd"}
        return 200, _plain({**said, "inputs": inputs, "outputs": outputs})

    def _metrics(self) -> tuple[int, Written]:
        lost = self._predictions.lost if self._predictions else 0
        gauges = {"modelcd_ready": int(self.ready), "modelcd_in_flight": self.in_flight}
        counters = {"modelcd_predictions_lost": lost}
        text = self.telemetry.text(self.settings.model, self.settings.version, gauges, counters)
        return 200, Written(text.encode(), (("content-type", OPENMETRICS),))

    def _unknown(self, path: str, proto: Any) -> None:
        allowed = "POST" if path in self._posts else "GET, HEAD" if path in self._gets else ""
        if allowed:
            body = _plain({"error": f"{path} takes {allowed}"}).body
            proto.response_bytes(405, self._headers((JSON, ("allow", allowed))), body)
            return
        here = f"the model here is {self.settings.model}, version {self.settings.version}: scores are at POST /predict"
        proto.response_bytes(404, self._headers((JSON,)), _plain({"error": f"there is no {path} here; {here}"}).body)

    def _headers(self, written: Sequence[tuple[str, str]], prediction: str = "") -> list[tuple[str, str]]:
        headers = [*written, ("x-model-version", self.settings.version)]
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
            ask = Ask(await self._body(scope, proto), scope.headers)
            written, answer = await self._answer(self.engine, dialect, ask)
        except BadInput as error:
            self._refuse(scope, proto, error.status, str(error), begin)
        except ModelFailed as error:
            self.telemetry.model_errors += 1
            self._refuse(scope, proto, 500, str(error), begin, trace=_trace(error.__cause__))
        except Exception as error:  # a mistake of ours must be an answer too, and be counted
            self._refuse(scope, proto, 500, f"{type(error).__name__}: {error}", begin, trace=_trace(error))
        else:
            self._log_prediction(scope.headers, answer)
            proto.response_bytes(200, self._headers(written.headers, answer.prediction), written.body)
            seconds = perf_counter() - begin
            self.telemetry.count(200, seconds, len(answer.scores))
            if self.settings.log_all:
                rows = len(answer.scores)
                log("info", "request", path=scope.path, status=200, seconds=seconds, rows=rows, id=answer.prediction)

    def _answer(self, engine: Engine, dialect: Dialect, ask: Ask) -> Awaitable[tuple[Written, Answer]]:
        if not self._in_thread and engine.pace.expected(len(ask.body)) <= INLINE:
            return _done(engine, dialect, ask)
        return self._answer_in_thread(engine, dialect, ask)

    async def _answer_in_thread(self, engine: Engine, dialect: Dialect, ask: Ask) -> tuple[Written, Answer]:
        self._in_thread += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._predicting, engine.answer, dialect, ask)
        finally:
            self._in_thread -= 1

    async def _body(self, scope: Any, proto: Any) -> bytes:
        limit, encoding = self.settings.body_limit, encoding_of(scope.headers.get("content-encoding"))
        body = await _received(scope, proto, limit)
        if not encoding:
            return body
        if len(body) <= SMALL:
            return inflated(body, encoding, limit)
        return await asyncio.get_running_loop().run_in_executor(self._predicting, inflated, body, encoding, limit)

    def _refuse(self, scope: Any, proto: Any, status: int, error: str, begin: float, **fields: str) -> None:
        seconds = perf_counter() - begin
        self.telemetry.count(status, seconds)
        level = "error" if status >= 500 else "warning"
        log(level, "request", path=scope.path, status=status, seconds=seconds, error=error, **fields)
        proto.response_bytes(status, self._headers((JSON,)), orjson.dumps({"error": error}))

    def _log_prediction(self, headers: Any, answer: Answer) -> None:
        """Remember *answer* when the gateway routed the request; a direct call is nobody's production traffic."""
        if self._predictions is None or not self._by_gateway(headers):
            return
        if revision := headers.get("x-modelcd-routing"):
            leg = headers.get("x-modelcd-leg") or "main"
            self._predictions.add((answer.prediction, time(), revision, leg, answer.scores))

    def _by_gateway(self, headers: Any) -> bool:
        """Say whether the gateway sent *headers*: whoever reaches this port can say the rest of what it says."""
        secret = (headers.get("x-modelcd-gateway") or "").encode()
        return bool(self._gateway) and hmac.compare_digest(secret, self._gateway)

    def _foreign(self, headers: Any) -> str:
        """Say why *headers* are refused, empty when they are not; what came through the gateway, it has let in."""
        if not is_local(headers.get("host") or ""):
            return "this server answers only to the names of this machine: 127.0.0.1, localhost"
        by_page = headers.get("origin") is not None or headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if by_page and not self._by_gateway(headers):
            return "this server answers no page of a browser; pages ask the gateway"
        return ""


def _trace(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error)) if error else ""


_LOADING = "loading: the model is not ready yet"


async def _done(engine: Engine, dialect: Dialect, ask: Ask) -> tuple[Written, Answer]:
    return engine.answer(dialect, ask)


async def _received(scope: Any, proto: Any, limit: int) -> bytes:
    """Return the body as it was sent; raises `BadInput` (413) as soon as it is longer than *limit*."""
    length = scope.headers.get("content-length")
    if length is not None and length.isdecimal():
        if int(length) > limit:
            raise too_long(limit)
        whole: bytes = await proto()
        return whole
    parts, size = [], 0
    async for part in proto:
        size += len(part)
        if size > limit:
            raise too_long(limit)
        parts.append(part)
    return b"".join(parts)


def _tensor(name: str, kind: str, length: int) -> dict[str, Any]:
    return {"name": name, "datatype": DATATYPES[kind], "shape": [-1, length] if length else [-1]}


def _plain(body: dict[str, Any]) -> Written:
    return Written(orjson.dumps(body))


@cache
def _installed(distribution: str) -> str:
    """Return the version of *distribution* in this Python, empty when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
