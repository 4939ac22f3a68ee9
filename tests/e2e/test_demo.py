"""The main job, as a newcomer runs it: one command, real data, live traffic; in a folder with spaces and umlauts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.alone, pytest.mark.laptop, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Played:
    """A demo that was played to its end, still up."""

    workspace: Path
    output: str
    exit_code: int

    def modelcd(self, *arguments: str) -> Any:
        command = [sys.executable, "-m", "modelcd.cli", "--workspace", str(self.workspace), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.modelcd(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("Flüge und Wetter") / "a demo"
    environment = {name: value for name, value in os.environ.items() if name != "MODELCD_WORKSPACE"}
    command = [sys.executable, "-m", "modelcd.cli", "demo", "--into", str(folder)]
    ended = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1100, check=False
    )
    demo = Played(folder / "workspace", ended.stdout, ended.returncode)
    yield demo
    demo.modelcd("down")


def test_the_demo_comes_to_its_end(played: Played) -> None:
    assert played.exit_code == 0, played.output


def test_the_retrained_version_is_in_production(played: Played) -> None:
    serving = {line["environment"]: line["version"] for line in played.json("status")}

    assert serving["production"] == 2


def test_every_release_ended_as_it_should(played: Played) -> None:
    lines = played.json("history", "flight-delay", "--in", "production")

    assert [(line["version"], line["ending"]) for line in reversed(lines)] == [
        (1, "promoted"),
        (2, "promoted"),
        (3, "rolled back"),
    ]


def test_the_linear_model_was_rolled_back_for_its_errors_with_numbers(played: Played) -> None:
    lines = played.json("history", "flight-delay", "--in", "production")
    release = next(line for line in lines if line["ending"] == "rolled back")
    errors = next(finding for finding in release["judgement"]["findings"] if finding["name"] == "errors")

    assert errors["verdict"] == "fail"
    assert errors["evidence"]["challenger_bad"] > 0


def test_users_saw_no_failure(played: Played) -> None:
    assert " 0 failed for users" in played.output


def test_nothing_new_is_said_and_the_rejected_version_is_refused(played: Played) -> None:
    endings = [line["ending"] for line in played.json("history", "flight-delay")]

    assert endings.count("nothing new") == 2
    assert "refused" in endings


@pytest.mark.parametrize(("version", "ending"), [(2, "PROMOTED"), (3, "ROLLED BACK")])
def test_a_release_is_explained_drawn_and_verified(played: Played, tmp_path: Path, version: int, ending: str) -> None:
    lines = played.json("history", "flight-delay", "--in", "production")
    release = next(line["release"] for line in lines if line["version"] == version)

    drawn = tmp_path / "evidence.svg"
    told = played.modelcd("explain", release, "--plot", str(drawn))
    verified = played.modelcd("verify", release)

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"{ending}  version {version} of flight-delay in production, after ")
    assert "excess " in told.stdout
    assert "bar 100 : 1" in told.stdout
    assert f"The evidence over time is drawn in {drawn}" in told.stdout
    assert "errors" in drawn.read_text(encoding="utf-8")
    assert verified.returncode == 0, verified.stdout
    assert f"verdicts of release {release} recomputed from the journal: all the same" in verified.stdout


def test_the_journal_is_whole(played: Played) -> None:
    assert played.modelcd("verify").returncode == 0


def test_passengers_can_go_on_flying_as_the_example_says(played: Played) -> None:
    environment = {**os.environ, "MODELCD_WORKSPACE": str(played.workspace)}
    command = [sys.executable, "passengers.py", "7", "--first", "40", "--rate", "200"]
    project = played.workspace.parent / "flights"

    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (0, "40 flights\n"), ended.stderr


def test_down_leaves_no_process_behind(played: Played) -> None:
    played.modelcd("down")

    def ours(process: psutil.Process) -> bool:
        try:
            command = process.cmdline()
            return str(played.workspace) in " ".join(command) or (
                process.environ().get("MODELCD_WORKSPACE") == str(played.workspace)
            )
        except psutil.Error:
            return False

    left = [process for process in psutil.process_iter() if process.pid != os.getpid() and ours(process)]
    assert left == []


def test_the_next_release_is_planned_on_what_was_recorded(played: Played) -> None:
    found = played.json("plan", "flight-delay")
    shown, chosen = played.modelcd("plan", "flight-delay"), played.json("plan", "flight-delay", "--fastest")

    assert set(found["sources"].values()) == {"recorded"}
    assert found["recorded"]["champion"] == 2
    assert [step["share"] for step in found["plan"]["steps"]] == found["policy"]["shares"]
    assert shown.returncode == (0 if found["possible"] else 1)
    assert shown.stdout.startswith("PLAN  flight-delay, ")
    assert chosen["fastest"]["shares"] == [step["share"] for step in chosen["plan"]["steps"]]
    assert chosen["plan"]["seconds"][0] <= found["plan"]["seconds"][0]
