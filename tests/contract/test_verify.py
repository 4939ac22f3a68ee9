"""`verify`: whatever was done to the journal with plain SQL is found, in each database that can hold one."""

from __future__ import annotations

import copy
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from modelcd.cli.app import run
from modelcd.control import Control, connect
from modelcd.domain.records import CHECKPOINT
from modelcd.errors import Tampered
from modelcd.testing.journal import entry

FLIGHTS, TRAINS = "builds/flights", "builds/trains"


@dataclass(frozen=True)
class Kept:
    """A workspace's verbs, and plain SQL on its journal."""

    control: Control
    sql: Callable[[str], None]

    def fill(self, first: int = 1) -> None:
        """Write four records of flights and one of trains."""
        journal = self.control._journal
        journal.append(FLIGHTS, 0, [entry(n=first), entry(CHECKPOINT, n=2), entry(n=3), entry(n=4)])
        journal.append(TRAINS, 0, [entry(n=1)])


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("MODELCD_WORKSPACE", str(tmp_path / "workspace"))

    def in_file(statements: str) -> None:
        with sqlite3.connect(control.workspace.journal) as other:
            other.executescript(statements)
        other.close()

    def on_server(statements: str) -> None:
        with psycopg.connect(os.environ["MODELCD_JOURNAL"]) as other:
            other.execute(statements.encode())

    if request.param == "postgresql":
        monkeypatch.setenv("MODELCD_JOURNAL", request.getfixturevalue("database"))
    control = connect()
    made = Kept(control, on_server if request.param == "postgresql" else in_file)
    made.fill()
    return made


def test_a_journal_that_nobody_touched_is_whole(kept: Kept) -> None:
    assert kept.control.verify(kept.control.heads()) == []


def test_a_journal_that_does_not_exist_yet_is_whole(tmp_path: Path) -> None:
    control = connect(tmp_path / "new")

    assert (control.verify(), control.heads()) == ([], {})


@pytest.mark.parametrize(
    ("statements", "trouble"),
    [
        ("UPDATE records SET actor = 'eve' WHERE seq = 3", "record 3 was changed after it was written"),
        ("UPDATE records SET body = '{}' WHERE seq = 2", "record 2 was changed after it was written"),
        (
            "UPDATE records SET body = 'oops' WHERE seq = 2",
            "record 2 was changed after it was written: its body is no JSON",
        ),
        ("DELETE FROM records WHERE seq = 2", "record 2 is missing (found 3 in its place)"),
        ("DELETE FROM records WHERE seq = 1 AND stream LIKE '%flights'", "record 1 is missing (found 2 in its place)"),
        ("DELETE FROM records WHERE seq = 4", "the newest 1 of its 4 records are missing"),
        ("DELETE FROM records WHERE seq > 2", "the newest 2 of its 4 records are missing"),
        ("DELETE FROM records WHERE stream LIKE '%flights'", "the newest 4 of its 4 records are missing"),
        ("UPDATE heads SET seq = 3 WHERE seq = 4", "its head names record 3, and there are records behind it"),
        ("UPDATE heads SET digest = '0' WHERE seq = 4", "its head was changed and does not belong to its records"),
        ("UPDATE heads SET checkpoint = 0 WHERE seq = 4", "its head was changed and does not belong to its records"),
        ("UPDATE heads SET checkpoint = 3 WHERE seq = 4", "its head was changed and does not belong to its records"),
        (
            "UPDATE records SET seq = 30 WHERE seq = 3; UPDATE records SET seq = 3 WHERE seq = 4;"
            "UPDATE records SET seq = 4 WHERE seq = 30",
            "record 3 does not follow the record before it",
        ),
    ],
)
def test_what_was_done_to_records_or_heads_is_found(kept: Kept, statements: str, trouble: str) -> None:
    kept.sql(statements)

    assert kept.control.verify() == [f"{FLIGHTS}: {trouble}"]


def test_records_without_a_head_are_found(kept: Kept) -> None:
    noted = kept.control.heads()

    kept.sql("DELETE FROM heads WHERE seq = 4")

    for against in (noted, None):
        troubles = kept.control.verify(against)
        assert troubles == [f"{FLIGHTS}: its head names record 0, and there are records behind it"]


