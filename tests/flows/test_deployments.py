"""What Prefect plans: the models that somebody scheduled, at the times that `status` tells, and nothing besides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from modelcd.adapters.guard import credential
from modelcd.domain.delivery import SCHEDULES
from modelcd.domain.records import Entry
from modelcd.domain.schedule import Retrain
from modelcd.platform.journal import journal_of
from modelcd.platform.services import Services
from modelcd.testing.traffic import free_port
from modelcd.workspace import open_workspace

pytestmark = pytest.mark.timeout(300)

DAILY = {"cron": "0 5 * * *", "timezone": "Europe/Berlin"}
WEEKLY = {"cron": "30 6 * * mon", "timezone": "America/New_York"}


@dataclass(frozen=True)
class Planner:
    """A workspace whose schedules are served, and what Prefect plans by them."""

    services: Services

    def schedule(self, model: str, retrain: dict[str, str] | None) -> None:
        """Record what a person's delivery of *model* said."""
        journal, stream = journal_of(self.services.workspace), f"{SCHEDULES}{model}"
        head = journal.heads(stream).get(stream)
        body = {"retrain": retrain, "project": "/projects/here"}
        entry = Entry("scheduled", datetime.now(UTC).isoformat(), "anna", "d1", body)
        journal.append(stream, head.seq if head else 0, [entry])

    def asked(self, path: str, what: dict[str, Any]) -> list[Any]:
        """Return what Prefect answers."""
        url, known = self.services.url("prefect"), credential(self.services.workspace.token)
        return list(httpx.post(f"{url}/api/{path}", json=what, headers=known, timeout=20).raise_for_status().json())

    def planned(self) -> dict[str, tuple[str, str, str]]:
        """Return by deployment what Prefect has: the cron line, its time zone, the model."""
        found = {}
        for deployment in self.asked("deployments/filter", {}):
            (one,) = deployment["schedules"]
            when = one["schedule"]
            found[deployment["name"]] = (when["cron"], when["timezone"], deployment["parameters"]["model"])
        return found

    def until(self, wanted: dict[str, tuple[str, str, str]]) -> None:
        """Wait until Prefect plans what is *wanted*."""
        eventually(lambda: self.planned() == wanted)

    def runs(self) -> list[Any]:
        """Return the runs that are planned, the next one first."""
        asked = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
        return self.asked("flow_runs/filter", asked)


def eventually(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return the first true value of *true*; fails when there is none within *seconds*."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    """A Prefect server, and the process that serves what is scheduled."""
    workspace = open_workspace(tmp_path_factory.mktemp("planner") / "workspace")
    workspace = workspace.with_ports({name: free_port() for name in workspace.ports})
    services = Services(workspace)
    try:
        services.up(["prefect", "deployments"])
        yield Planner(services)
    finally:
        services.down()


def test_what_is_scheduled_is_planned_and_what_is_taken_out_is_not_any_more(planner: Planner) -> None:
    planner.schedule("churn", DAILY)
    planner.schedule("team/price", WEEKLY)
    weekly = ("30 6 * * mon", "America/New_York", "team/price")
    planner.until({"churn": ("0 5 * * *", "Europe/Berlin", "churn"), "team--price": weekly})

    planner.schedule("churn", {**DAILY, "cron": "0 7 * * *"})
    planner.until({"churn": ("0 7 * * *", "Europe/Berlin", "churn"), "team--price": weekly})
    planned = eventually(lambda: [run for run in planner.runs() if run["parameters"]["model"] == "churn"])
    following = Retrain("0 7 * * *", timezone="Europe/Berlin").next(datetime.now(UTC))
    assert datetime.fromisoformat(planned[0]["expected_start_time"]) == following

    planner.schedule("churn", None)
    planner.schedule("team/price", None)
    planner.until({})
    assert planner.runs() == []
    assert planner.services.alive("deployments")


CRONS = ("0 5 * * *", "*/15 * * * *", "0 0 1 * *", "30 6 * * mon", "0 12 * * 1-5", "0 0 * * 7", "0 9 1,15 * *")
RARER = ("5 4 */2 * *", "0 0 * jan,jul *", "0 0 29 2 *", "0-30/10 8-18 * * MON-FRI")


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("cron", [*CRONS, *RARER])
def test_the_next_run_is_told_as_prefect_plans_it(cron: str, timezone: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    began = datetime(2026, 3, 20, 12, 7, 30, tzinfo=UTC)
    for day in range(0, 260, 20):
        after = began + timedelta(days=day)
        (planned,) = asyncio.run(CronSchedule(cron=cron, timezone=timezone).get_dates(1, after))

        assert Retrain(cron, timezone).next(after) == planned, after
