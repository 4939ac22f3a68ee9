"""The asking side of `modelcd.project.forkserver`: a process kept for as long as somebody has many commands to run.

What cannot be forked is no error here: the answer is nothing, and whoever asked starts a new interpreter, which will
say what is wrong if anything is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelcd.adapters.environment import PRIVATE


class ForkServer:
    """A process of *interpreter* in the folder *project* that forks commands, which have its *environment*."""

    def __init__(self, project: Path, interpreter: str, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._asking = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control, theirs = socket.socketpair()
        with theirs, contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [interpreter, "-P", "-X", "faulthandler", "-m", "modelcd.project.forkserver", str(theirs.fileno())],
                cwd=project,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                umask=PRIVATE,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, request: Sequence[str], lifeline: int, output: int, patience: float) -> Forked | None:
        """Return the process of *request* (command, arguments, result), or None; it begins with a byte in *lifeline*.

        Who does not answer within *patience* seconds is not asked again.
        """
        ours, theirs = socket.socketpair()
        asked, pid = json.dumps(list(request)).encode(), 0
        with theirs, self._asking:
            try:
                self._control.settimeout(patience)
                socket.send_fds(self._control, [asked], [theirs.fileno(), lifeline, output])
                pid = int(self._control.recv(64))
            except (OSError, ValueError):
                self._control.close()
        if pid:
            return Forked(pid, ours)
        ours.close()
        return None

    def end(self) -> None:
        """End the process; what it forked goes on."""
        self._control.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Forked:
    """A process that another one started, which says by *report* how it ended."""

    def __init__(self, pid: int, report: socket.socket) -> None:
        self.pid = pid
        self._report = report
        self._status: int | None = None
        self._waiting = threading.Lock()

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, below 0 for a signal; raises `subprocess.TimeoutExpired` after *timeout* seconds.

        When who started it is gone, nobody knows: then it is ended, and counts as killed.
        """
        with self._waiting:
            if self._status is None:
                self._report.settimeout(timeout)
                try:
                    said = self._report.recv(64)
                except TimeoutError:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from None
                except OSError:
                    said = b""
                self._report.close()
                self._status = int(said) if said else -signal.SIGKILL
        return self._status
