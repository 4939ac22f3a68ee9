"""Models as processes of this machine, detached from whoever started them.

Each instance has a record in the folder: what was meant (the unit, its port), written before the process is started,
and who it is (pid and start time), written after.  A starter that dies between the two leaves a process that no
record knows; it carries the record's token in its environment, so the next start or stop finds and ends it.  There
is no supervisor: whoever looks sees what died, and starting it again is the caller's decision.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from modelcd.adapters.detached import Detached, Outliving
from modelcd.adapters.environment import PRIVATE, passed
from modelcd.adapters.locks import held
from modelcd.artifact import read_manifest, toolchain_changes
from modelcd.errors import ConfigurationError, RuntimeFailure
from modelcd.ports import Instance, Still, Unit, always

TOKEN = "MODELCD_INSTANCE"
"""The variable by which the processes of one start of an instance know each other."""

SETTINGS = ("MODELCD_LOG", "MODELCD_BODY_LIMIT", "MODELCD_DRAIN")
"""What tunes our model server, and is passed to it."""

GRACE = 10.0
"""Seconds between asking a model to end and ending it."""

_WAIT = 30.0
"""Seconds to wait for another process that starts or stops the same instance: more than it takes to stop one."""


def serving_command(unit: Unit) -> list[str]:
    """Return the command of our model server, run by the unit's own interpreter.

    Raises `RuntimeFailure` when that Python is not the one the version was built with any more.
    """
    interpreter = unit.interpreter or sys.executable
    if changes := _toolchain_changes(interpreter, unit):
        pins = " ".join(f"'{change.split(',')[0].replace(' ', '==')}'" for change in changes if "python" not in change)
        raise RuntimeFailure(
            f"version {unit.version} of {unit.model} was built with another toolchain: {'; '.join(changes)}",
            help=f"put it back ({interpreter} -m pip install {pins}), or build and deliver the model anew",
        )
    return [interpreter, "-m", "modelcd.serving", str(unit.artifact)]


def _toolchain_changes(interpreter: str, unit: Unit) -> list[str]:
    command = [interpreter, "-m", "modelcd.artifact", str(unit.artifact)]
    try:
        if interpreter == sys.executable:  # this very Python: starting it once more would only cost time
            return toolchain_changes(read_manifest(unit.artifact))
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_WAIT, check=True)
        return [str(change) for change in json.loads(asked.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError, ConfigurationError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise RuntimeFailure(
            f"{interpreter} cannot run version {unit.version} of {unit.model}: {said[-1] if said else error}",
            help="is modelcd installed for this Python, and is the artifact whole?",
        ) from error


class ProcessRuntime:
    """A `Runtime` of processes whose records and logs are in *folder*.

    *command* says what to run for a unit.  *predictions* gives the folder in which the servers of a place log what
    they answered (see `SpoolPredictions.spool`), *gateway* the secret by which they know what came through the gateway;
    without them they are not told to log.
    """

    def __init__(
        self,
        folder: Path,
        command: Callable[[Unit], list[str]] = serving_command,
        *,
        predictions: Callable[[str], Path] | None = None,
        gateway: str = "",
    ) -> None:
        self._folder = folder
        self._command = command
        self._predictions = predictions
        self._gateway = gateway

    def start(self, unit: Unit, still: Still = always) -> Instance:
        """Start *unit* unless it lives already; returns before it is ready.  Raises `RuntimeFailure`."""
        with self._alone(unit.id), _door(f"{unit.id} could not be started"):
            there = self._find(unit.id)
            if there is not None and self._process(unit.id).alive():
                if there.digest != unit.digest:
                    raise RuntimeFailure(
                        f"{unit.id} runs {there.digest}, not {unit.digest}",
                        help="stop the one that runs; a version's artifact never changes",
                    )
                return self._instance(there)
            if there is not None:
                _end_strays(there.token)
            command = self._command(unit)
            still()
            record = _Record.of(unit, _free_port({known.port for known in self._records()}))
            self._write(record)
            try:
                environment = self._environment(unit, record)
                if not self._by_spare(unit, command, environment):
                    self._process(unit.id).start(command, env=environment, cwd=self._folder.absolute())
            except RuntimeFailure:
                if there is None:
                    self._path(unit.id, "json").unlink(missing_ok=True)
                raise
            return self._instance(record)

    def instances(self, place: str = "") -> list[Instance]:
        """Return what was started in *place* (everywhere when empty) and not stopped, dead ones included."""
        with _door("what runs could not be seen"):
            return [self._instance(record) for record in self._records() if place in ("", record.place)]

    def stop(self, instance: str, still: Still = always) -> None:
        """Ask the instance to end, end its whole process group after `GRACE` seconds, and forget it; its log stays."""
        with self._alone(instance), _door(f"{instance} could not be stopped"):
            record = self._find(instance)
            if record is None:
                return
            still()
            self._process(instance).stop(GRACE)
            _end_strays(record.token)
            self._path(instance, "json").unlink(missing_ok=True)

    def log(self, instance: str, lines: int = 50) -> str:
        """Return the newest *lines* that the instance printed, also after it died or was stopped."""
        return self._process(instance).tail(lines) if lines > 0 else ""

    def _by_spare(self, unit: Unit, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Let a spare server become the instance, if there is one; it is recorded before its orders let it live on.

        A unit with an environment of its own gets one that has imported nothing but the server.
        """
        *program, folder = command
        spare = _taken(program, plain=bool(unit.environment))
        if spare is None:
            return False
        process = self._process(unit.id)
        process.adopt(spare.process)
        cwd, log = self._folder.absolute(), process.log.absolute()
        return spare.order({"folder": folder, "environment": dict(environment), "cwd": str(cwd), "log": str(log)})

    def _environment(self, unit: Unit, record: _Record) -> dict[str, str]:
        environment = _inherited()
        if self._predictions is not None:
            spool = self._predictions(unit.place).absolute() / f"{unit.version}.jsonl"
            environment |= {"MODELCD_PREDICTIONS": str(spool), "MODELCD_GATEWAY": self._gateway}
        return {
            **environment,
            **unit.environment,
            "PORT": str(record.port),
            "MODELCD_MODEL": unit.model,
            "MODELCD_VERSION": str(unit.version),
            TOKEN: record.token,
        }

    def _instance(self, record: _Record) -> Instance:
        process = self._process(record.id).process()
        return Instance(
            id=record.id,
            place=record.place,
            model=record.model,
            version=record.version,
            digest=record.digest,
            address=f"http://127.0.0.1:{record.port}",
            alive=process is not None,
            detail=f"process {process.pid}" if process is not None else "its process is gone",
        )

    def _records(self) -> list[_Record]:
        paths = sorted(self._folder.glob("*.json"))
        return sorted((r for path in paths if (r := _read(path)) is not None), key=lambda record: record.id)

    def _find(self, instance: str) -> _Record | None:
        return _read(self._path(instance, "json"))

    def _write(self, record: _Record) -> None:
        path = self._path(record.id, "json")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        os.replace(temporary, path)

    def _process(self, instance: str) -> Detached:
        return Detached(record=self._path(instance, "pid"), log=self._path(instance, "log"))

    def _path(self, instance: str, kind: str) -> Path:
        return self._folder / f"{quote(instance, safe='@')}.{kind}"

    def _alone(self, instance: str) -> contextlib.AbstractContextManager[None]:
        return held(self._path(instance, "lock"), f"the instance {instance}", _WAIT, RuntimeFailure)


