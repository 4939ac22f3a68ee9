"""What a laptop needs running beside the models: Prefect, the gateway, the control API with its reconciler.

Each is a process of its own that outlives the command which started it; `Services.up` starts what does not run and
waits until it answers, `Services.down` ends all, and who did either stands in the journal.  A lock keeps two commands
from starting the same thing twice.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelcd.adapters.detached import Detached
from modelcd.adapters.environment import passed
from modelcd.adapters.guard import credential
from modelcd.adapters.locks import held
from modelcd.adapters.processes import ProcessRuntime
from modelcd.adapters.traefik import Doors, Gateway
from modelcd.errors import ConfigurationError, JournalError, Refused, RuntimeFailure, UnknownName
from modelcd.platform.downtime import note_down, note_up
from modelcd.workspace import LOCAL, Workspace, port_is_free

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
}
"""Nothing we start calls home."""

EVERYTHING = ("gateway", "prefect", "control", "deployments")
FOR_FLOWS = ("gateway", "prefect", "control")
"""What always runs; the control process starts the deployments, too, once something was scheduled."""

ON_DEMAND = ("mlflow",)
PATIENCE = 120.0
"""Seconds that a service may take until it answers; Prefect's first start makes its database and takes longest."""


def prefect_settings(workspace: Workspace) -> dict[str, str]:
    """Return the environment under which Prefect's client and server belong to *workspace*."""
    return {
        **QUIET,
        "PREFECT_HOME": str(workspace.path / "prefect"),
        "PREFECT_API_URL": f"http://{LOCAL}:{workspace.ports['prefect']}/api",
        # Not PREFECT_API_AUTH_STRING, which some of its websockets send only once they are open.
        "PREFECT_CLIENT_CUSTOM_HEADERS": json.dumps(credential(workspace.token)),
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{LOCAL}:{workspace.ports['prefect']}",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "PREFECT_RUNNER_SERVER_ENABLE": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
        "PREFECT_API_REQUEST_TIMEOUT": "15",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }


