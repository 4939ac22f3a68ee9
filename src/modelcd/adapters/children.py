"""Runs user code in child processes: the `Project` port, and a judge of success that keeps its child.

Each call is a process in a session of its own, so that whatever it started can be ended with it.  Arguments and
result travel by file, since user code prints; what it printed is kept at its end, bounded, without secrets.  A child
holds a pipe to this process and ends when that closes: nobody trains on for a parent that was killed.

It is a new interpreter, or inside of `warm` the fork of one that has imported what it needs (`adapters/forkserver.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from modelcd.adapters.environment import PRIVATE, passed
from modelcd.adapters.forkserver import Forked, ForkServer
from modelcd.errors import ChildError, ProjectError
from modelcd.ports import ChildResult, Unjudged
from modelcd.project.environment import named

OUTPUT_LIMIT = 64 * 1024
"""Bytes of what a child printed that are kept, the last ones."""

PATIENCE = 60.0
"""Seconds until a fork server that does not answer is given up: it may be importing from a slow disk."""

DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
FIXED = {
    "DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PYTHONUNBUFFERED": "1",
}

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|DSN", re.IGNORECASE)


def environment(project: Path) -> dict[str, str]:
    """Return what a child of *project* has in its environment."""
    return {**DEFAULTS, **passed(os.environ, named(project)), **FIXED}


@contextlib.contextmanager
def warm(project: Path, interpreter: str = sys.executable) -> Iterator[None]:
    """Start the commands of *project* in milliseconds for the length of the block, from a process kept for that."""
    key = (Path(project).resolve(), interpreter)
    with _KEEPING:
        if mine := key not in _KEPT:
            _KEPT[key] = ForkServer(*key, environment(key[0]))
    try:
        yield
    finally:
        if mine:
            with _KEEPING:
                _KEPT.pop(key).end()


def _kept(key: tuple[Path, str], environment: Mapping[str, str]) -> ForkServer | None:
    """Return the process that is kept for *key*; one with another environment than a child would have is no good."""
    with _KEEPING:
        server = _KEPT.get(key)
        if server is not None and server.environment != environment:
            server.end()
            server = _KEPT[key] = ForkServer(*key, environment)
        return server


_KEPT: dict[tuple[Path, str], ForkServer] = {}
_KEEPING = threading.Lock()


class ChildProject:
    """The project in the folder *project*, run by *interpreter*, which must have modelcd too.

    With *log*, what each child printed is written there, a file per command.
    """

    def __init__(self, project: Path, interpreter: str = sys.executable, *, log: Path | None = None) -> None:
        self.project = Path(project).resolve()
        self.interpreter = interpreter
        self.log = log

    def call(self, command: str, arguments: Mapping[str, Any], *, budget: float, memory: int = 0) -> ChildResult:
        """Run *command* (see `modelcd.project.commands`); see `modelcd.ports.Project` for what it raises."""
        with tempfile.TemporaryDirectory(prefix="modelcd-", ignore_cleanup_errors=True) as place:
            result = Path(place) / "result.json"
            child = _Child(self, command, {"arguments": dict(arguments), "memory": memory}, Path(place))
            try:
                status = child.wait(budget)
                answer = result.read_text(encoding="utf-8") if result.is_file() else ""
            finally:
                # Before the child is ended: who kills this process in between leaves the rest of it to the child.
                shutil.rmtree(place, ignore_errors=True)
                output = child.end()
        self._keep(command, output)
        if status is None:
            raise ChildError(f"{command} did not end within {budget:g} s (budget)", help=_tail(output))
        if not answer:
            raise _without_result(command, status, memory, output)
        return ChildResult(_value(json.loads(answer)), output)

    def _keep(self, command: str, output: str) -> None:
        if self.log is not None:
            self.log.mkdir(parents=True, exist_ok=True)
            (self.log / f"{command}.log").write_text(output, encoding="utf-8")


LOST = 3
"""Pairs of one question at which a function may hang or end its process before the fault is its own."""


class _Silent(ChildError):
    """A judge's child gave no answer: it took too long, or it is gone."""


