"""The life of the server's process: open the port, load, warm up, serve, drain, end.

The port is open before the model is loaded, so that a large one is answered for (503) meanwhile.  The order
at the end is: say so on `/readyz`, keep answering for a moment, finish what is in flight, close the port, write the
prediction log, leave.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from modelcd.artifact import toolchain_changes
from modelcd.errors import ConfigurationError, ModelcdError
from modelcd.serving.engine import Engine
from modelcd.serving.loading import load_model
from modelcd.serving.predictions import PredictionLog
from modelcd.serving.service import Service
from modelcd.serving.settings import Settings
from modelcd.serving.telemetry import log, tolerate

FINISH = 8.0
"""Seconds that requests in flight may take once the server was told to end."""

CONNECTIONS = 4096
"""How many connections may be open at a time; idle ones count, and gateways keep hundreds."""


def serve(settings: Settings) -> int:
    """Serve *settings.folder* until SIGTERM or SIGINT; return the exit code, 0 when every request was answered.

    Raises `ConfigurationError` for a port or a prediction log that cannot be opened.
    """
    tolerate()
    _claim(settings)
    try:
        predictions = (
            PredictionLog(settings.predictions, settings.model, settings.version) if settings.predictions else None
        )
    except OSError as error:
        raise ConfigurationError(f"MODELCD_PREDICTIONS cannot be opened: {error}") from error
    predicting = ThreadPoolExecutor(1, thread_name_prefix="predict")
    service = Service(settings, predictions, predicting)
    try:
        code = asyncio.run(_live(service, predicting))
    finally:
        if predictions:
            predictions.close()
    sys.stdout.flush()
    if service.in_flight or service.engine is None:
        os._exit(code)  # a thread that is still loading or predicting would keep the interpreter from ending
    return code


async def _live(service: Service, predicting: ThreadPoolExecutor) -> int:
    settings, loop, told = service.settings, asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server = Server(
        service,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=CONNECTIONS,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    loading = asyncio.ensure_future(loop.run_in_executor(predicting, _load, settings))
    stopping = asyncio.create_task(told.wait())
    await asyncio.wait({serving, loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        service.engine = loading.result()
        if service.engine is None:
            return 1
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        log("error", "the HTTP server ended by itself", error=str(serving.exception()))
        return 1
    code = await _drain(service)
    server.stop()  # type: ignore[no-untyped-call]
    await asyncio.wait({serving}, timeout=1.0)
    return code


def _load(settings: Settings) -> Engine | None:
    """Load and warm up; a model that cannot be is logged, and None."""
    begin = perf_counter()
    try:
        engine = Engine(load_model(settings.folder), settings.model, settings.version)
        if changes := toolchain_changes(engine.model.manifest):
            log("warning", "the toolchain is not the recorded one", changes=changes)
        engine.warm_up()
    except ModelcdError as error:
        log("error", "not served", error=error.message, help=error.help, trace=traceback.format_exc())
        return None
    except BaseException as error:  # a model's own code may raise anything, SystemExit included
        log("error", "not served", error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
        return None
    gc.collect()
    gc.freeze()  # what is loaded stays: collections while serving need not look at it
    if not engine.model.manifest.warmup:
        log("warning", "the manifest has no warm-up rows: ready without having been tried")
    took = {"load_seconds": round(perf_counter() - begin, 3), "predict_seconds": engine.pace.seconds}
    log("info", "ready", port=settings.port, model=settings.model, version=settings.version, **took)
    return engine


async def _drain(service: Service) -> int:
    """Answer for a moment more while not ready, then wait for what is in flight; return the exit code."""
    service.draining = True
    deadline = perf_counter() + service.settings.drain + FINISH
    if service.engine is not None:
        await asyncio.sleep(service.settings.drain)
    while service.in_flight and perf_counter() < deadline:
        await asyncio.sleep(0.01)
    log("info" if not service.in_flight else "error", "ended", unanswered=service.in_flight)
    return 1 if service.in_flight else 0


def _claim(settings: Settings) -> None:
    """Refuse a port that is taken: granian binds with SO_REUSEPORT and would quietly share its requests."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            message = f"port {settings.port} on {settings.host} cannot be had: {error.strerror}"
            raise ConfigurationError(message, help="set PORT to a free one") from error
