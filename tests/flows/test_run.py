"""A flow in this process whose Prefect server is there, not there, or dies in the middle: the story is the same.

Each story runs in a process of its own, because Prefect reads its settings once.  It notes its steps in a file, so
that a step that ran twice is seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from modelcd.adapters.guard import credential
from modelcd.platform.services import Services, prefect_settings
from modelcd.testing.traffic import free_port
from modelcd.workspace import Workspace, open_workspace

pytestmark = pytest.mark.timeout(300)

STORY = """
import json, os, signal, sys
from pathlib import Path
from prefect import flow
from modelcd.cli import exit_after
from modelcd.errors import ModelcdError, Rejected
from modelcd.flows import run, visible
from modelcd.flows._effects import leave, outcome, step

notes, pid, fails, visibly = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "fails", sys.argv[4] == "visibly"

def note(text):
    with notes.open("a") as file:
        file.write(text + "\\n")

def killed():
    note("second")
    if pid:
        os.kill(pid, signal.SIGKILL)

def refused():
    note("third")
    if fails:
        raise Rejected("it is no good")

def story():
    step("first", lambda: note("first"))
    step("second", killed)
    step("third", refused)
    leave("an-artifact", lambda: "# Told")
    return {"ending": "promoted"}

run.STORIES["story"] = story
visible.FLOWS["story"] = flow(name="story")(lambda: outcome.get().of(story))
heard = []
try:
    came = run.run_flow("story", lambda step, state, what, seconds: heard.append([step, state]), visibly=visibly)
except ModelcdError as error:
    came = {"error": error.message}
print(json.dumps({"came": came, "heard": heard}))
exit_after(5.0, 0)
"""

TWO = """
import sys
from pathlib import Path
from prefect import flow
from modelcd.control import connect
from modelcd.flows import run, visible
from modelcd.flows._effects import outcome, step
from modelcd.platform.services import Services

def story(workspace, by):
    step("work", lambda: None)
    return {"ending": "promoted"}

def shown(workspace, by):
    return outcome.get().of(lambda: story(workspace, by))

run.STORIES["story"] = story
visible.FLOWS["story"] = flow(name="story", flow_run_name="in {workspace}")(shown)
Services.up = lambda *_, **__: None
for place in sys.argv[1:]:
    connect(place)._flow("story")
"""

STEPS = ["first", "second", "third"]
HEARD = [[step, state] for step in STEPS for state in ("begin", "end")]


@dataclass(frozen=True)
class Told:
    """What a story came to, what it did, what its process said besides, how long that took."""

    came: dict[str, str]
    heard: list[list[str]]
    did: list[str]
    said: str
    seconds: float


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with ports of its own, in which nothing runs yet."""
    workspace = open_workspace(tmp_path_factory.mktemp("flows") / "workspace")
    workspace = workspace.with_ports({name: free_port() for name in workspace.ports})
    yield workspace
    Services(workspace).down()


@pytest.fixture
def server(place: Workspace) -> Services:
    """Services with a Prefect server that answers."""
    services = Services(place)
    services.up(["prefect"])
    return services


def live(place: Workspace, folder: Path, *, kills: int = 0, fails: bool = False, visibly: bool = True) -> Told:
    """Run the story in a process of its own, which ends the process *kills* in its second step."""
    notes = folder / "notes"
    arguments = [str(notes), str(kills), "fails" if fails else "", "visibly" if visibly else ""]
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", STORY, *arguments],
        env={**known, **prefect_settings(place)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    told = json.loads(ended.stdout.splitlines()[-1])
    did = notes.read_text(encoding="utf-8").splitlines()
    return Told(told["came"], told["heard"], did, ended.stderr, time.monotonic() - began)


def process_of(services: Services) -> int:
    """Return the process id of Prefect's server."""
    record = services.workspace.path / "services" / "prefect.json"
    return int(json.loads(record.read_text(encoding="utf-8"))["pid"])


def test_without_a_server_the_same_steps_run_once_and_the_result_counts(place: Workspace, tmp_path: Path) -> None:
    told = live(place, tmp_path)

    assert (told.came, told.did, told.heard) == ({"ending": "promoted"}, STEPS, HEARD)
    assert told.seconds < 60


def test_a_story_that_is_not_to_be_seen_asks_no_server(place: Workspace, tmp_path: Path) -> None:
    told = live(place, tmp_path, visibly=False)

    assert (told.came, told.did, told.heard) == ({"ending": "promoted"}, STEPS, HEARD)


def test_each_step_is_a_task_on_the_pages_of_the_server(server: Services, tmp_path: Path) -> None:
    told = live(server.workspace, tmp_path)

    assert (told.came, told.did) == ({"ending": "promoted"}, STEPS)
    assert {*names_of(server, "task_runs")} >= set(STEPS)


def test_a_refusal_of_the_story_is_raised_as_it_is_and_nothing_is_done_again(server: Services, tmp_path: Path) -> None:
    told = live(server.workspace, tmp_path, fails=True)

    assert (told.came, told.did) == ({"error": "it is no good"}, STEPS)


def test_a_server_that_dies_in_the_middle_changes_nothing_of_the_story(server: Services, tmp_path: Path) -> None:
    told = live(server.workspace, tmp_path, kills=process_of(server))

    assert (told.came, told.did, told.heard) == ({"ending": "promoted"}, STEPS, HEARD)
    assert "Traceback" not in told.said
    assert told.seconds < 90


def test_a_refusal_counts_also_when_the_server_has_died(server: Services, tmp_path: Path) -> None:
    told = live(server.workspace, tmp_path, kills=process_of(server), fails=True)

    assert (told.came, told.did) == ({"error": "it is no good"}, STEPS)
    assert "Traceback" not in told.said


def test_two_workspaces_in_one_process_tell_each_its_own_server(server: Services, tmp_path: Path) -> None:
    other = open_workspace(tmp_path / "other")
    both = [server, Services(other.with_ports({name: free_port() for name in other.ports}))]
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    try:
        both[1].up(["prefect"])
        before = {one: len(names_of(one, "task_runs")) for one in both}
        places = [str(one.workspace.path) for one in both]
        env = {**known, **prefect_settings(server.workspace)}  # as it is where the first one's settings were read
        subprocess.run([sys.executable, "-c", TWO, *places], env=env, check=True, timeout=120)

        for one, place in zip(both, places, strict=True):
            assert [name for name in names_of(one, "flow_runs") if name.startswith("in ")] == [f"in {place}"]
            deadline = time.monotonic() + 20
            while len(names_of(one, "task_runs")) <= before[one]:
                assert time.monotonic() < deadline, f"nobody told {place} of the task"
                time.sleep(0.1)
    finally:
        both[1].down()


def names_of(services: Services, what: str) -> list[str]:
    """Return the names of what stands on the pages of Prefect's server."""
    headers = credential(services.workspace.token)
    answer = httpx.post(f"{services.url('prefect')}/api/{what}/filter", json={}, headers=headers, timeout=20)
    return [str(run["name"]) for run in answer.raise_for_status().json()]
