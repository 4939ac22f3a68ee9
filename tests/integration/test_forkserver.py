"""Commands that are forked instead of started: what a fork could carry over, and does not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from modelcd.adapters.children import ChildProject, environment, warm

BUDGET = 120.0

PIPELINE = """
import json, os, sys
from modelcd import Dataset, Model
{first}

def train(frame):
    {train}

model = Model("toy", train=train, data=Dataset("data/*.csv", target="y"))
with open("said", "a") as said:
    print(json.dumps({say}), file=said)
"""
MAIN = "sys.modules['__main__'].__spec__.name"

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")


def write(folder: Path, *, first: str = "", train: str = "return None", say: str = MAIN) -> None:
    (folder / "pipeline.py").write_text(PIPELINE.format(first=first, train=train, say=say))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ChildProject]:
    write(tmp_path)
    with warm(tmp_path):
        yield ChildProject(tmp_path)


def described(project: ChildProject, times: int = 1) -> list[Any]:
    """Describe *project* so often, and return what its pipeline said each time."""
    said = project.project / "said"
    said.unlink(missing_ok=True)
    for _ in range(times):
        project.call("describe", {}, budget=BUDGET)
    return [json.loads(line) for line in said.read_text().splitlines()]


@linux
def test_each_command_is_a_fork_in_a_session_of_its_own(project: ChildProject) -> None:
    write(project.project, say=f"[os.getpid(), os.getsid(0), os.getpgid(0), {MAIN}]")
    (one, *first), (two, *second) = described(project, 2)

    assert one != two
    assert first == [one, one, "modelcd.project.forkserver"] and second == [two, two, "modelcd.project.forkserver"]


def test_what_one_command_changed_the_next_does_not_see(project: ChildProject) -> None:
    write(
        project.project,
        first="import numpy\nfound = [hasattr(numpy, 'left'), 'LEFT' in os.environ, os.getcwd(), 'junk' in sys.path]\n"
        "numpy.left = 1; os.environ['LEFT'] = '1'; os.chdir('/'); sys.path.append('junk')",
        say="found",
    )
    (project.project / "pipeline.py").write_text(
        (project.project / "pipeline.py").read_text().replace('"said"', f'"{project.project}/said"')
    )

    assert described(project, 2) == [[False, False, str(project.project), False]] * 2


def test_each_command_has_chances_of_its_own(project: ChildProject) -> None:
    write(project.project, first="import numpy, random", say="[numpy.random.random(), random.random()]")
    one, two = described(project, 2)

    assert one[0] != two[0] and one[1] != two[1]


@linux
def test_a_command_has_none_of_the_sockets_that_it_came_by(project: ChildProject) -> None:
    write(project.project, say="[os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd')[:-1]]")

    assert [name for name in described(project)[0] if name.startswith("socket:")] == []


@linux
def test_libraries_that_are_imported_ahead_leave_no_thread_behind(tmp_path: Path) -> None:
    code = (
        "import sklearn.ensemble, sklearn.linear_model, sklearn.pipeline, scipy.stats, pyarrow.dataset\n"
        "from modelcd.project import forkserver, libraries\n"
        "for name in (*forkserver.NEEDED, *libraries.KNOWN): __import__(name)\n"
        "print(forkserver._threads())"
    )
    run, env = [sys.executable, "-c", code], environment(tmp_path)
    ended = subprocess.run(run, env=env, capture_output=True, text=True, check=True)

    assert ended.stdout == "set()\n"


def test_pools_of_threads_work_in_one_fork_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = pd.DataFrame({"a": range(400), "b": ["x", "y"] * 200})
    rows.assign(y=rows["a"] % 3 == 0).to_csv(tmp_path / "data" / "1.csv", index=False)
    write(
        tmp_path,
        first="from sklearn.ensemble import RandomForestClassifier, HistGradientBoostingClassifier",
        train="HistGradientBoostingClassifier().fit(frame[['a']], frame['y'])\n"
        "    return RandomForestClassifier(20, n_jobs=2, random_state=1).fit(frame[['a']], frame['y'])",
    )
    with warm(tmp_path):
        project = ChildProject(tmp_path)
        prepared = project.call("prepare", {"out": str(tmp_path / "out")}, budget=BUDGET).value
        asked = [{"data": prepared["data"], "out": str(tmp_path / name)} for name in ("one", "two")]
        built = [project.call("train", arguments, budget=BUDGET).value for arguments in asked]
        rows_back = project.call("rows", {"data": prepared["data"]}, budget=BUDGET).value["rows"]

    assert built[0]["digest"] == built[1]["digest"] and len(rows_back) == 80


@linux
def test_a_module_of_the_project_comes_before_one_of_its_name_that_was_imported_ahead(project: ChildProject) -> None:
    (project.project / "six.py").write_text("mine = 1\n")
    write(project.project, first="import six", say=f"[six.mine, {MAIN}]")

    assert described(project) == [[1, "modelcd.project.child"]]


@linux
def test_where_a_thread_runs_a_new_interpreter_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "project").mkdir()
    write(tmp_path / "project")
    with warm(tmp_path / "project"):
        assert described(ChildProject(tmp_path / "project")) == ["modelcd.project.child"]


def test_an_environment_that_changed_is_what_the_next_command_has(
    project: ChildProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project.project, say="os.environ.get('OMP_NUM_THREADS')")
    described(project)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    assert described(project) == ["7"]


@linux
def test_code_that_ends_what_started_it_harms_nobody_else(project: ChildProject) -> None:
    killing = "'forkserver' in open(f'/proc/{os.getppid()}/cmdline').read() and os.kill(os.getppid(), 9)"
    write(project.project, first=killing)
    assert described_or_not(project)
    write(project.project)

    assert described(project, 2) == ["modelcd.project.child"] * 2


def described_or_not(project: ChildProject) -> bool:
    """Say whether the call came to an end, however it did."""
    try:
        project.call("describe", {}, budget=BUDGET)
    except Exception as error:
        return "SIGKILL" in str(error)
    return True


def test_a_python_that_cannot_be_kept_is_told_of_as_ever(tmp_path: Path) -> None:
    write(tmp_path)
    with warm(tmp_path, str(tmp_path / "nowhere")), pytest.raises(Exception, match="could not be started"):
        ChildProject(tmp_path, str(tmp_path / "nowhere")).call("describe", {}, budget=BUDGET)


@pytest.mark.parametrize("how", ["the block ends", "its parent is killed"])
def test_a_fork_server_ends(tmp_path: Path, how: str) -> None:
    write(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from modelcd.adapters.children import ChildProject, warm\n"
        "import psutil\n"
        "with warm(Path(sys.argv[1])):\n"
        "    ChildProject(Path(sys.argv[1])).call('describe', {}, budget=60)\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "    sys.stdin.readline()\n"
        "print('out', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=-1, stdout=-1, text=True)
    assert parent.stdout is not None and parent.stdin is not None
    try:
        (server,) = map(int, parent.stdout.readline().split())
        if how == "the block ends":
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "out\n"
        else:
            parent.kill()
        deadline = time.monotonic() + 20
        while psutil.pid_exists(server) and psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
    finally:
        parent.kill()
        parent.communicate()