@dataclass(frozen=True)
class Services:
    """The service processes of one workspace."""

    workspace: Workspace

    def up(self, names: Iterable[str] = FOR_FLOWS, tell: Callable[[str], None] = lambda _: None) -> None:
        """Start those of *names* that do not run; returns when all answer.

        Raises `ConfigurationError` for a port that somebody else has, `RuntimeFailure` with the newest log lines.
        """
        wanted = list(names)
        with self._changing():
            if self._ended.exists():
                note_up(self.workspace)
                self._ended.unlink()
            self._start_missing(wanted, tell)
        self._await_all(wanted)

    def again(self, names: Iterable[str]) -> None:
        """Start those of *names* that died; raises `Refused` after `down`, and what `up` raises."""
        wanted = list(names)
        with self._changing():
            if self._ended.exists():
                raise Refused(
                    f"the workspace {self.workspace.path} was ended by `modelcd down`; nothing is lost",
                    help="modelcd up: what served serves again, and a release under way goes on where it stood",
                )
            self._start_missing(wanted)
        self._await_all(wanted)

    def down(self, reason: str = "") -> list[str]:
        """End every service and return the names of those that ran; nobody but `up` starts one again.

        Raises `JournalError`, once they have ended, when it cannot be recorded who did that and why.
        """
        from concurrent.futures import ThreadPoolExecutor

        trouble: JournalError | None = None
        with self._changing():
            self._ended.touch()
            try:
                if self.processes():
                    note_down(self.workspace, reason)
            except JournalError as error:
                trouble = error
        names = (*EVERYTHING, *ON_DEMAND)
        ran = [name for name in names if self.alive(name)]
        self._stop("control")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._stop, names))
        if trouble is not None:
            raise trouble
        return ran

    @property
    def _ended(self) -> Path:
        return self.workspace.path / "services" / "ended"

    def _changing(self) -> AbstractContextManager[None]:
        lock = self.workspace.path / "services" / "up.lock"
        return held(lock, "starting services", PATIENCE, RuntimeFailure)

    def _start_missing(self, names: Iterable[str], tell: Callable[[str], None] = lambda _: None) -> None:
        fresh = [name for name in names if not self.alive(name)]
        for name in fresh:
            self._refuse_taken_ports(name)
        for name in fresh:
            tell(name)
            self._start(name)

    def _await_all(self, names: Iterable[str]) -> None:
        deadline = time.monotonic() + PATIENCE
        for name in names:
            self._await(name, deadline)

    def processes(self) -> set[psutil.Process]:
        """Return every process of the workspace that lives: services and models."""
        records = (*self.workspace.path.glob("services/*.json"), *self.workspace.path.glob("gateway/*.json"))
        found = (Detached(record, record).process() for record in (*records, *self.workspace.path.glob("places/*.pid")))
        return {process for process in found if process is not None}

    def _stop(self, name: str) -> None:
        if name == "gateway":
            self.gateway.stop()
        else:
            self._detached(name).stop()

    def alive(self, name: str) -> bool:
        """Say whether the process of the service *name* lives."""
        return self.gateway.alive() if name == "gateway" else self._detached(name).alive()

    def died(self, names: Iterable[str]) -> list[str]:
        """Return those of *names*, the gateway not among them, that were started and ended without being told to."""
        return [name for name in names if self._detached(name).record.exists() and not self.alive(name)]

    def answers(self, name: str) -> bool:
        """Say whether the service *name* answers requests (or lives, if it has no address)."""
        url = self._health(name)
        if not url:
            return self.alive(name)
        if not self._detached(name).listens(self.workspace.ports[name]):
            return False
        import httpx  # only where somebody is asked: `status` looks at processes alone

        try:
            # Plain HTTP on the loopback: loading certificates would cost more than the question.
            headers = credential(self.workspace.token)
            return httpx.get(url, headers=headers, timeout=2.0, verify=False, trust_env=False).status_code < 400
        except httpx.HTTPError:
            return False

    def url(self, name: str) -> str:
        """Return the address of the service *name* for people."""
        if name not in self.workspace.ports:
            raise UnknownName("service", name, self.workspace.ports)
        return f"http://{LOCAL}:{self.workspace.ports[name]}"

    @property
    def gateway(self) -> Gateway:
        """The gateway's process."""
        place = self.workspace
        doors = Doors(place.token, place.allowed["hosts"], place.allowed["origins"])
        return Gateway(place.path / "gateway", place.ports["gateway"], place.ports["gateway-admin"], doors)

    def _detached(self, name: str) -> Detached:
        folder = self.workspace.path / "services"
        return Detached(folder / f"{name}.json", folder / f"{name}.log")

    def _start(self, name: str) -> None:
        if name == "gateway":
            self._replace_stale_endpoints()
            return self.gateway.start()
        env = {**inherited(name), **prefect_settings(self.workspace), "MODELCD_WORKSPACE": str(self.workspace.path)}
        env.pop("MODELCD_ENVIRONMENTS", None)  # the workspace remembers it, and may be given another
        if name == "prefect":
            env.pop("PREFECT_API_URL")
        env.setdefault("OMP_NUM_THREADS", "1")
        self._detached(name).start(self._command(name), env=env, cwd=self.workspace.path)

    def _replace_stale_endpoints(self) -> None:
        """Let the gateway answer 503 for models that all ended: their ports may be somebody else's by now.

        The next tick of such an endpoint starts its champion and tells the gateway anew.
        """
        models = ProcessRuntime(self.workspace.path / "places").instances()
        addresses = [f'"{model.address}"' for model in models if model.alive]
        for told in self.gateway.endpoints():
            text = told.read_text(encoding="utf-8")
            if not any(address in text for address in addresses):
                self.gateway.forget(told)

    def _refuse_taken_ports(self, name: str) -> None:
        """Raise `ConfigurationError` when somebody else has a port of the service *name*."""
        for wanted in (name, f"{name}-admin"):
            port = self.workspace.ports.get(wanted)
            if port is not None and not port_is_free(port):
                raise ConfigurationError(
                    f"port {port}, which {wanted} of this workspace uses, is taken by {holder_of(port)}",
                    help=f"end that process, or choose another port: modelcd up --port {wanted}={port + 100}",
                )

    def _command(self, name: str) -> list[str]:
        run = [sys.executable, "-m"]
        port = str(self.workspace.ports.get(name, 0))
        commands: Mapping[str, list[str]] = {
            "prefect": [*run, "modelcd.flows.server"],
            "control": [*run, "modelcd.api"],
            "deployments": [*run, "modelcd.flows.deployments"],
            "mlflow": [
                *run,
                "modelcd.adapters.mlflow_pages",
                registry_uri(self.workspace),
                port,
                str(self.workspace.token_file),
            ],
        }
        if name not in commands:
            raise UnknownName("service", name, commands)
        return commands[name]

    def _health(self, name: str) -> str:
        paths = {"prefect": "/api/health", "control": "/v1/health", "mlflow": "/health"}
        return self.url(name) + paths[name] if name in paths else ""

    def _await(self, name: str, deadline: float) -> None:
        while not self.answers(name):
            if not self.alive(name):
                raise RuntimeFailure(f"{name} ended while starting:\n{self._detached(name).tail()}")
            if time.monotonic() > deadline:
                raise RuntimeFailure(f"{name} did not answer within {PATIENCE:g} s", help=f"its log: {self.log(name)}")
            time.sleep(0.05)

    def log(self, name: str) -> Path:
        """Return the log file of the service *name*."""
        return self._detached(name).log


def inherited(name: str) -> dict[str, str]:
    """Return what the service *name* gets of our environment.

    Those that start the projects' code, or one of these again, have all of it, to pass on what a project names; the
    others what programs need.
    """
    if name not in ("control", "deployments", "prefect"):
        return passed(os.environ)
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def registry_uri(workspace: Workspace) -> str:
    """Return the address of the MLflow store of *workspace*."""
    return f"sqlite:///{workspace.path / 'registry' / 'mlflow.db'}"


def holder_of(port: int) -> str:
    """Say which process listens on *port*, as far as the system tells."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return "another process"


def forget(workspace: Workspace) -> None:
    """Remove *workspace* from the disk, everything in it included."""
    shutil.rmtree(workspace.path, ignore_errors=True)
