"""The control process of a workspace: `python -m modelcd.api`, with `MODELCD_WORKSPACE` in the environment."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import uvicorn

from modelcd.api.app import application
from modelcd.control import ENVIRONMENTS, Control
from modelcd.environments.laptop import laptop
from modelcd.environments.services import Services
from modelcd.errors import ModelcdError
from modelcd.steps.reconcile import Reconciler
from modelcd.workspace import Workspace, open_workspace

ROUND_EVERY = 1.0
"""Seconds between two rounds of the reconciler."""

KEPT_ALIVE = ("gateway", "prefect", "deployments")


def say(text: str) -> None:
    """Write a line into this service's log."""
    print(datetime.now(UTC).isoformat(timespec="seconds"), text, flush=True)


def reconcile(workspace: Workspace, stop: threading.Event) -> None:
    """Keep every endpoint as it is wanted until *stop* is set."""
    reconciler = Reconciler({name: laptop(workspace, name) for name in ENVIRONMENTS}, say)
    while not stop.wait(ROUND_EVERY):
        try:
            reconciler.round()
        except Exception as error:  # whatever it was, the next round may do better, and there is nobody else
            say(_told(error))


def revive(workspace: Workspace, stop: threading.Event) -> None:
    """Start services that died until *stop* is set, after longer and longer pauses while they keep dying."""
    services, pause = Services(workspace), 0.5
    while not stop.wait(pause):
        dead = [name for name in KEPT_ALIVE if not services.alive(name)]
        if "prefect" in dead or not services.answers("prefect"):
            dead = [name for name in dead if name != "deployments"]  # they only wait for Prefect, and busily
        pause = min(pause * 2, 60.0) if dead else 0.5
        if dead:
            say(f"starting again: {', '.join(dead)}")
            try:
                services.again(dead)
            except Exception as error:  # as above
                say(_told(error))


def _told(error: Exception) -> str:
    return error.message if isinstance(error, ModelcdError) else f"{type(error).__name__}: {error}"


def main() -> None:
    """Serve until told to stop."""
    workspace = open_workspace()
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(workspace, stop), daemon=True) for work in (reconcile, revive)]
    for thread in threads:
        thread.start()
    app = application(Control(workspace))
    uvicorn.run(app, host="127.0.0.1", port=workspace.ports["control"], log_level="warning")
    stop.set()
    for thread in threads:
        thread.join(10.0)


if __name__ == "__main__":
    main()