@dataclass(frozen=True)
class _Record:
    """An instance as it was meant."""

    id: str
    place: str
    model: str
    version: int
    digest: str
    port: int
    token: str

    @classmethod
    def of(cls, unit: Unit, port: int) -> _Record:
        return cls(unit.id, unit.place, unit.model, unit.version, unit.digest, port, secrets.token_hex(16))


@contextmanager
def spares() -> Iterator[None]:
    """Let servers that are started in the block be spare ones, where `foresee` has begun one; what is left is ended."""
    with _SPARING:
        _SPARES.append([])
    try:
        yield
    finally:
        with _SPARING:
            left = _SPARES.pop()
        for spare in left:
            spare.end()


def foresee(modules: Sequence[str], *, servers: int = 2, interpreter: str = sys.executable) -> None:
    """Begin a server that will soon be wanted, in a block of `spares`: it imports *modules* and waits for its orders.

    As many as *servers* are begun, one at a time: the next when the one before is taken.  Without *modules* it knows
    nothing of any model, and becomes one that has to prove that it starts from nothing.
    """
    with _SPARING:
        if _SPARES and servers > 0:
            _SPARES[-1].append(_Spare((interpreter, "-m", "modelcd.serving"), tuple(modules), servers))


class _Spare:
    """A server that waits for its orders, the first of *servers*."""

    def __init__(self, program: tuple[str, ...], modules: tuple[str, ...], servers: int) -> None:
        self.program, self.modules, self.servers = program, modules, servers
        self.process = Outliving(
            [*program, "--spare", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_inherited(),
            start_new_session=True,
            umask=PRIVATE,
        )

    def order(self, orders: Mapping[str, Any]) -> bool:
        """Give it its orders; says whether there was somebody to take them."""
        assert self.process.stdin is not None, "it was started with a pipe"
        try:
            with self.process.stdin as stdin:
                stdin.write(json.dumps(orders).encode() + b"\n")
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it, if it has not ended yet, and let go of it."""
        self.process.kill()
        self.process.communicate()


def _taken(program: Sequence[str], *, plain: bool) -> _Spare | None:
    """Return a spare server of *program* that lives, a *plain* one or one with modules, and begin the next one."""
    with _SPARING:
        for waiting in reversed(_SPARES):
            for spare in waiting:
                if spare.program == tuple(program) and plain is not bool(spare.modules):
                    waiting.remove(spare)
                    if spare.servers > 1:
                        waiting.append(_Spare(spare.program, spare.modules, spare.servers - 1))
                    if spare.process.poll() is None:
                        return spare
                    spare.end()
    return None


def _inherited() -> dict[str, str]:
    # What was meant for our own interpreter (PYTHONPATH, PYTHONHOME, …) would mislead the unit's.
    inherited = {n: value for n, value in passed(os.environ, SETTINGS).items() if not n.startswith("PYTHON")}
    environment = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **inherited}
    environment.pop("VIRTUAL_ENV", None)
    return environment


_SPARES: list[list[_Spare]] = []
_SPARING = threading.Lock()


def _read(path: Path) -> _Record | None:
    try:
        plain: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return _Record(**plain)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise RuntimeFailure(
            f"the record of an instance, {path}, cannot be understood: {error}",
            help="end that process by hand, then remove the record",
        ) from error


def _free_port(taken: set[int]) -> int:
    # A recorded port is not given again, even when free: an instance just started may not have opened its own yet,
    # and one that died may still be known to a gateway.
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _end_strays(token: str) -> None:
    """End what is left of a start: processes of the group that outlived the first, or one that was never recorded."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(TOKEN) == token:
                process.kill()


@contextmanager
def _door(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, psutil.Error) as error:
        raise RuntimeFailure(f"{what}: {error}", help="see its log; check the disk, permissions and limits") from error
