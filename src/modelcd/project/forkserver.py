"""The fork server of a project, `python -m modelcd.project.forkserver SOCKET`: it starts commands in milliseconds.

A delivery asks its project ten things, and a new interpreter for each would import pandas and scikit-learn each time.
This one imports them once and forks for each command: what that does, it does in a process and a session of its own,
with the modules as they were before any other and the project's files as they are then.  No code of the project ever
runs here, and nothing is imported that training would not import anyway: what every training needs, and of a few
libraries that are known to survive a fork whatever the project's files name.

Trade-off: a fork has what its parent has, so whatever could tell it from a fresh interpreter is refused rather than
mended.  Where a thread runs, where the project has a module with the name of one that was imported here, and on
anything but Linux, the answer is no, and whoever asked starts a new interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

from modelcd.project import child, commands
from modelcd.project.libraries import libraries
from modelcd.project.slicing import distributions

NEEDED = ("modelcd.project.data", "modelcd.project.rows", "modelcd.project.training", "pyarrow.parquet")
"""What data and training need of any project."""

HARMLESS = frozenset({"jemalloc_bg_thd"})
"""Threads that are taken care of around a fork by whoever started them: pyarrow's second allocator."""

REQUEST = 65_536


class Server:
    """Forks a process for each request that comes by *control*, until that is closed."""

    def __init__(self, control: socket.socket, project: Path) -> None:
        self._control = control
        self._project = project
        self._reports: dict[int, socket.socket] = {}
        self._bare = _top_levels()
        self._ended, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        self._wake = wake

    def load(self) -> None:
        """Import what commands will need."""
        gc.disable()  # next to nothing of what importing makes is garbage, and looking for it is a fifth of the time
        for name in (*NEEDED, *libraries(self._project)):
            with contextlib.suppress(Exception):  # the command that needs it will say what is wrong
                importlib.import_module(name)
        distributions()
        gc.freeze()  # what is here stays: forks need not look at it, and share its memory
        gc.enable()

    def serve(self) -> None:
        """Answer requests, and report each process that ended."""
        while True:
            ready = select.select([self._control.fileno(), self._ended], [], [])[0]
            if self._ended in ready:
                os.read(self._ended, REQUEST)
                self._report()
            if self._control.fileno() in ready:
                message, fds, *_ = socket.recv_fds(self._control, REQUEST, 3)
                if not message:
                    return
                self._answer(json.loads(message), fds)

    def _answer(self, request: list[str], fds: list[int]) -> None:
        report, lifeline, output = fds
        pid = self._fork(request, lifeline, output, report) if self._may_fork() else 0
        for fd in (lifeline, output):
            os.close(fd)
        if pid:
            self._reports[pid] = socket.socket(fileno=report)
        else:
            os.close(report)
        self._control.sendall(f"{pid}\n".encode())

    def _may_fork(self) -> bool:
        return sys.platform == "linux" and not _threads() and not self._shadowed()

    def _shadowed(self) -> bool:
        """Say whether the project has a module of the name of one that is here, and would not be in a new process."""
        ahead = _top_levels() - self._bare
        with os.scandir(self._project) as entries:
            found = [entry for entry in entries if entry.name.partition(".")[0] in ahead]
        return any(entry.name.endswith(".py") or Path(entry, "__init__.py").is_file() for entry in found)

    def _fork(self, request: list[str], lifeline: int, output: int, report: int) -> int:
        begun, begin = os.pipe()
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of threads: see HARMLESS
            pid = os.fork()
        if pid == 0:
            for other in (self._control, *self._reports.values()):
                other.close()
            for fd in (self._ended, report, begun):
                os.close(fd)
            signal.set_wakeup_fd(-1)
            os.close(self._wake)
            _become(request, lifeline, output, begin, self._project)
        os.close(begin)
        os.read(begun, 1)  # until it has a session of its own: whoever is told its id may end the whole of it
        os.close(begun)
        return pid

    def _report(self) -> None:
        for pid in list(self._reports):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with self._reports.pop(pid) as report, contextlib.suppress(OSError):
                    report.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: list[str], lifeline: int, output: int, begin: int, project: Path) -> None:
    """Become the process of one command: nothing of the server's is left but its modules."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for source, target in ((lifeline, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.write(begin, b".")
        for fd in (lifeline, output, begin):
            os.close(fd)
        if not os.read(0, 1):
            return  # whoever asked is gone, or does not know of this process
        os.chdir(project)
        importlib.invalidate_caches()
        _other_chances()
        child.main(request)
    finally:
        os._exit(70)


def _other_chances() -> None:
    """Let each process have chances of its own, as new ones have; `random` sees to that by itself."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _top_levels() -> set[str]:
    return {name.partition(".")[0] for name in list(sys.modules)}


def _threads() -> set[str]:
    """Return the names of threads besides this one that a fork would leave behind."""
    me, found = str(os.getpid()), set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):
            name = Path("/proc/self/task", thread, "comm").read_text(encoding="utf-8", errors="replace").strip()
            found |= {name} if thread != me else set()
    return found - HARMLESS


if __name__ == "__main__":
    assert commands.COMMANDS, "what a new process has, too, before it looks at the project"
    server = Server(socket.socket(fileno=int(sys.argv[1])), Path.cwd())
    server.load()
    server.serve()
