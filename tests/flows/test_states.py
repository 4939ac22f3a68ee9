"""What Prefect's pages show of each ending: the state of the run, the states of its tasks, and a page that says why.

The walks are those of a scripted project over memory adapters, in a process of their own that has a real server.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from modelcd.adapters.guard import credential
from modelcd.domain.verdict import Finding, Verdict
from modelcd.errors import CannotTell, Refused
from modelcd.flows import _states
from modelcd.platform.abandoned import close_abandoned, driver_of, gone
from modelcd.platform.services import Services, prefect_settings
from modelcd.testing.traffic import free_port
from modelcd.workspace import open_workspace

pytestmark = pytest.mark.timeout(300)

WALKS = """
import os, signal, sys
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])

import stories
from prefect import flow
from modelcd.adapters.memory_project import MemoryProject
from modelcd.artifact import digest_of
from modelcd.cli import exit_after
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environments.memory import Memory
from modelcd.errors import ModelcdError
from modelcd.flows import deliver as flows, run, visible
from modelcd.flows._effects import outcome
from modelcd.flows._states import GOOD

stories.train(folder / "trained", "d1")
memory = Memory({digest_of(folder / "trained"): lambda rows: [row["x"] for row in rows]}, {})
ready = lambda url, rows: [Finding("ready", Verdict.PASS, "it is")]


@dataclass(frozen=True)
class Stage(stories.Stage):
    commands: dict = field(default_factory=dict)

    def walk(self, project_at, actor, delivery):
        walk = super().walk(project_at, actor, delivery)
        walk.project = MemoryProject({**walk.project.commands, **self.commands})
        return walk


def says(verdict, reason):
    return lambda _: {"verdict": verdict, "reason": reason, "evidence": {}}


def low(_):
    numbers = {"value": 0.7, "bound": 0.8, "rows": 142}
    found = {"name": "auc at_least", "verdict": "fail", "reason": "auc 0.7: not at least 0.8", "evidence": numbers}
    return {"metrics": {"auc": 0.7}, "findings": [found]}


def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


HOW = {
    "expectations": {"expect": says("fail", "2 of 9 unexpected")},
    "gates": {"gates": low, "tests": says("pass", "there are none")},
    "broken": {"prepare": lambda _: 1 / 0},
    "promoted": {},
    "nothing new": {},
    "killed": {"data": killed},
}


def story(how):
    bind = lambda name: replace(memory.environment, name=name)
    stage = Stage(bind, folder / how, contract=ready, commands=HOW[how])
    return flows.deliver_in(stage, folder / how, "anna", reason=how)


@flow(name="walk", flow_run_name="{how}")
def walk(how):
    return visible.visible(outcome.get(), lambda: story(how), GOOD)


run.STORIES["walk"], visible.FLOWS["walk"] = story, walk
for how in HOW:
    try:
        print(run.run_flow("walk", lambda *_: None, how=how)["ending"], flush=True)
    except ModelcdError as error:
        print(error.message, flush=True)
