"""Runs that stand on Prefect's pages as running although whoever drove them was killed.

Prefect hears of the end of a run from the run itself.  So each tells at its beginning which process drives it, and the
control process closes those whose process is gone.  Plain HTTP: importing Prefect's client would cost the control
process more memory than everything else in it.
"""

from __future__ import annotations

import socket
from typing import Any

import httpx
import psutil

from modelcd.adapters.guard import credential
from modelcd.platform.services import Services

TOLERANCE = 0.05
"""Seconds by which two readings of a process's start may differ."""

SAID = (
    "Its driver ended without a word. A release under way goes on without it, anything else begins anew with the next"
    " delivery: modelcd status"
)


def driver_of(process: psutil.Process) -> str:
    """Name *process* so that it is known again: machine, pid and start time."""
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def gone(driver: str) -> bool:
    """Say whether *driver* is a process of this machine that has ended; of anybody else nothing is known."""
    host, _, rest = driver.rpartition(":")[0].rpartition(":")
    try:
        pid, started = int(rest), float(driver.rpartition(":")[2])
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < TOLERANCE
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def close_abandoned(services: Services) -> list[str]:
    """Close every run whose driver is gone, and its tasks, as crashed; returns the names of the runs.

    Raises `httpx.HTTPError` when Prefect's server cannot be told; the next time may do.
    """
    running = {"state": {"type": {"any_": ["RUNNING"]}}}
    closed = []
    api_of, headers = f"{services.url('prefect')}/api/", credential(services.workspace.token)
    with httpx.Client(base_url=api_of, headers=headers, timeout=10.0, verify=False, trust_env=False) as api:
        for run in _asked(api, "flow_runs/filter", {"flow_runs": running}):
            if not gone(str(run["infrastructure_pid"] or "")):
                continue
            of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}, "task_runs": running}
            for one in _asked(api, "task_runs/filter", of_run):
                _crashed(api, f"task_runs/{one['id']}")
            _crashed(api, f"flow_runs/{run['id']}")
            closed.append(str(run["name"]))
    return closed


def _crashed(api: httpx.Client, run: str) -> None:
    _asked(api, f"{run}/set_state", {"state": {"type": "CRASHED", "name": "Abandoned", "message": SAID}, "force": True})


def _asked(api: httpx.Client, path: str, question: dict[str, Any]) -> Any:
    answer = api.post(path, json=question)
    answer.raise_for_status()
    return answer.json()
