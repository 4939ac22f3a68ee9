"""How a step becomes a visible Prefect task: never cached, never handed our objects, told to whoever listens.

Prefect tells the story; it does not decide whether it goes on.  A step whose function ran counts, also when the server
could not be told, and a step that Prefect could not begin is run without it.  Prefect is imported where it is told.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from modelcd.errors import ModelcdError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

T = TypeVar("T")

Listener = Callable[[str, str, Any, float], None]
listener: ContextVar[Listener] = ContextVar("listener", default=lambda *_: None)
"""Told (step, state, what, seconds): state is `begin`, `lasts` (for more than a second), `end`, `look` or `error`."""

pages: ContextVar[bool] = ContextVar("pages", default=True)
"""Whether Prefect's server is told; without it the same steps run in the same order."""


class Outcome:
    """What a function came to, kept apart from what Prefect makes of it."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.known = False

    def of(self, function: Callable[[], T]) -> T:
        """Call *function* and remember what came of it."""
        try:
            self.result = function()
        except BaseException as error:
            self.error, self.known = error, True
            raise
        self.known = True
        return self.result  # type: ignore[no-any-return]

    def get(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result


outcome: ContextVar[Outcome] = ContextVar("outcome")
"""Where a flow leaves what it came to, for whoever runs it in this process."""


def visible(came: Outcome, go: Callable[[], Mapping[str, Any]], good: Mapping[str, str]) -> State[Any]:
    """Keep in *came* what *go* comes to, and return it as the state of the flow's run; *good* are endings as wanted."""
    from modelcd.flows._states import of_error, of_flow

    _name_driver()
    try:
        return of_flow(came.of(go), good)
    except ModelcdError as error:
        return of_error(error)


def _name_driver() -> None:
    """Tell the server which process drives this run, so that it does not stand there as running when that is killed."""
    import psutil
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    from modelcd.platform.abandoned import driver_of

    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not pages.get():
        return
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, infrastructure_pid=driver_of(psutil.Process()))


def step(name: str, function: Callable[[], T]) -> T:
    """Run *function* as the task *name*, and tell the listener when it begins and how it ends."""
    told, began = listener.get(), time.perf_counter()
    told(name, "begin", None, 0.0)
    try:
        result = _visibly(name, function) if pages.get() else function()
    except BaseException as error:
        told(name, "error", error, time.perf_counter() - began)
        raise
    told(name, "end", result, time.perf_counter() - began)
    return result


def _visibly(name: str, function: Callable[[], T]) -> T:
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    from modelcd.flows._states import of_error, of_step

    came = Outcome()

    def run() -> State[Any]:
        try:
            return of_step(came.of(function))
        except ModelcdError as error:
            return of_error(error)

    try:
        task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(run)()
    except Exception:
        if not came.known:
            return came.of(function)
    return came.get()  # type: ignore[no-any-return]


def leave(key: str, markdown: Callable[[], str]) -> None:
    """Leave what *markdown* returns on the run's page, if there is a server; what cannot be told stops nothing.

    Keys hold lower-case letters, digits and dashes.
    """
    if not pages.get():
        return
    from prefect.artifacts import create_markdown_artifact

    clean = "".join(c if c.isascii() and (c.islower() or c.isdigit()) else "-" for c in key.lower())
    with contextlib.suppress(Exception):
        create_markdown_artifact(key=clean.strip("-"), markdown=markdown())
