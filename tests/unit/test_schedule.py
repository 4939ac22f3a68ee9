"""When a model is retrained by itself: what may be written, when that is, and who says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import stories

from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.memory_project import MemoryProject
from modelcd.api.__main__ import kept_alive
from modelcd.artifact import digest_of
from modelcd.cli.app import run
from modelcd.control import connect
from modelcd.domain.delivery import SCHEDULES
from modelcd.domain.schedule import Retrain
from modelcd.domain.verdict import Finding, Verdict
from modelcd.environments.memory import Memory
from modelcd.errors import UnknownName
from modelcd.flows import deliver as flows
from modelcd.flows._effects import listener, pages
from modelcd.steps.build import Walk
from modelcd.steps.schedule import read_schedules
from modelcd.workspace import open_workspace

BERLIN = Retrain("0 5 * * *", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("cron", "zone", "said"),
    [
        ("0 5 * *", "UTC", "cron has five fields (minute, hour, day, month, weekday), got '0 5 * *'"),
        ("@daily", "UTC", "cron has five fields"),
        (5, "UTC", "cron has five fields"),
        ("0 25 * * *", "UTC", "cannot be read: Bad hour"),
        ("0 5 31 2 *", "UTC", "cannot be read: Bad day-of-month"),
        ("0 5 L * *", "UTC", "has signs that not every cron knows"),
        ("0 5 1 * mon", "UTC", "gives a day of the month and a weekday; give one of the two"),
        ("0 5 */2 * 1", "UTC", "gives a day of the month and a weekday; give one of the two"),
        ("0 5 * * *", "europe/berlin", "no time zone is named 'europe/berlin'; did you mean 'Europe/Berlin'?"),
        ("0 5 * * *", "../etc/passwd", "no time zone is named '../etc/passwd'"),
        ("0 5 * * *", "", "no time zone is named ''"),
        ("0 5 * * *", None, "no time zone is named None"),
        ("5" * 100_000, "Z" * 100_000, "no time zone is named 'ZZZZZZZZZZZZ...ZZZZZZZZZZZZZ'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(cron: Any, zone: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        Retrain(cron, zone)

    assert len(str(refused.value)) < 250


def test_five_in_the_morning_stays_five_when_clocks_are_set() -> None:
    summer, winter = (BERLIN.next(datetime(2026, 10, day, 12, tzinfo=UTC)) for day in (23, 25))

    assert [at.astimezone(UTC).hour for at in (summer, winter)] == [3, 4]
    assert [at.hour for at in (summer, winter)] == [5, 5]


# -- who says so -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage(stories.Stage):
    """The scripted project, with other answers of its child."""

    answers: Mapping[str, Any] = field(default_factory=dict)
    commands: Mapping[str, Any] = field(default_factory=dict)

    def walk(self, project_at: Path, actor: str, delivery: str) -> Walk:
        walk = super().walk(project_at, actor, delivery)
        assert isinstance(walk.project, MemoryProject)
        known = walk.project.commands["describe"]({})
        answers = {**self.answers, "describe": {**known, **self.answers["describe"]}}
        commands = {name: (lambda _, answer=answer: answer) for name, answer in answers.items()}
        commands |= self.commands
        walk.project = MemoryProject({**walk.project.commands, **commands})
        return walk


class Desk:
    """Somebody who delivers the scripted project, and reads what is said."""

    def __init__(self, folder: Path) -> None:
        models = {}
        for data in ("d1", "d2"):
            stories.train(folder / data, data)
            models[digest_of(folder / data)] = lambda rows: [row["x"] for row in rows]
        self.folder = folder
        self.memory = Memory(models, {})

    def deliver(self, retrain: Mapping[str, str] | None, *, at: str = "here", **how: Any) -> tuple[Any, list[str]]:
        """Deliver, and return what came of it and what was said *of* one step, by itself the schedule."""
        said: list[str] = []
        of = how.pop("of", "schedule")
        answers = {"describe": {"retrain": retrain, **how.pop("says", {})}, **how.pop("answers", {})}
        bind = lambda name: replace(self.memory.environment, name=name)  # noqa: E731
        contract = lambda url, rows: [Finding("ready", Verdict.PASS, "it is")]  # noqa: E731
        stage = Stage(
            bind, self.folder / "builds", contract=contract, answers=answers, commands=how.pop("commands", {})
        )
        told = listener.set(lambda step, state, what, _: said.append(what) if step == of else None)
        try:
            return flows.deliver_in(stage, self.folder / at, "anna", **how), said
        finally:
            listener.reset(told)

    def scheduled(self) -> dict[str, tuple[str, str, str]]:
        """Return what is scheduled: by model its cron line, its time zone and its folder's name."""
        found = read_schedules(self.memory.journal)
        return {m: (s.retrain.cron, s.retrain.timezone, Path(s.project).name) for m, s in found.items()}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    without = pages.set(False)
    yield Desk(tmp_path)
    pages.reset(without)