class SuccessJudge:
    """Asks the success functions of the project in *folder* (a snapshot), in a child that stays between questions.

    A child that is gone is started again for the next question.  Use it as a context manager, or call `close`.
    """

    def __init__(
        self, folder: Path, interpreter: str = sys.executable, *, budget: float = 30.0, start_budget: float = 60.0
    ) -> None:
        self.project = ChildProject(folder, interpreter)
        self.budget = budget
        self.start_budget = start_budget
        self._lock = threading.Lock()
        self._child: _Conversation | None = None

    def judge(self, guard: str, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Return for each (score, label) what the function of *guard* says: True or False, or a number.

        Where it raised, or returned anything else or a number out of its bounds, that is `Unjudged`; so it is where it
        took longer than the budget for one pair, or ended its process.  Raises `ChildError` when that came to pass more
        than `LOST` times, since then it is not the pairs; `ProjectError` when the snapshot cannot be loaded.
        """
        results: list[Any] = []
        lost = 0
        with self._lock:
            while len(results) < len(pairs):
                if self._child is None:
                    self._child = _Conversation(self.project, self.start_budget)
                question = {"guard": guard, "pairs": [list(pair) for pair in pairs[len(results) :]]}
                try:
                    for answer in self._child.ask(question, self.budget):
                        results.append(self._answered(answer))
                except _Silent as silent:
                    self._drop()
                    lost += 1
                    if lost > LOST:
                        raise ChildError(f"guard {guard!r}: {silent.message}", help=silent.help) from silent
                    results.append(Unjudged(f"guard {guard!r}: {silent.message}", silent.help))
                except BaseException:
                    self._drop()  # with the answers that nobody reads any more
                    raise
        return results

    def _answered(self, answer: Mapping[str, Any]) -> Any:
        result = _value(answer)
        if not isinstance(result, dict):
            return result
        environment = dict(os.environ)
        return Unjudged(*(_without_secrets(result[name], environment) for name in ("unjudged", "help")))

    def close(self) -> None:
        """End the child; the judge can be used again."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ChildSuccesses:
    """The `Successes` port: a child per snapshot, for the few that were asked for last."""

    def __init__(self, interpreter: str = sys.executable, *, budget: float = 30.0, keep: int = 4) -> None:
        self.interpreter = interpreter
        self.budget = budget
        self.keep = keep
        self._lock = threading.Lock()
        self._judges: dict[Path, SuccessJudge] = {}

    def judge(self, snapshot: Path, guard: str, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Judge *pairs* by the guard named *guard* in the project *snapshot*; see `SuccessJudge.judge`."""
        with self._lock:
            judge = self._judges.pop(snapshot, None) or SuccessJudge(snapshot, self.interpreter, budget=self.budget)
            self._judges[snapshot] = judge
            while len(self._judges) > self.keep:
                self._judges.pop(next(iter(self._judges))).close()
        return judge.judge(guard, pairs)

    def close(self) -> None:
        """End all children; the port can be used again."""
        with self._lock:
            while self._judges:
                self._judges.popitem()[1].close()


class _Child:
    """One process in its own session, with what it prints drained into a bounded memory."""

    def __init__(
        self, project: ChildProject, command: str, request: Mapping[str, Any], place: Path, fds: Sequence[int] = ()
    ) -> None:
        arguments = place / "arguments.json"
        arguments.write_text(json.dumps(request), encoding="utf-8")
        self.environment = environment(project.project)
        self._output = bytearray()
        asked = [command, str(arguments), str(place / "result.json")]
        lifeline, hold = os.pipe()
        printed, output = os.pipe()
        self._lifeline, self._printed = (os.fdopen(hold, "wb", buffering=0), os.fdopen(printed, "rb", buffering=0))
        try:
            self.process = self._forked(project, asked, lifeline, output, fds) or subprocess.Popen(
                [project.interpreter, "-P", "-X", "faulthandler", "-m", "modelcd.project.child", *asked],
                cwd=project.project,
                env=self.environment,
                stdin=lifeline,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE,
                pass_fds=fds,
            )
        except OSError as error:
            self._lifeline.close()
            self._printed.close()
            raise ProjectError(
                f"{command} could not be started in {project.project}: {error.strerror}",
                help=f"is there such a folder, and is {project.interpreter} a Python?",
            ) from error
        finally:
            os.close(lifeline)
            os.close(output)
        self._drain = threading.Thread(target=self._read, daemon=True, name=f"output of {command}")
        self._drain.start()

    def _forked(
        self, project: ChildProject, asked: Sequence[str], lifeline: int, output: int, fds: Sequence[int]
    ) -> Forked | None:
        server = None if fds else _kept((project.project, project.interpreter), self.environment)
        if server is None:
            return None
        forked = server.fork(asked, lifeline, output, PATIENCE)
        if forked is not None:
            with contextlib.suppress(BrokenPipeError):
                self._lifeline.write(b".")  # it waits for this: one that nobody knows of does nothing
        return forked

    def wait(self, budget: float) -> int | None:
        """Return the exit status; None when the process still runs after *budget* seconds."""
        try:
            return self.process.wait(timeout=budget)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> str:
        """End the whole group and return the last of what it printed."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._drain.join(timeout=1.0)
        self._lifeline.close()
        return _without_secrets(bytes(self._output).decode(errors="replace"), self.environment)

    def _read(self) -> None:
        with self._printed as stream:
            while chunk := os.read(stream.fileno(), 65_536):
                self._output += chunk
                del self._output[:-OUTPUT_LIMIT]


class _Conversation:
    """A child that answers line by line on a pair of pipes of its own."""

    def __init__(self, project: ChildProject, start_budget: float) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="modelcd-")
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        os.set_blocking(self._to, False)
        request = {"arguments": {"read": theirs_in, "write": theirs_out}, "memory": 0}
        self._rest = b""
        try:
            self._child = _Child(project, "judge", request, Path(self._place.name), (theirs_in, theirs_out))
        except BaseException:
            os.close(self._to)
            os.close(self._from)
            self._place.cleanup()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        try:
            _value(self._line(time.monotonic() + start_budget, "load"))
            self._place.cleanup()  # it has read its arguments; whoever kills this process leaves nothing
        except BaseException:
            self.end()
            raise

    def ask(self, question: Mapping[str, Any], budget: float) -> Iterator[Any]:
        """Give an answer for each pair of *question*; raises `_Silent` when one takes longer than *budget* seconds."""
        deadline = time.monotonic() + budget
        left = memoryview((json.dumps(question) + "\n").encode())
        while left:
            ready = select.select([], [self._to], [], max(0.0, deadline - time.monotonic()))[1]
            if not ready:
                raise _Silent(f"its function did not answer within {budget:g} s (budget)")
            try:
                left = left[os.write(self._to, left) :]
            except OSError as error:
                raise self._gone() from error
        for _ in question["pairs"]:
            yield self._line(time.monotonic() + budget, "answer")

    def end(self) -> None:
        """End the process and let go of the pipes."""
        self._child.end()
        for fd in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._place.cleanup()

    def _line(self, deadline: float, what: str) -> Any:
        while b"\n" not in self._rest:
            if not select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise _Silent(f"its function did not {what} in time (budget)")
            chunk = os.read(self._from, 1 << 20)
            if not chunk:
                raise self._gone()
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    def _gone(self) -> _Silent:
        status = self._child.wait(1.0)
        gone = _without_result("its function", status if status is not None else 0, 0, self._child.end())
        return _Silent(gone.message, help=gone.help)


def _value(answer: Mapping[str, Any]) -> Any:
    """Return what the child handed back, or raise what it reported."""
    if "value" in answer:
        return answer["value"]
    error = answer["error"]
    kind = ProjectError if error["kind"] == "ProjectError" else ChildError
    environment = dict(os.environ)
    raised = kind(_without_secrets(error["message"], environment), help=_without_secrets(error["help"], environment))
    for note in error["notes"]:
        raised.add_note(_without_secrets(note, environment))
    raise raised


def _without_result(command: str, status: int, memory: int, output: str) -> ChildError:
    if "No module named modelcd" in output or "No module named 'modelcd'" in output:
        return ChildError(f"{command} cannot run: modelcd is not installed for this Python", help=_tail(output))
    silent = "it printed nothing; does the project's code, or what it imports, call os._exit or abort?"
    if status < 0:
        silent = "it printed nothing; somebody ended it, or the machine was out of memory (see dmesg)"
        how = f"was ended by {signal.Signals(-status).name}"
        if memory:
            how += f" (its memory budget was {memory:,} MB)"
    else:
        how = f"ended by itself (exit status {status})"
    return ChildError(f"{command} {how} and left no result", help=_tail(output) or silent)


def _tail(output: str, lines: int = 12) -> str:
    return "\n".join(output.strip().splitlines()[-lines:])


def _without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Put the names of secret-looking environment variables in the place of their values."""
    for name, value in environment.items():
        if len(value) >= 6 and _SECRET.search(name):
            text = text.replace(value, f"<{name}>")
    return text
