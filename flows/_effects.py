"""How a step becomes a visible Prefect task: never cached, never handed our objects, told to whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

T = TypeVar("T")

Listener = Callable[[str, str, Any, float], None]
listener: ContextVar[Listener] = ContextVar("listener", default=lambda *_: None)
"""Told (step, state, what, seconds): state is `begin`, `end`, `look` or `error`."""


def step(name: str, function: Callable[[], T]) -> T:
    """Run *function* as the task *name* and tell the listener when it begins and ends.

    The function closes over what it works on, so that Prefect neither inspects nor stores our objects; the result is
    handed back around Prefect for the same reason.
    """
    results: list[T] = []

    def run() -> str:
        results.append(function())
        return str(getattr(results[0], "reason", ""))

    told = listener.get()
    told(name, "begin", None, 0.0)
    began = time.perf_counter()
    try:
        task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(run)()
    except BaseException as error:
        told(name, "error", error, time.perf_counter() - began)
        raise
    told(name, "end", results[0], time.perf_counter() - began)
    return results[0]


def artifact(key: str, markdown: str) -> None:
    """Leave *markdown* on the run's page; keys hold lower-case letters, digits and dashes."""
    from prefect.artifacts import create_markdown_artifact

    clean = "".join(c if c.isascii() and (c.islower() or c.isdigit()) else "-" for c in key.lower())
    create_markdown_artifact(key=clean.strip("-"), markdown=markdown)
