"""Runtimes: what all keep, and what the one of processes keeps when processes die, linger or are not ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelcd.adapters.detached import Detached
from modelcd.adapters.memory import MemoryRuntime, MemoryScoring
from modelcd.adapters.processes import ProcessRuntime, serving_command
from modelcd.artifact import Manifest, write_manifest
from modelcd.errors import CannotTell, NotReady, RuntimeFailure
from modelcd.ports import Instance, Unit
from modelcd.testing.runtime import PLACE, RuntimeContract

UNIT = Unit(place=PLACE, model="flights", version=1, digest="sha256:one", artifact=Path("artifact"))

SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"environment": dict(os.environ), "cwd": os.getcwd(), "session": os.getsid(0)}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("naïve line one"); print("serving", file=sys.stderr)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for *true* to hold."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def run(code: str) -> Callable[[Unit], list[str]]:
    """A command that runs *code* for any unit."""
    return lambda _: [sys.executable, "-c", code]


def gone(process: psutil.Process) -> bool:
    """Say whether *process* ended, be it waited for or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def pid_of(instance: Instance) -> int:
    return int(instance.detail.removeprefix("process "))


def ask(instance: Instance) -> dict[str, Any]:
    """Return what the stand-in says about itself, once it answers."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(instance.address, timeout=5) as answer:
                return dict(json.load(answer))
        except OSError:
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.02)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], ProcessRuntime]]:
    """Make a runtime over one folder that runs some code; whatever is left at the end is killed."""
    made = ProcessRuntime(tmp_path / "places")

    yield lambda code: ProcessRuntime(tmp_path / "places", run(code))

    for instance in made.instances():
        if instance.alive:
            os.killpg(pid_of(instance), signal.SIGKILL)
        made.stop(instance.id)


class TestMemoryRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> MemoryRuntime:
        return MemoryRuntime({UNIT.digest: lambda rows: [0.5] * len(rows)})

    @pytest.fixture
    def unit(self) -> Unit:
        return UNIT

    @pytest.fixture
    def crash(self, runtime: MemoryRuntime) -> Callable[[Instance], None]:
        return lambda instance: runtime.kill(instance.id)


class TestProcessRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self, make: Callable[[str], ProcessRuntime]) -> ProcessRuntime:
        return make("import time; time.sleep(60)")

    @pytest.fixture
    def unit(self) -> Unit:
        return UNIT

    @pytest.fixture
    def crash(self, runtime: ProcessRuntime) -> Callable[[Instance], None]:
        def kill(instance: Instance) -> None:
            os.kill(pid_of(instance), signal.SIGKILL)
            until(lambda: not any(i.alive for i in runtime.instances() if i.id == instance.id))

        return kill


Make = Callable[[str], ProcessRuntime]


def test_constructing_makes_no_file(tmp_path: Path) -> None:
    ProcessRuntime(tmp_path / "places")

    assert list(tmp_path.iterdir()) == []


def test_a_started_server_answers_at_its_address(make: Make) -> None:
    assert ask(make(SERVER).start(UNIT))


def test_a_server_is_told_who_it_is(make: Make) -> None:
    said = ask(make(SERVER).start(UNIT))["environment"]

    assert (said["MODELCD_MODEL"], said["MODELCD_VERSION"]) == ("flights", "1")


def test_a_server_uses_one_thread_unless_told_otherwise(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    said = ask(make(SERVER).start(UNIT))["environment"]

    assert said["OMP_NUM_THREADS"] == "1"


def test_the_environment_of_a_unit_comes_before_ours(make: Make) -> None:
    unit = replace(UNIT, environment={"OMP_NUM_THREADS": "3", "PORT": "1"})
    instance = make(SERVER).start(unit)
    said = ask(instance)["environment"]

    assert said["OMP_NUM_THREADS"] == "3"


def test_what_was_meant_for_our_own_interpreter_is_not_passed_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    said = ask(make(SERVER).start(UNIT))["environment"]

    assert "PYTHONPATH" not in said


def test_a_secret_of_whoever_starts_a_server_does_not_reach_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MODELCD_NOTIFY", "PGPASSWORD", "HTTPS_PROXY", "HOST"):
        monkeypatch.setenv(name, "http://user:secret@somewhere")
    said = ask(make(SERVER).start(UNIT))["environment"]

    assert "secret" not in json.dumps(said)
    assert "HOST" not in said


def test_a_server_is_told_where_to_log_its_predictions_and_of_whom(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    runtime = ProcessRuntime(tmp_path / "places", run(SERVER), predictions=spool.joinpath, gateway="a secret")
    try:
        said = ask(instance := runtime.start(UNIT))["environment"]
        assert said["MODELCD_PREDICTIONS"] == str(spool / PLACE / "1.jsonl")
        assert said["MODELCD_GATEWAY"] == "a secret"
        assert "a secret" not in " ".join(psutil.Process(pid_of(instance)).cmdline())
        assert not any("a secret" in file.read_text() for file in (tmp_path / "places").iterdir())
    finally:
        runtime.stop(UNIT.id)


def test_a_server_has_a_session_of_its_own(make: Make) -> None:
    instance = make(SERVER).start(UNIT)

    assert ask(instance)["session"] == pid_of(instance)


def test_a_server_outlives_the_process_that_started_it(tmp_path: Path, make: Make) -> None:
    code = (
        "import sys; from pathlib import Path; from modelcd.adapters.processes import ProcessRuntime; "
        "from modelcd.ports import Unit; "
        "runtime = ProcessRuntime(Path(sys.argv[1]), lambda unit: [sys.executable, '-c', sys.argv[2]]); "
        "runtime.start(Unit('production/flights', 'flights', 1, 'sha256:one', Path('artifact')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "places"), SERVER], check=True, timeout=60)

    [instance] = make(SERVER).instances(PLACE)
    assert instance.alive


@pytest.mark.usefixtures("make")
def test_processes_that_start_a_unit_at_once_start_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modelcd.adapters.processes import ProcessRuntime; "
        "from modelcd.ports import Unit; "
        "runtime = ProcessRuntime(Path(sys.argv[1]), lambda unit: [sys.executable, '-c', sys.argv[2]]); "
        "print(runtime.start(Unit('production/flights', 'flights', 1, 'sha256:one', Path('artifact'))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "places"), "import time; time.sleep(60)"]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {starter.communicate(timeout=60)[0] for starter in starters}

    assert len(printed) == 1


def test_what_died_is_started_again_at_a_new_address(make: Make) -> None:
    runtime = make("import time; time.sleep(60)")
    first = runtime.start(UNIT)
    os.kill(pid_of(first), signal.SIGKILL)
    until(lambda: not runtime.instances()[0].alive)

    assert runtime.start(UNIT).address != first.address


def test_a_process_that_ended_and_was_not_waited_for_is_dead(make: Make) -> None:
    runtime = make("pass")
    runtime.start(UNIT)

    until(lambda: [instance.alive for instance in runtime.instances()] == [False])


def test_another_process_with_the_pid_of_a_dead_one_is_not_taken_for_it(make: Make, tmp_path: Path) -> None:
    runtime = make("import time; time.sleep(60)")
    instance = runtime.start(UNIT)
    os.killpg(pid_of(instance), signal.SIGKILL)
    until(lambda: not runtime.instances()[0].alive)
    [record] = (tmp_path / "places").glob("*.pid")
    record.write_text(json.dumps({**json.loads(record.read_text()), "pid": os.getpid()}))

    runtime.stop(instance.id)

    assert runtime.instances() == []


def test_a_start_that_was_killed_before_it_recorded_its_process_leaves_none(make: Make, tmp_path: Path) -> None:
    runtime = make("import time; time.sleep(60)")
    lost = psutil.Process(pid_of(runtime.start(UNIT)))
    until(lambda: "sleep" in " ".join(lost.cmdline()))
    [record] = (tmp_path / "places").glob("*.pid")
    record.unlink()

    runtime.start(UNIT)
    until(lambda: gone(lost))


def test_a_server_that_drains_is_given_time(make: Make, tmp_path: Path) -> None:
    drained = tmp_path / "drained"
    runtime = make(
        "import pathlib, signal, sys, time\n"
        f"def drain(*_): time.sleep(0.3); pathlib.Path({str(drained)!r}).touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, drain); print('up'); time.sleep(60)"
    )
    instance = runtime.start(UNIT)
    until(lambda: "up" in runtime.log(instance.id))
    runtime.stop(instance.id)

    assert drained.exists()


def test_a_server_whose_end_nobody_took_note_of_is_not_waited_for(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from modelcd.adapters.detached import Detached\n"
        "place = Path(sys.argv[1]); sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "Detached(place / 'pid.json', place / 'log').start(sleep, env={}, cwd=place); print('up', flush=True)\n"
        "time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert starter.stdout is not None and starter.stdout.readline() == b"up\n"
    stopping = threading.Thread(target=Detached(tmp_path / "pid.json", tmp_path / "log").stop, args=(60.0,))
    stopping.start()
    try:
        until(lambda: not stopping.is_alive())
    finally:
        starter.kill()
        starter.communicate()
        stopping.join()


def test_who_started_a_server_that_lives_on_ends_without_a_warning(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modelcd.adapters.detached import Detached\n"
        "place = Path(sys.argv[1]); sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "Detached(place / 'pid.json', place / 'log').start(sleep, env={}, cwd=place)"
    )
    kept = Detached(tmp_path / "pid.json", tmp_path / "log")
    try:
        command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
        starter = subprocess.run(command, check=True, capture_output=True, text=True)

        assert (starter.stderr, kept.alive()) == ("", True)
    finally:
        kept.stop()


def test_a_server_that_does_not_end_is_killed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelcd.adapters.processes.GRACE", 0.1)
    runtime = make("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)")
    instance = runtime.start(UNIT)
    until(lambda: "up" in runtime.log(instance.id))
    stubborn = psutil.Process(pid_of(instance))
    runtime.stop(instance.id)

    until(lambda: gone(stubborn))


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed, then stopped"])
def test_the_workers_of_a_server_end_with_it(make: Make, crash: bool) -> None:
    runtime = make(
        "import subprocess, sys, time\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(worker.pid); time.sleep(60)"
    )
    instance = runtime.start(UNIT)
    until(lambda: runtime.log(instance.id) != "")
    worker = psutil.Process(int(runtime.log(instance.id)))
    if crash:
        os.kill(pid_of(instance), signal.SIGKILL)
        until(lambda: not runtime.instances()[0].alive)
    runtime.stop(instance.id)

    until(lambda: gone(worker))


def test_the_log_has_both_outputs(make: Make) -> None:
    runtime = make(SERVER)
    instance = runtime.start(UNIT)
    ask(instance)

    assert runtime.log(instance.id).splitlines() == ["naïve line one", "serving"]


def test_the_log_has_the_newest_lines(make: Make) -> None:
    runtime = make("for n in range(1000): print(n)")
    instance = runtime.start(UNIT)
    until(lambda: not runtime.instances()[0].alive)

    assert runtime.log(instance.id, lines=2).splitlines() == ["998", "999"]


def test_the_log_is_there_after_the_instance_was_stopped(make: Make) -> None:
    runtime = make("raise SystemExit('out of memory')")
    instance = runtime.start(UNIT)
    until(lambda: not runtime.instances()[0].alive)
    runtime.stop(instance.id)

    assert runtime.log(instance.id) == "out of memory"


def test_a_command_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="no-such-program"):
        ProcessRuntime(tmp_path, lambda _: ["no-such-program"]).start(UNIT)


def test_what_could_not_be_started_is_not_listed(tmp_path: Path) -> None:
    runtime = ProcessRuntime(tmp_path, lambda _: ["no-such-program"])
    with pytest.raises(RuntimeFailure):
        runtime.start(UNIT)

    assert runtime.instances() == []


def test_a_record_that_cannot_be_understood_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")

    with pytest.raises(RuntimeFailure, match="cannot be understood"):
        ProcessRuntime(tmp_path).instances()


def built_with(folder: Path, **toolchain: str) -> Unit:
    write_manifest(folder, Manifest("flights", "object", "model.joblib", "predict", (), toolchain=toolchain))
    return replace(UNIT, artifact=folder, interpreter=sys.executable)


def test_a_unit_is_served_by_its_own_interpreter(tmp_path: Path) -> None:
    unit = built_with(tmp_path, psutil=version("psutil"))

    assert serving_command(unit) == [sys.executable, "-m", "modelcd.serving", str(tmp_path)]


def test_a_unit_whose_toolchain_has_changed_is_refused_with_a_way_out(tmp_path: Path) -> None:
    unit = built_with(tmp_path, psutil="0.0.1")

    with pytest.raises(RuntimeFailure, match=r"another toolchain: psutil 0\.0\.1, here") as refused:
        serving_command(unit)
    assert "pip install 'psutil==0.0.1'" in refused.value.help


def test_our_own_interpreter_is_not_started_once_more_to_be_asked(tmp_path: Path) -> None:
    built_with(tmp_path, psutil=version("psutil"))
    code = (
        "import sys; from pathlib import Path; from modelcd.ports import Unit\n"
        "from modelcd.adapters.processes import serving_command\n"
        "sys.addaudithook(lambda event, _: print(event) if event == 'subprocess.Popen' else None)\n"
        "serving_command(Unit('a/b', 'b', 1, 'sha256:1', Path(sys.argv[1]), interpreter=sys.executable))"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)

    assert ended.stdout == ""


def test_an_artifact_that_cannot_be_read_is_not_served(tmp_path: Path) -> None:
    unit = built_with(tmp_path)
    (tmp_path / "manifest.json").write_text("{")

    with pytest.raises(RuntimeFailure, match="cannot run version 1 of flights"):
        serving_command(unit)


def test_an_interpreter_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    unit = replace(built_with(tmp_path), interpreter="/no/such/python")

    with pytest.raises(RuntimeFailure, match="/no/such/python"):
        serving_command(unit)


class TestMemoryScoring:
    @pytest.fixture
    def runtime(self) -> MemoryRuntime:
        return MemoryRuntime({UNIT.digest: lambda rows: [row["x"] for row in rows]})

    @pytest.fixture
    def scoring(self, runtime: MemoryRuntime) -> MemoryScoring:
        return MemoryScoring(runtime)

    def test_a_started_model_is_ready(self, runtime: MemoryRuntime, scoring: MemoryScoring) -> None:
        assert scoring.ready(runtime.start(UNIT).address) == {"model": "flights", "version": "1"}

    def test_rows_get_the_scores_of_the_model(self, runtime: MemoryRuntime, scoring: MemoryScoring) -> None:
        assert scoring.predict(runtime.start(UNIT).address, [{"x": 1}, {"x": 2}]).scores == (1, 2)

    def test_a_killed_model_is_not_ready(self, runtime: MemoryRuntime, scoring: MemoryScoring) -> None:
        instance = runtime.start(UNIT)
        runtime.kill(instance.id)

        with pytest.raises(NotReady):
            scoring.ready(instance.address)

    def test_a_model_told_to_be_unready_says_why(self, runtime: MemoryRuntime, scoring: MemoryScoring) -> None:
        instance = runtime.start(UNIT)
        runtime.unready(instance.id, "warming up")

        with pytest.raises(NotReady, match="warming up"):
            scoring.ready(instance.address)

    def test_what_a_model_raises_is_told(self, runtime: MemoryRuntime, scoring: MemoryScoring) -> None:
        with pytest.raises(CannotTell, match="'x'"):
            scoring.predict(runtime.start(UNIT).address, [{}])

    def test_an_unknown_artifact_is_not_started(self, runtime: MemoryRuntime) -> None:
        with pytest.raises(RuntimeFailure):
            runtime.start(replace(UNIT, digest="sha256:unknown"))
