"""What a canary depends on goes away in its middle, for real: the journal's database, the counts, the labels."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import stories
from laptops import SERVER, Answered, Laptop, ask, forked, in_child, until, warm

from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.postgres import Postgres
from modelcd.adapters.traefik import Gateway, TraefikMetrics, TraefikRouter
from modelcd.domain.records import broken
from modelcd.domain.release import Ask
from modelcd.environment import Environment
from modelcd.flows import deliver as flows
from modelcd.ports import Label
from modelcd.steps.release import ask as ask_for
from modelcd.steps.release import open_release
from modelcd.steps.tick import tick
from modelcd.steps.watch import Watch
from modelcd.testing.postgres import PostgresServer
from modelcd.testing.traffic import DOORS, free_port

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # it is, and waits
]


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    gateway = Gateway(tmp_path / "gateway", free_port(), free_port(), DOORS)
    made = Laptop(tmp_path / "w", gateway, script)
    made.folder.mkdir()
    warm(tmp_path / "warm")
    gateway.start()
    try:
        yield made
    finally:
        made.clear()
        gateway.stop()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as made:
        yield made


def test_a_canary_outlives_its_journal_s_database_and_users_do_not_notice(
    laptop: Laptop, server: PostgresServer
) -> None:
    def bind(name: str) -> Environment:
        return replace(laptop.environment(name), journal=SqlJournal(Postgres(server.address())))

    def rounds() -> None:
        stories.rounds({name: bind(name) for name in stories.ENVIRONMENTS})

    stage = stories.Stage(bind, laptop.folder, interpreter="")
    in_child(partial(stories.begin, "promote", stage, rounds, print, laptop.log), 120.0)
    answers: list[Answered] = []
    stop = threading.Event()

    def users() -> None:
        while not stop.wait(0.005):
            answers.append(ask(laptop.gateway.port, stories.STREAM))

    asking = threading.Thread(target=users, daemon=True)
    asking.start()
    driver, _ = forked(partial(stories.driven, "promote", stage, stories.dying(None)))
    until(lambda: any(answer.version == "2" for answer in answers), 60.0, "a canary")
    server.stop()
    seen = len(answers)
    until(lambda: len(answers) > seen + 20)
    server.start()
    os.waitpid(driver, 0)
    in_child(rounds, 120.0)
    until(lambda: {answer.version for answer in answers[-20:]} == {"2"}, 60.0, "the new version")
    stop.set()
    asking.join()

    records = in_child(lambda: bind("production").journal.read(stories.STREAM))[1]
    assert {answer.status for answer in answers} == {200}
    assert broken(records) == ""
    assert [r.entry.body["ending"] for r in records if r.entry.kind == "closed"] == ["promoted", "promoted"]


def canary(laptop: Laptop) -> None:
    """Bring version 2 to its first share and leave it there, as a killed driver does."""
    stage = stories.Stage(laptop.environment, laptop.folder, interpreter="")
    rounds = partial(stories.rounds, laptop.environments())
    stories.begin("promote", stage, rounds, print, laptop.log)
    env = laptop.environment("production")
    candidate = flows.candidate_of(env, stories.MODEL, 2)
    watch = open_release(env, candidate, release="r2", actor="anna", reason="")
    while watch.endpoint.releases[-1].share < 50:
        tick(env, watch, actor="anna")
        env.clock.sleep(0.05)


def share(laptop: Laptop) -> float:
    """What the gateway gives version 2."""
    routing = TraefikRouter(laptop.gateway).read(stories.STREAM)
    return routing.share(2) if routing else -1.0


def served(laptop: Laptop, requests: int = 200) -> set[int]:
    """Ask for scores, as users do; return the statuses of the answers."""
    return {ask(laptop.gateway.port, stories.STREAM).status for _ in range(requests)}


def test_without_the_gateway_s_counts_nothing_steps_up_and_a_person_can_go_back(laptop: Laptop) -> None:
    blind = TraefikMetrics(Gateway(laptop.gateway.folder, laptop.gateway.port, free_port(), DOORS))

    def rounds() -> str:
        environments = {n: replace(env, metrics=blind) for n, env in laptop.environments().items()}
        stories.rounds(environments, most=60)
        return Watch(stories.STREAM).refresh(environments["production"]).trouble

    in_child(partial(canary, laptop), 120.0)
    assert served(laptop) == {200}
    trouble = in_child(rounds, 120.0)[1]
    assert "counts could not be read" in trouble
    assert (share(laptop), served(laptop)) == (50.0, {200})

    def go_back() -> None:
        env = laptop.environment("production")
        ask_for(env, stories.MODEL, Ask.ROLL_BACK, actor="bob", reason="complaints")

    in_child(go_back)
    in_child(rounds, 120.0)

    assert (share(laptop), served(laptop)) == (0.0, {200})


def test_a_locked_prediction_log_refuses_labels_loudly_takes_them_later_and_users_do_not_notice(laptop: Laptop) -> None:
    in_child(partial(canary, laptop), 120.0)

    def label(count: int) -> int:
        env = laptop.environment("production")
        return env.predictions.label(stories.STREAM, [Label(f"{count}-{k}", True) for k in range(3)]).waiting

    assert in_child(partial(label, 1))[1] == 3
    found = [path for path in (laptop.folder / "predictions").rglob("*") if path.is_file() and _is_sqlite(path)]
    locked = sqlite3.connect(found[0], isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(AssertionError, match="PredictionsError"):
            in_child(partial(label, 2), 60.0)
        assert served(laptop) == {200}
    finally:
        locked.execute("ROLLBACK")
        locked.close()

    assert in_child(partial(label, 2))[1] == 3


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(15) == b"SQLite format 3"
