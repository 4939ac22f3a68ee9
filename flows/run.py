"""Running a story in this process, as a flow of Prefect's or without; also when its server goes away in the middle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from modelcd.flows import deliver as stories
from modelcd.flows._effects import Outcome, listener, outcome, pages
from modelcd.flows.deliver import Known, Told, known

STORIES: dict[str, Callable[..., Told]] = {
    "deliver": stories.deliver,
    "retrain": stories.retrain,
    "promote": stories.promote,
    "rollback": stories.rollback,
}


def run_flow(
    name: str,
    tell: Callable[[str, str, Any, float], None],
    read: Known | None = None,
    *,
    visibly: bool = True,
    **parameters: Any,
) -> dict[str, Any]:
    """Run the story *name* and return what it told; raises the `ModelcdError` that stopped it.

    *read* is what is known of the project already.
    When Prefect's server cannot be reached, or not *visibly*, the same steps run without its pages; when it goes away
    in the middle, what the story came to counts.
    """
    told, came, before = listener.set(tell), outcome.set(Outcome()), known.set(read)
    try:
        with contextlib.suppress(Exception):
            if visibly:
                _visibly(name, parameters)
        if not outcome.get().known:
            without = pages.set(False)
            try:
                outcome.get().of(partial(STORIES[name], **parameters))
            finally:
                pages.reset(without)
        result: dict[str, Any] = outcome.get().get()
        return result
    finally:
        listener.reset(told)
        outcome.reset(came)
        known.reset(before)


def _visibly(name: str, parameters: dict[str, Any]) -> None:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from modelcd.flows.visible import FLOWS

    # Nobody listens to heartbeats (see `platform/abandoned.py`), and ending them takes a second of each flow.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        FLOWS[name](**parameters)