"""

TESTS = Path(__file__).parents[1]


class Pages:
    """What the server's API answers."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.api = f"{services.url('prefect')}/api"

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return the runs by name."""
        return {run["name"]: run for run in self._asked("flow_runs", {})}

    def state(self, name: str) -> tuple[str, str, str]:
        """Return type, name and message of the state of a run."""
        state = self.runs()[name]["state"]
        return state["type"], state["name"], state["message"]

    def tasks(self, name: str) -> dict[str, tuple[str, str, str]]:
        """Return type, name and message of the state of each task of a run."""
        tasks = self._asked("task_runs", {"flow_runs": {"id": {"any_": [self.runs()[name]["id"]]}}})
        return {
            task["name"]: (task["state"]["type"], task["state"]["name"], task["state"]["message"]) for task in tasks
        }

    def page(self, name: str) -> str:
        """Return the page that a run left."""
        (artifact,) = self._asked("artifacts", {"artifacts": {"flow_run_id": {"any_": [self.runs()[name]["id"]]}}})
        return str(artifact["data"])

    def _asked(self, what: str, question: dict[str, Any]) -> Any:
        headers = credential(self.services.workspace.token)
        answer = httpx.post(f"{self.api}/{what}/filter", json=question, headers=headers, timeout=20)
        return answer.raise_for_status().json()


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The pages after six deliveries, the last of which was killed."""
    folder = tmp_path_factory.mktemp("states")
    workspace = open_workspace(folder / "workspace")
    workspace = workspace.with_ports({name: free_port() for name in workspace.ports})
    services = Services(workspace)
    known = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    try:
        services.up(["prefect"])
        ended = subprocess.run(
            [sys.executable, "-c", WALKS, str(TESTS), str(folder)],
            env={**known, **prefect_settings(workspace)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        endings = [
            "stopped",
            "stopped",
            "prepare raised ZeroDivisionError: division by zero",
            "promoted",
            "nothing new",
        ]
        assert ended.stdout.splitlines() == endings, ended.stderr
        yield Pages(services)
    finally:
        services.down()


@pytest.mark.parametrize(
    ("how", "state", "task", "of_task"),
    [
        ("expectations", ("FAILED", "StoppedAtExpectations"), "expectations", ("FAILED", "Failed")),
        ("gates", ("FAILED", "StoppedAtGates"), "gates", ("FAILED", "Failed")),
        ("broken", ("FAILED", "Failed"), "prepare", ("FAILED", "Failed")),
        ("promoted", ("COMPLETED", "Promoted"), "gates", ("COMPLETED", "Completed")),
        ("nothing new", ("COMPLETED", "NothingNew"), "data", ("COMPLETED", "Completed")),
    ],
)
def test_a_run_and_its_decisive_task_end_in_the_state_that_tells_it(
    walked: Pages, how: str, state: tuple[str, str], task: str, of_task: tuple[str, str]
) -> None:
    assert walked.state(how)[:2] == state
    assert walked.tasks(how)[task][:2] == of_task


def test_states_say_why(walked: Pages) -> None:
    assert walked.state("gates")[2] == "gates: auc at_least: auc 0.7: not at least 0.8"
    assert walked.tasks("gates")["gates"][2] == "auc at_least: auc 0.7: not at least 0.8"
    assert walked.tasks("gates")["tests"] == ("COMPLETED", "Completed", "there are none")
    assert walked.state("broken")[2] == "prepare raised ZeroDivisionError: division by zero"


def test_every_run_leaves_a_page_that_says_why_with_numbers_and_what_to_do(walked: Pages) -> None:
    stopped, broken, nothing = (walked.page(how) for how in ("gates", "broken", "nothing new"))

    assert stopped.startswith("# Version 1 of m: stopped at gates\n")
    assert "| auc at_least | fail | auc 0.7: not at least 0.8 | value 0.7, bound 0.8, rows 142 |" in stopped
    assert "Train a better version, or change gates in pipeline.py, then: `modelcd deliver`" in stopped
    assert "prepare raised ZeroDivisionError" in broken
    assert "was built from this very code, data and parameters" in nothing


def test_a_run_whose_driver_was_killed_is_closed_as_abandoned_with_its_task(walked: Pages) -> None:
    assert walked.state("killed")[0] == "RUNNING"

    assert close_abandoned(walked.services) == ["killed"]

    assert walked.state("killed")[:2] == ("CRASHED", "Abandoned")
    assert close_abandoned(walked.services) == []


def test_a_driver_is_known_by_machine_pid_and_start() -> None:
    here = driver_of(psutil.Process())
    host, pid, started = here.rsplit(":", 2)

    assert not gone(here)
    assert gone(f"{host}:{pid}:{float(started) - 5}")
    assert not gone(f"elsewhere:{pid}:{float(started) - 5}")
    assert not gone("")


@pytest.mark.parametrize(
    ("told", "good", "state"),
    [
        ({"ending": "rolled back"}, _states.GOOD, ("FAILED", "RolledBack")),
        ({"ending": "rolled back"}, _states.BACK, ("COMPLETED", "RolledBack")),
        ({"ending": "promoted"}, _states.BACK, ("FAILED", "Failed")),
        ({"ending": "failed"}, _states.GOOD, ("FAILED", "NeverReady")),
        ({"ending": "waiting"}, _states.GOOD, ("FAILED", "WaitsForPerson")),
    ],
)
def test_a_release_is_shown_by_what_was_wanted_of_it(
    told: dict[str, str], good: dict[str, str], state: tuple[str, str]
) -> None:
    shown = _states.of_flow({**told, "why": "errors: worse"}, good)

    assert (shown.type.value, shown.name, shown.message) == (*state, "errors: worse")


def test_what_could_not_be_found_out_is_no_success() -> None:
    shown = [_states.of_step(Finding("gates", verdict, "why")).name for verdict in Verdict]

    assert shown == ["Completed", "Undecided", "CouldNotCheck", "Failed"]
    assert _states.of_error(Refused("no", help="do this")).name == "Refused"
    assert _states.of_error(CannotTell("away", help="start it")).message == "away\nstart it"
