"""Bad days: what serves, tells, drives or decides is killed in the middle of a canary, and people change their minds.

Everything is real: processes, signals, users who go on asking.  Every test begins a canary of its own between the
same two versions and leaves an endpoint with no release under way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pandas as pd
import psutil
import pytest
from desk import MODEL, Cli, replace

from modelcd import connect
from modelcd.adapters.guard import credential
from modelcd.control import Control
from modelcd.domain.routing import Arm, Routing
from modelcd.platform.environments import Platform
from modelcd.workspace import Workspace

pytestmark = pytest.mark.timeout(400)

POLICY = "shares=(50,), guards=[guard.errors(margin=0.05)], bake=8, keep_warm=5"


def eventually(true: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Return the first true value of *true*; fails, naming *what*, when there is none within *seconds*."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return found


@dataclass
class Users:
    """People who ask the endpoint for scores without a break, and how often they were answered."""

    url: str
    rows: list[bytes]
    answered: int = 0
    failed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Ask until told to stop."""
        address, number = urlsplit(self.url), 0
        while not self.stop.wait(0.03):
            number += 1
            connection = http.client.HTTPConnection(address.netloc, timeout=20)
            with contextlib.closing(connection):
                try:
                    row, kind = self.rows[number % len(self.rows)], {"Content-Type": "application/json"}
                    connection.request("POST", f"{address.path}/predict", row, kind)
                    good = connection.getresponse().status == 200
                except (OSError, http.client.HTTPException):
                    good = False
            self.answered += good
            self.failed += not good


@dataclass(frozen=True)
class Driver:
    """A command that drives a release, in a shell of its own."""

    process: subprocess.Popen[str]
    out: Path

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float = 120.0) -> tuple[int, str]:
        """Wait for its end and return its exit code and everything that it printed."""
        return self.process.wait(seconds), self.out.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Day:
    """A workspace with two versions of one model, a shell and users."""

    modelcd: Cli
    project: Path
    control: Control
    users: Users

    def canary(self) -> Driver:
        """Drive the version that is not in production to a canary with evidence, and return who drives it."""
        champion = self.champion()
        release = ["promote", MODEL, str(3 - champion), "--again", "a bad day"]
        driver = self.shell(*release)
        try:
            eventually(lambda: (self.under_way() or {}).get("requests", 0) > 10, "a canary with evidence")
        except AssertionError:
            driver.process.kill()
            raise AssertionError(driver.ended()[1]) from None
        return driver

    def shell(self, *arguments: str) -> Driver:
        """Begin a command as a shell in the foreground does: it hears Ctrl-C."""
        out = self.project.parent / f"shell-{time.monotonic_ns()}"
        run = [sys.executable, "-m", "modelcd.cli", "--workspace", str(self.modelcd.workspace), *arguments]
        with out.open("w") as file:
            return Driver(
                subprocess.Popen(run, cwd=self.project, stdout=file, stderr=subprocess.STDOUT, text=True), out
            )

    def line(self) -> dict[str, Any]:
        """Return what `status` says of production."""
        return next(line for line in self.control.status(MODEL) if line["environment"] == "production")

    def champion(self) -> int:
        """Return the version in production."""
        return int(self.line()["version"])

    def under_way(self) -> dict[str, Any] | None:
        """Return the release under way in production."""
        return self.line()["under_way"]  # type: ignore[no-any-return]

    def newest(self) -> dict[str, Any]:
        """Return the newest release into production."""
        return self.control.history(MODEL, "production")[0]

    def settled(self) -> dict[str, Any]:
        """Wait until the newest release has ended and return it."""
        eventually(lambda: self.under_way() is None, "the end of the release")
        return self.newest()

    def service(self, name: str) -> int:
        """Return the process id of a service."""
        folder = "gateway" if name == "gateway" else "services"
        return int(json.loads((self.modelcd.workspace / folder / f"{name}.json").read_text())["pid"])

    def model(self, version: int) -> int:
        """Return the process id of a version in production."""
        record = self.modelcd.workspace / "places" / f"production%2F{MODEL}@{version}.pid"
        return int(json.loads(record.read_text())["pid"])

    def runs(self, version: int) -> bool:
        """Say whether a version runs in production."""
        env = Platform(Workspace(self.modelcd.workspace)).environment("production")
        return any(i.alive and i.version == version for i in env.runtime.instances(env.stream(MODEL)))

    def alias(self) -> int | None:
        """Return the version that the registry's alias names."""
        registry = Platform(Workspace(self.modelcd.workspace)).environment("production").registry
        return next((v.number for v in registry.versions(MODEL) if "production" in v.aliases), None)

    def notices(self) -> list[dict[str, str]]:
        """Return what people were told."""
        path = self.modelcd.workspace / "notices.log"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def kill(self, who: Callable[[], int]) -> None:
        """Kill a process and wait until another one is in its place."""
        before = who()
        os.kill(before, signal.SIGKILL)

        def another() -> bool:
            with contextlib.suppress(OSError, ValueError):
                return who() != before
            return False

        eventually(another, "another process in its place")

    def served(self) -> None:
        """Wait until users are answered many times in a row."""

        def well() -> bool:
            failed, answered = self.users.failed, self.users.answered
            eventually(lambda: self.users.answered > answered + 20 or self.users.failed > failed, "answers")
            return self.users.failed == failed

        eventually(well, "twenty good answers in a row")

    def whole(self) -> bool:
        """Say whether the journal is whole and no record of it lacks its outcome."""
        return self.modelcd("verify").returncode == 0


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """Two versions of a generated project, the first of them in production, and users."""
    folder = tmp_path_factory.mktemp("bad days")
    modelcd = Cli(folder / "workspace")
    assert modelcd("init", MODEL).returncode == 0
    project = folder / MODEL
    plainly(project)
    control = connect(modelcd.workspace)
    frame = pd.read_csv(project / "data/measurements.csv").drop(columns=["benign"])
    rows = [json.dumps({"rows": [json.loads(frame.iloc[[k]].to_json(orient="records"))[0]]}).encode() for k in range(9)]
    users = Users(control.url(MODEL), rows)
    askers = [threading.Thread(target=users.ask, daemon=True) for _ in range(2)]
    try:
        assert modelcd.told("deliver", "--json", cwd=project)["ending"] == "promoted"
        for asker in askers:
            asker.start()
        replace("features.py", '"median"', '"mean"')(project)
        assert modelcd.told("deliver", "--json", cwd=project)["ending"] == "promoted"
        yield Day(modelcd, project, control, users)
    finally:
        users.stop.set()
        ended = modelcd("down")
    assert ended.returncode == 0, ended.stderr
    assert left_behind(modelcd.workspace) == []


