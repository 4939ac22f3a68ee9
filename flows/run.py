"""Running a story in this process, as a flow of Prefect's or without; also when its server goes away in the middle.

Prefect's settings belong to a process, and one process may work in several workspaces: each flow brings those of its
own server.  One after the other, that is: Prefect has one way out for what tasks tell, and flows of two workspaces that
run at the same time share it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
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
    server: Mapping[str, str] = MappingProxyType({}),
    **parameters: Any,
) -> dict[str, Any]:
    """Run the story *name* and return what it told; raises the `ModelcdError` that stopped it.

    *read* is what is known of the project already.
    *server* are the settings of the Prefect server that is told, by default those of the process.
    When Prefect's server cannot be reached, or not *visibly*, the same steps run without its pages; when it goes away
    in the middle, what the story came to counts.
    """
    told, came, before = listener.set(tell), outcome.set(Outcome()), known.set(read)
    try:
        with contextlib.suppress(Exception):
            if visibly:
                _visibly(name, parameters, server)
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


def _visibly(name: str, parameters: Mapping[str, Any], server: Mapping[str, str]) -> None:
    from prefect.events.clients import PrefectEventsClient
    from prefect.events.worker import EventsWorker
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_CUSTOM_HEADERS,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    from modelcd.flows.visible import FLOWS

    ours = {setting: server[setting.name] for setting in (PREFECT_API_URL, PREFECT_CLIENT_CUSTOM_HEADERS) if server}
    if server:  # what tasks tell goes by events, to the server that the first flow named, unless it is said
        EventsWorker.set_client_override(PrefectEventsClient, api_url=server[PREFECT_API_URL.name])
    # Nobody listens to heartbeats (see `platform/abandoned.py`), and ending them takes a second of each flow.
    with temporary_settings({**ours, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        FLOWS[name](**parameters)