DAILY = {"cron": "0 5 * * *", "timezone": "Europe/Berlin"}
HOURLY = {"cron": "0 * * * *", "timezone": "UTC"}


def test_nothing_is_scheduled_that_nobody_asked_for(desk: Desk) -> None:
    told, said = desk.deliver(None)

    assert (told["ending"], told["retrain"], said, desk.scheduled()) == ("promoted", None, [], {})
    assert kept_alive(desk.memory.journal) == ("gateway", "prefect")


def test_a_delivery_says_what_it_scheduled_and_says_it_once(desk: Desk) -> None:
    told, said = desk.deliver(DAILY)
    again, nothing = desk.deliver(DAILY)

    assert desk.scheduled() == {"m": ("0 5 * * *", "Europe/Berlin", "here")}
    assert said[0].startswith('retrains by itself at "0 5 * * *" Europe/Berlin; next ')
    assert told["retrain"]["next"].startswith(f"{BERLIN.next(desk.memory.clock.now()):%Y-%m-%dT05:00}")
    assert (again["ending"], again["retrain"]["cron"], nothing) == ("nothing new", "0 5 * * *", [])
    assert kept_alive(desk.memory.journal) == ("gateway", "prefect", "deployments")


def test_taking_it_out_and_delivering_takes_the_schedule_away_and_says_so(desk: Desk) -> None:
    desk.deliver(DAILY)

    told, said = desk.deliver(None)

    assert (told["retrain"], desk.scheduled()) == (None, {})
    assert said == ['retrains no more by itself (it did at "0 5 * * *" Europe/Berlin)']


def test_a_delivery_that_stops_has_said_when_to_retrain_all_the_same(desk: Desk) -> None:
    late = {"expect": {"verdict": "fail", "reason": "too few rows", "evidence": {}}}

    told, _ = desk.deliver(HOURLY, answers=late)

    assert (told["ending"], desk.scheduled()) == ("stopped", {"m": ("0 * * * *", "UTC", "here")})


def test_a_retraining_by_schedule_changes_no_schedule_whatever_the_folder_says_by_then(desk: Desk) -> None:
    desk.deliver(DAILY)

    for says in (HOURLY, None):
        _, said = desk.deliver(says, trigger="schedule", new_data=True)
        assert said == []

    assert desk.scheduled() == {"m": ("0 5 * * *", "Europe/Berlin", "here")}


def test_the_folder_that_was_delivered_last_is_the_one_that_is_retrained(desk: Desk) -> None:
    desk.deliver(DAILY)
    desk.deliver(DAILY, at="elsewhere")

    assert desk.scheduled() == {"m": ("0 5 * * *", "Europe/Berlin", "elsewhere")}


def test_status_shows_the_next_run_of_what_is_scheduled(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.deliver(DAILY)
    workspace, journal = open_workspace(tmp_path / "workspace"), desk.memory.journal
    for stream in journal.heads():
        SqlJournal(workspace.journal).append(stream, 0, [record.entry for record in journal.read(stream)])
    control = connect(workspace.path)

    lines = control.status("m")
    with pytest.raises(SystemExit):
        run(["--workspace", str(workspace.path), "status"])

    assert {line["retrain"]["next"] for line in lines} == {control.scheduled()["m"]["next"]}
    assert (
        f'm retrains by itself at "0 5 * * *" Europe/Berlin, next {BERLIN.next(datetime.now(UTC)):%a %d %b %Y 05:00}'
        in (capsys.readouterr().out)
    )
    assert control.history("m")
    assert control.verify() == []
    assert any(stream.startswith(SCHEDULES) for stream in control.heads())
    with pytest.raises(UnknownName):
        control.status("x")
