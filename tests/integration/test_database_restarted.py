"""The journal's database is killed and started again in the middle of a canary: users, the release and its records."""

from __future__ import annotations

import os
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
from modelcd.adapters.traefik import Gateway
from modelcd.domain.records import broken
from modelcd.environment import Environment
from modelcd.testing.postgres import PostgresServer
from modelcd.testing.traffic import free_port

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # it is, and waits
]


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    gateway = Gateway(tmp_path / "gateway", free_port(), free_port())
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
    made = PostgresServer()
    try:
        made.start()
        yield made
    finally:
        made.remove()


def test_a_canary_outlives_its_journal_s_database_and_users_do_not_notice(
    laptop: Laptop, server: PostgresServer
) -> None:
    def bind(name: str) -> Environment:
        return replace(laptop.environment(name), journal=SqlJournal(Postgres(server.address())))

    def rounds() -> None:
        stories.rounds({name: bind(name) for name in stories.ENVIRONMENTS})

    stage = stories.Stage(bind, laptop.folder, interpreter="")
    in_child(partial(stories.begin, "promote", stage, rounds, print), 120.0)
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
