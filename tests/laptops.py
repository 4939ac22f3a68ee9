"""The laptop's real adapters around a light model server: forked drivers that are really killed, users that really ask.

The server keeps the model contract with the standard library alone; time goes `SPEED` times as fast as outside, for
everybody who uses the clock.  Whatever opens a database does so in a forked child, never in the test's own process: a
connection must not be carried over a fork.
"""

from __future__ import annotations

import http.client
import json
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import stories

from modelcd.adapters.http import HttpScoring
from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.memory import Prediction
from modelcd.adapters.memory_project import MemorySuccesses
from modelcd.adapters.mlflow import MlflowRegistry
from modelcd.adapters.predictions import SpoolPredictions
from modelcd.adapters.processes import ProcessRuntime
from modelcd.adapters.traefik import Gateway, TraefikMetrics, TraefikRouter
from modelcd.artifact import digest_of
from modelcd.domain.versions import Lineage
from modelcd.environment import Environment
from modelcd.ports import Build, Unit

SPEED = 12.0
"""How many seconds the clock goes on in one."""

ORIGIN = time.time()

SERVER = """
import http.server, json, os, sys
factor = {"d1": 0.1, "d2": 0.2}.get(open(os.path.join(sys.argv[1], "model")).read(), 0.3)
me = {"model": os.environ["MODELCD_MODEL"], "version": os.environ["MODELCD_VERSION"]}
asked = []  # whether anybody saw that it is ready, before it was given anything to do
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def say(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path != "/readyz":
            return self.say(404, {"error": "there is nothing here"})
        asked.append(1)
        self.say(200, me)
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            rows = json.loads(body)["rows"]
            if not isinstance(rows, list) or not rows:
                raise ValueError("rows are a list")
            self.say(200, {"scores": [row["x"] * factor for row in rows], "proven": bool(asked), **me})
        except (ValueError, KeyError, TypeError) as error:
            self.say(422, {"error": "bad rows: " + repr(error)})
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Hurried:
    """A `Clock` that goes `SPEED` times as fast, the same for all processes."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(ORIGIN, UTC) + timedelta(seconds=(time.time() - ORIGIN) * SPEED)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds) / SPEED)


@dataclass(frozen=True)
class Laptop:
    """A workspace in *folder* and the gateway in front of it; the server's code is in *script*."""

    folder: Path
    gateway: Gateway
    script: Path

    def environment(self, name: str) -> Environment:
        """Bind the environment *name* anew."""
        return Environment(
            name=name,
            journal=SqlJournal(self.folder / "journal" / "journal.db"),
            registry=MlflowRegistry(f"sqlite:///{self.folder}/registry/mlflow.db", self.folder / "registry" / "files"),
            runtime=ProcessRuntime(self.folder / "places", self.command),
            scoring=HttpScoring(),
            router=TraefikRouter(self.gateway),
            metrics=TraefikMetrics(self.gateway),
            predictions=SpoolPredictions(self.folder / "predictions"),
            successes=MemorySuccesses({"success": stories.right}),
            clock=Hurried(),
        )

    def environments(self) -> dict[str, Environment]:
        """Bind all environments."""
        return {name: self.environment(name) for name in stories.ENVIRONMENTS}

    def command(self, unit: Unit) -> list[str]:
        """Return the command of the light server for *unit*."""
        return [sys.executable, "-I", "-S", str(self.script), str(unit.artifact)]

    def log(self, said: Sequence[Prediction]) -> None:
        """Keep predictions as a server of production does."""
        spool = SpoolPredictions(self.folder / "predictions").spool(stories.STREAM)
        spool.mkdir(parents=True, exist_ok=True)
        with (spool / "server.jsonl").open("a") as file:
            file.writelines(json.dumps({**vars(one), "at": ""}) + "\n" for one in said)

    def servers(self) -> list[psutil.Process]:
        """Return every process that runs the server's code, known to the runtime or not."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.script) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def clear(self) -> None:
        """End every server, and forget everything."""
        for process in self.servers():
            with suppress(psutil.Error):
                process.kill()
        until(lambda: not self.servers())
        shutil.rmtree(self.folder, ignore_errors=True)
        for told in self.gateway.endpoints():
            told.unlink()


def warm(folder: Path) -> None:
    """Import what a driver needs and takes long to import, before it is forked."""
    stories.train(folder / "built", "d1")
    lineage = Lineage(training="warm", code="", data="")
    build = Build(stories.MODEL, folder / "built", digest_of(folder / "built"), lineage)
    MlflowRegistry(f"sqlite:///{folder}/mlflow.db", folder).add(build)


def until(true: Callable[[], bool], seconds: float = 20.0, what: str = "it did not happen in time") -> None:
    """Wait for *true* to hold."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def in_child(function: Callable[[], Any], seconds: float = 60.0) -> tuple[bool, Any]:
    """Call *function* in a forked process; return whether that was killed, and what it returned.

    Raises what the function raised, and `AssertionError` when it takes longer than *seconds*.
    """
    pid, read = forked(function)
    alarm = threading.Timer(seconds, os.kill, (pid, signal.SIGABRT))
    alarm.start()
    with os.fdopen(read, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(pid, 0)
    alarm.cancel()
    alarm.join()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"it was ended by signal {os.WTERMSIG(status)}"
        return True, None
    result = pickle.loads(said)
    if isinstance(result, BaseException):
        raise result
    return False, result


def forked(function: Callable[[], Any]) -> tuple[int, int]:
    """Call *function* in a forked process; return its pid and where to read what it returned or raised, pickled."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        os.close(read)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            result = function()
        except BaseException as error:
            result = AssertionError(f"{type(error).__name__}: {error}")
            if os.environ.get("MODELCD_KILLS_TRACE"):
                import traceback

                traceback.print_exc()
        with os.fdopen(write, "wb") as stream:
            pickle.dump(result, stream)
    finally:
        os._exit(0)


@dataclass(frozen=True)
class Answered:
    """What a user saw: `status` (0: no answer), who answered, who the gateway says did, whether it had been probed."""

    status: int
    version: str = ""
    stamp: str = ""
    proven: bool = False


def ask(port: int, endpoint: str, connection: http.client.HTTPConnection | None = None) -> Answered:
    """Ask *endpoint* for one score, as a user does."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        own.request("POST", f"/{endpoint}/predict", body=b'{"rows": [{"x": 1.0}]}')
        answer = own.getresponse()
        body = answer.read()
        if answer.status != 200:
            return Answered(answer.status)
        said = json.loads(body)
        return Answered(200, said["version"], answer.headers.get("x-version", ""), said["proven"])
    except (OSError, http.client.HTTPException, ValueError):
        own.close()
        return Answered(0)
    finally:
        if connection is None:
            own.close()


def use(port: int, pause: float = 0.01, log: Path | None = None) -> None:
    """Ask production for scores for ever, as users do; keep in *log* what each request saw, and when it began."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    clock = Hurried()
    with (log or Path(os.devnull)).open("a", buffering=1) as file:
        while True:
            began = clock.now()
            answer = ask(port, stories.STREAM, connection)
            file.write(json.dumps({"at": began.isoformat(), **vars(answer)}) + "\n")
            time.sleep(pause)


def strays(laptop: Laptop, environments: Mapping[str, Environment]) -> tuple[str, ...]:
    """Name the servers that run and that the runtime does not know."""
    known = {i.detail for i in environments["production"].runtime.instances() if i.alive}
    return tuple("a server that nobody knows runs" for p in laptop.servers() if f"process {p.pid}" not in known)