def test_a_stream_removed_with_its_head_is_found_against_what_was_noted(kept: Kept) -> None:
    noted = kept.control.heads()

    kept.sql("DELETE FROM records WHERE stream LIKE '%flights'; DELETE FROM heads WHERE stream LIKE '%flights'")

    assert kept.control.verify() == []
    missing = f"{FLIGHTS}: record 4 was noted elsewhere and is missing; there are 0 records"
    assert kept.control.verify(noted) == [missing]


def test_a_history_written_anew_is_found_against_what_was_noted(kept: Kept) -> None:
    noted = kept.control.heads()

    kept.sql("DELETE FROM records; DELETE FROM heads")
    kept.fill(first=99)

    anew = f"{FLIGHTS}: record 4 is not the one that was noted elsewhere: this history was written anew"
    assert (kept.control.verify(), kept.control.verify(noted)) == ([], [anew])


def test_what_was_written_since_is_no_trouble(kept: Kept) -> None:
    noted = copy.deepcopy(kept.control.heads())

    kept.control._journal.append(FLIGHTS, 4, [entry(n=5)])

    assert kept.control.verify(noted) == []


def test_nobody_writes_where_records_were_removed(kept: Kept) -> None:
    kept.sql("DELETE FROM records WHERE seq = 4")

    with pytest.raises(Tampered, match="its head names record 4, which is not there as it was"):
        kept.control._journal.append(FLIGHTS, 3, [entry()])


def test_nobody_writes_behind_records_that_the_head_does_not_know(kept: Kept) -> None:
    kept.sql("UPDATE heads SET seq = 3, digest = (SELECT digest FROM records WHERE seq = 3) WHERE seq = 4")

    with pytest.raises(Tampered, match="there are records behind number 3, where its head says it ends"):
        kept.control._journal.append(FLIGHTS, 4, [entry()])


def test_a_checkpoint_that_cannot_be_read_is_none(kept: Kept) -> None:
    kept.sql("UPDATE records SET body = 'oops' WHERE seq = 2")

    assert kept.control._journal.heads()[FLIGHTS].checkpoint is None


# -- the command -------------------------------------------------------------------------------------------------------


def verify(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        run(["verify", *arguments])
    return ended.value.code


def test_verify_says_how_much_holds(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify() == 0
    assert capsys.readouterr().out == "the journal is whole: 5 records in 2 streams\n"


def test_verify_ends_with_no_when_something_does_not_hold(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    kept.sql("DELETE FROM records WHERE seq = 4")

    assert verify() == 1
    assert capsys.readouterr().out == f"{FLIGHTS}: the newest 1 of its 4 records are missing\n"


def test_what_json_prints_can_be_verified_against(
    kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("--json") == 0
    noted = tmp_path / "heads.json"
    noted.write_text(capsys.readouterr().out, encoding="utf-8")
    assert verify("--against", str(noted)) == 0
    assert "2 heads are as they were noted" in capsys.readouterr().out

    kept.sql("DELETE FROM records WHERE stream LIKE '%trains'; DELETE FROM heads WHERE stream LIKE '%trains'")

    assert verify("--against", str(noted)) == 1
    assert f"{TRAINS}: record 1 was noted elsewhere and is missing" in capsys.readouterr().out


def test_json_names_each_stream_with_number_and_digest(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    verify("--json")
    said = json.loads(capsys.readouterr().out)

    newest = {stream: kept.control._journal.read(stream)[-1] for stream in (FLIGHTS, TRAINS)}
    assert said["streams"] == {name: {"seq": r.seq, "digest": r.digest} for name, r in newest.items()}
    assert (said["whole"], said["records"], said["troubles"]) == (True, 5, [])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"streams": {"a": 1}}', '{"streams": {"a": {"seq": 0, "digest": ""}}}']
)
def test_a_file_that_is_something_else_is_refused(
    kept: Kept, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text(text)

    assert verify("--against", str(tmp_path / "other.json")) == 2
    assert "is not what modelcd verify --json prints" in capsys.readouterr().err