def plainly(project: Path) -> None:
    """Let the project ask for what the engine needs: a short ladder and a schedule, no tests or expectations."""
    path = project / "pipeline.py"
    text = re.sub(r"Canary\(.*?\n    \)", f"Canary({POLICY})", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for asked in ('    acceptance="acceptance/",\n', ", expectations=expectations"):
        assert asked in text
        text = text.replace(asked, "")
    yearly = 'retrain=Retrain("0 5 1 1 *", timezone="UTC"),\n    rollout='
    text = text.replace("rollout=", yearly).replace("import Canary,", "import Canary, Retrain,")
    path.write_text(text, encoding="utf-8")
    shutil.rmtree(project / "tests")


def left_behind(workspace: Path) -> list[str]:
    """Return the command lines of processes that belong to *workspace*."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            known = [*process.cmdline(), process.cwd(), process.environ().get("MODELCD_WORKSPACE", "")]
            if process.pid != os.getpid() and any(str(workspace) in text for text in known):
                found.append(" ".join(process.cmdline()))
    return found


def test_a_canary_outlives_its_champion_its_gateway_and_prefect(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    day.kill(lambda: day.model(champion))
    day.kill(lambda: day.service("gateway"))
    day.kill(lambda: day.service("prefect"))

    code, said = driver.ended()

    assert (code, day.champion()) == (0, 3 - champion), said
    assert "Traceback" not in said
    assert "Error" not in said
    day.served()


def test_a_canary_goes_on_without_prefect_and_without_control(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    for name in ("control", "deployments", "prefect"):
        os.kill(day.service(name), signal.SIGKILL)

    code, said = driver.ended()

    assert (code, day.champion()) == (0, 3 - champion), said
    assert "Traceback" not in said
    assert "Error" not in said
    assert day.modelcd("up").returncode == 0


def test_users_do_not_notice_that_the_challenger_dies_once_and_it_is_started_again(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    failed = day.users.failed
    day.kill(lambda: day.model(3 - champion))

    code, said = driver.ended()

    assert (code, day.champion()) == (0, 3 - champion), said
    assert day.users.failed == failed


def test_a_challenger_that_keeps_dying_goes_and_users_do_not_notice(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    failed = day.users.failed
    for _ in range(2):
        day.kill(lambda: day.model(3 - champion))
    os.kill(day.model(3 - champion), signal.SIGKILL)

    code, said = driver.ended()

    assert (code, day.champion()) == (1, champion), said
    assert "died 3 times" in said
    assert day.users.failed == failed


def test_the_reconciler_finishes_what_a_killed_driver_began_and_others_are_refused_meanwhile(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    driver.send(signal.SIGKILL)
    release = day.newest()["release"]
    day.modelcd.control.hold(MODEL)  # or it might have ended before the second one asks

    second = day.modelcd("promote", MODEL, str(champion))
    day.modelcd.control.release(MODEL)

    assert (second.returncode, driver.ended()[0]) == (1, -signal.SIGKILL)
    assert release in second.stderr
    assert "by " in second.stderr
    ended = day.settled()
    assert (ended["release"], ended["ending"], day.champion()) == (release, "promoted", 3 - champion)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_driver_that_is_told_to_stop_says_where_the_release_stands(day: Day, number: signal.Signals) -> None:
    champion = day.champion()
    driver = day.canary()
    driver.send(number)

    code, said = driver.ended(5.0)

    release = day.newest()["release"]
    assert code == 128 + number
    assert f"release {release} of version {3 - champion} stands at 50 % in production and goes on" in said
    assert "Traceback" not in said
    assert day.settled()["ending"] == "promoted"


def test_a_held_canary_stays_where_it_is_until_it_is_released(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    held = day.modelcd("hold", MODEL)
    judged = day.newest()["requests"]

    code, _ = driver.ended()
    eventually(lambda: day.newest()["requests"] > judged + 50, "guards that go on looking")
    still = day.under_way()
    released = day.modelcd("release", MODEL)

    assert (held.returncode, released.returncode, code) == (0, 0, 1)
    assert still is not None
    assert still["share"] == 50
    assert (day.settled()["ending"], day.champion()) == ("promoted", 3 - champion)


def test_a_rollback_from_another_shell_ends_the_canary_for_both(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()

    rollback = day.modelcd("rollback", MODEL, "--reason", "complaints")
    code, said = driver.ended()

    assert (rollback.returncode, code) == (0, 1)
    assert "complaints" in said
    assert "complaints" in rollback.stdout
    assert (day.newest()["ending"], day.champion()) == ("rolled back", champion)


def test_when_both_versions_die_users_fail_shortly_people_are_told_and_the_release_goes_on(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    told = len(day.notices())
    both = [day.model(version) for version in (champion, 3 - champion)]
    for pid in both:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: day.model(champion) not in both and day.model(3 - champion) not in both, "both started again")

    code, said = driver.ended()

    assert (code, day.champion()) == (0, 3 - champion), said
    day.served()
    eventually(lambda: any("serves here and does not run" in n["text"] for n in day.notices()[told:]), "the news of it")


def test_a_locked_registry_keeps_no_release_from_ending_and_its_alias_follows(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    store = sqlite3.connect(day.modelcd.workspace / "registry" / "mlflow.db", isolation_level=None)
    store.execute("BEGIN EXCLUSIVE")
    try:
        code, said = driver.ended(120.0)
    finally:
        store.execute("ROLLBACK")
        store.close()

    assert (code, day.champion()) == (0, 3 - champion), said
    eventually(lambda: day.alias() == 3 - champion, "the alias of the new champion")


def test_users_are_answered_again_when_the_control_process_and_the_gateway_died_together(day: Day) -> None:
    before = {name: day.service(name) for name in ("control", "gateway")}
    for process in before.values():
        os.kill(process, signal.SIGKILL)

    eventually(lambda: all(day.service(name) != process for name, process in before.items()), "both are there again")
    day.served()


def test_an_alias_moved_by_hand_is_put_back(day: Day) -> None:
    champion = day.champion()
    registry = Platform(Workspace(day.modelcd.workspace)).environment("production").registry
    registry.point(MODEL, "production", 3 - champion)

    eventually(lambda: day.alias() == champion, "the alias of the champion")


def test_a_gateway_changed_by_hand_is_put_right_unless_somebody_holds_it(day: Day) -> None:
    env = Platform(Workspace(day.modelcd.workspace)).environment("production")
    stream, champion = env.stream(MODEL), day.champion()
    wanted = env.router.read(stream)
    by_hand = Routing((Arm(champion, 100.0),), salt="by hand")
    address = {i.version: i.address for i in env.runtime.instances(stream) if i.alive}[champion]
    assert day.modelcd("hold", MODEL).returncode == 0
    env.router.write(stream, by_hand, {champion: address})
    looked = day.service("control"), time.monotonic()
    eventually(lambda: time.monotonic() > looked[1] + 5, "some rounds of the reconciler")
    assert env.router.read(stream) == by_hand
    assert "held by" in day.modelcd("status").stdout

    assert day.modelcd("release", MODEL).returncode == 0

    eventually(lambda: env.router.read(stream) == wanted, "the routing as it was wanted")
    day.served()


def test_a_rollback_to_a_version_that_does_not_run_says_so_and_how_long_it_takes(day: Day) -> None:
    champion = day.champion()
    eventually(lambda: not day.runs(3 - champion), "the end of the version before")

    told = day.modelcd("rollback", MODEL, "--reason", "complaints")

    assert told.returncode == 0, told.stderr
    assert f"version {3 - champion} does not run any more; starting it takes about" in told.stderr
    assert f"version {3 - champion} serves everything, after" in told.stderr
    assert day.champion() == 3 - champion


def test_a_rollback_needs_neither_prefect_nor_the_registry(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    os.kill(day.service("prefect"), signal.SIGKILL)
    store = sqlite3.connect(day.modelcd.workspace / "registry" / "mlflow.db", isolation_level=None)
    store.execute("BEGIN EXCLUSIVE")
    try:
        told = day.modelcd.told("rollback", MODEL, "--json")
    finally:
        store.execute("ROLLBACK")
        store.close()

    driver.ended()
    assert (told["ending"], told["cold"], day.champion()) == ("rolled back", False, champion)
    assert told["safe_after"] is not None


def test_down_in_a_canary_leaves_no_process_and_up_brings_it_back_as_it_was(day: Day) -> None:
    champion = day.champion()
    driver = day.canary()
    release = day.newest()["release"]

    down = day.modelcd("down")
    code, said = driver.ended()

    assert (down.returncode, code) == (0, 1), down.stderr + said
    assert "ended by `modelcd down`" in said
    assert left_behind(day.modelcd.workspace) == []
    under_way = day.under_way()
    assert under_way is not None
    assert under_way["release"] == release

    assert day.modelcd("up").returncode == 0
    day.served()
    assert (day.settled()["ending"], day.champion()) == ("promoted", 3 - champion)


def test_down_and_up_after_a_promotion_serves_the_champion_again(day: Day) -> None:
    champion = day.champion()
    assert day.modelcd("down", "--reason", "the office moves").returncode == 0
    asleep = "gateway and control not running: nothing is served and nothing is watched until: modelcd up"
    said = day.modelcd("status").stdout
    assert f": the office moves\n\n{asleep}" in said
    assert left_behind(day.modelcd.workspace) == []
    assert day.modelcd("up").returncode == 0

    day.served()

    assert day.champion() == champion
    newest = [line["kind"] for line in day.modelcd.told("history", "--json")]
    assert newest[:2] == ["up", "down"]
    assert day.control.predict(MODEL, [json.loads(day.users.rows[0])["rows"][0]])["version"] == str(champion)


def test_a_retraining_that_prefect_triggers_goes_all_the_way(day: Day) -> None:
    data = day.project / "data"
    pd.read_csv(data / "measurements.csv").head(200).to_csv(data / "more.csv", index=False)
    api = f"{day.control.services()['prefect']['url']}/api"
    known = credential(day.control.workspace.token)

    def deployment() -> str:
        found = httpx.get(f"{api}/deployments/name/retrain/{MODEL}", headers=known)
        return str(found.json()["id"]) if found.status_code == 200 else ""

    def asked() -> str:
        # A server that has just come up may still refuse: its database is busy with its own services.
        answer = httpx.post(f"{api}/deployments/{deployment()}/create_flow_run", json={}, headers=known, timeout=20)
        return str(answer.json()["id"]) if answer.status_code == 201 else ""

    eventually(deployment, "the deployment")
    run = f"{api}/flow_runs/{eventually(asked, 'a run of it')}"

    def final() -> Any:
        state = httpx.get(run, headers=known).json()["state"]
        return state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") and state

    state = eventually(final, "the end of the run", 150.0)

    assert state["type"] == "COMPLETED", state
    assert (day.newest()["ending"], day.champion()) == ("promoted", 3)


def test_after_all_of_this_the_journal_is_whole(day: Day) -> None:
    assert day.whole()


def test_a_workspace_whose_folder_is_removed_leaves_no_process(day: Day) -> None:
    assert day.modelcd("up").returncode == 0
    day.served()

    shutil.rmtree(day.modelcd.workspace, ignore_errors=True)

    eventually(lambda: left_behind(day.modelcd.workspace) == [], "the end of everything that it ran")
