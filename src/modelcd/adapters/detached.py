"""A process of ours that outlives whoever started it.

It is known by its pid *and* start time, written to a record file: a pid alone is used again by the system, and names
are shared.  A process that has ended and was not waited for yet counts as ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelcd.adapters.environment import PRIVATE
from modelcd.errors import RuntimeFailure


class Outliving(subprocess.Popen[bytes]):
    """A process that may outlive this one, which may let go of it while it runs: no reason for Python to warn."""

    def __del__(self, *_: object) -> None:
        """Leave the process to whoever finds its record."""


@dataclass(frozen=True)
class Detached:
    """The process recorded in *record*, printing into *log*."""

    record: Path
    log: Path

    def start(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
        """Start *command* in a session of its own and record it; returns its pid.  Raises `RuntimeFailure`."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("ab") as log:
                process = Outliving(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=dict(env),
                    start_new_session=True,
                    umask=PRIVATE,
                )
            self.adopt(process)
        except OSError as error:
            raise RuntimeFailure(f"could not start {command[0]}: {error.strerror or error}") from error
        return process.pid

    def adopt(self, process: Outliving) -> None:
        """Record *process*, which this very process started, in a session of its own, as the one that is meant."""
        self._write(process.pid)
        _children[process.pid] = process

    def process(self) -> psutil.Process | None:
        """Return the process if it lives."""
        try:
            known = json.loads(self.record.read_text())
            process = psutil.Process(int(known["pid"]))
            same = abs(_started(process) - float(known["started"])) < 0.05
            alive = same and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        if not alive:
            self._reap()
        return process if alive else None

    def alive(self) -> bool:
        """Say whether the process lives."""
        return self.process() is not None

    def listens(self, port: int) -> bool:
        """Say whether the process, or one that it started, is who listens on *port*: others may answer there, too."""
        process = self.process()
        if process is None:
            return False
        with contextlib.suppress(psutil.Error):
            for one in (process, *process.children(recursive=True)):
                for open_one in one.net_connections("tcp"):
                    if open_one.status == psutil.CONN_LISTEN and open_one.laddr and open_one.laddr.port == port:
                        return True
        return False

    def stop(self, grace: float = 10.0) -> None:
        """Ask the process to end, end its whole group after *grace* seconds, and forget it."""
        process = self.process()
        if process is not None:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                process.terminate()
                _await_end(process, grace)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            _await_end(process, 1.0)
            if (child := _children.get(process.pid)) is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(1.0)  # it may be there still for its last threads
        self._reap()
        self.record.unlink(missing_ok=True)

    def tail(self, lines: int = 20) -> str:
        """Return the newest *lines* of the log."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - 400 * lines))
                return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _write(self, pid: int) -> None:
        started = _started(psutil.Process(pid))
        temporary = self.record.with_suffix(".new")
        temporary.write_text(json.dumps({"pid": pid, "started": started}))
        os.replace(temporary, self.record)

    def _reap(self) -> None:
        for pid, child in list(_children.items()):
            if child.poll() is not None:
                _children.pop(pid, None)  # another thread may reap, too


def _await_end(process: psutil.Process, patience: float) -> None:
    """Wait until *process* has ended, for *patience* seconds at most.

    Not psutil's `wait`: that one waits until whoever started the process has taken note of its end, which may be late.
    """
    deadline = time.monotonic() + patience
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)


def _started(process: psutil.Process) -> float:
    """Return when *process* began, in seconds since the machine did: setting the clock does not change that."""
    return float(process.create_time() - psutil.boot_time())


_children: dict[int, Outliving] = {}
"""Processes that this very process started, to be waited for once they have ended."""
