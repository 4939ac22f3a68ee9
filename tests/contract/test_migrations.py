"""Migrations of the journal: files of an older modelcd open, say the same, and survive being killed in between."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from modelcd.adapters.journal import FORMAT, SqlJournal
from modelcd.adapters.migrations import upgrade
from modelcd.adapters.sealing import sealed
from modelcd.adapters.sqlite import Database
from modelcd.domain.records import CHECKPOINT, Entry, Head, Record, broken
from modelcd.errors import ConfigurationError, JournalError
from modelcd.testing.journal import entry

FIRST = """
PRAGMA journal_mode = WAL;
CREATE TABLE meta ("key" VARCHAR NOT NULL, value INTEGER NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE records (
    stream VARCHAR NOT NULL, seq INTEGER NOT NULL, kind VARCHAR NOT NULL, at VARCHAR NOT NULL, actor VARCHAR NOT NULL,
    "release" VARCHAR NOT NULL, body TEXT NOT NULL, previous VARCHAR NOT NULL, digest VARCHAR NOT NULL,
    PRIMARY KEY (stream, seq)
);
INSERT INTO meta VALUES ('format', 1);
"""
"""What the first modelcd did to an empty file."""

STREAMS: dict[str, list[Entry]] = {
    "builds/flights": [entry("opened", why="naïve – ☂"), entry("closed")],
    "production/flights": [entry(n=1), entry(CHECKPOINT, n=2), entry(CHECKPOINT, n=3), entry(n=4)],
    "staging/flights": [entry(deep={"a": [1, None, 2.5]})],
}


def old_journal(path: Path) -> dict[str, list[Record]]:
    """Make a file at *path* as the first modelcd left it; returns its records by stream."""
    written = {stream: sealed(stream, 0, "", entries) for stream, entries in STREAMS.items()}
    with sqlite3.connect(path) as file:
        file.executescript(FIRST)
        for record in (record for records in written.values() for record in records):
            given = record.entry
            body = json.dumps(given.body, ensure_ascii=False, sort_keys=True)
            values = (record.stream, record.seq, given.kind, given.at, given.actor, given.release, body)
            row = (*values, record.previous, record.digest)
            file.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    file.close()
    return written


def schema(path: Path) -> dict[str, list[object]]:
    """Return the columns of each table of the file at *path*, Alembic's own apart."""
    with sqlite3.connect(path) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        found = {name: file.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
    file.close()
    found.pop("alembic_version", None)
    return found


def formats(path: Path) -> tuple[int, str]:
    """Return what the file at *path* says of its format, to us and to Alembic."""
    with sqlite3.connect(path) as file:
        ours = file.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0]
        alembic = file.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    file.close()
    return ours, alembic


def test_an_old_journal_reads_the_same(tmp_path: Path) -> None:
    written = old_journal(tmp_path / "journal.db")

    journal = SqlJournal(tmp_path / "journal.db")

    assert {stream: journal.read(stream) for stream in journal.heads()} == written
    assert [broken(journal.read(stream)) for stream in written] == ["", "", ""]


def test_an_old_journal_gets_its_heads(tmp_path: Path) -> None:
    written = old_journal(tmp_path / "journal.db")

    heads = SqlJournal(tmp_path / "journal.db").heads()

    assert heads == {stream: Head(0, "").behind(records) for stream, records in written.items()}
    assert heads["production/flights"].checkpoint == written["production/flights"][2]


def test_an_old_journal_can_be_written_on(tmp_path: Path) -> None:
    old_journal(tmp_path / "journal.db")

    SqlJournal(tmp_path / "journal.db").append("production/flights", 4, [entry(n=5)])

    records = SqlJournal(tmp_path / "journal.db").read("production/flights")
    assert (len(records), broken(records)) == (5, "")


def test_an_upgraded_journal_says_so_to_us_and_to_alembic(tmp_path: Path) -> None:
    old_journal(tmp_path / "journal.db")
    SqlJournal(tmp_path / "journal.db").heads()

    assert formats(tmp_path / "journal.db") == (FORMAT, f"{FORMAT:04}")


def test_a_new_journal_has_the_tables_of_an_upgraded_one(tmp_path: Path) -> None:
    old_journal(tmp_path / "old.db")
    for name in ("old.db", "new.db"):
        SqlJournal(tmp_path / name).append("staging/a", 0, [entry()])

    assert schema(tmp_path / "new.db") == schema(tmp_path / "old.db")


def test_the_first_revision_makes_what_the_first_modelcd_made(tmp_path: Path) -> None:
    old_journal(tmp_path / "old.db")
    engine = Database(tmp_path / "new.db", MetaData(), what="", fails=JournalError, format=0)
    with engine.writing() as connection:
        connection.exec_driver_sql("DROP TABLE meta")
        upgrade(connection, 0, "0001")

    assert schema(tmp_path / "new.db") == schema(tmp_path / "old.db")


def test_an_upgraded_journal_is_refused_by_the_first_modelcd(tmp_path: Path) -> None:
    old_journal(tmp_path / "journal.db")
    SqlJournal(tmp_path / "journal.db").heads()

    old = Database(tmp_path / "journal.db", MetaData(), what="the journal", fails=JournalError, format=1)
    with pytest.raises(ConfigurationError, match="newer modelcd"), old.reading():
        pass


OPEN = "import sys; from pathlib import Path; from modelcd.adapters.journal import SqlJournal\n"


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_open_an_old_journal_at_once_all_read_it(tmp_path: Path) -> None:
    written = old_journal(tmp_path / "journal.db")
    readers = [run("print(*SqlJournal(Path(sys.argv[1])).heads())", tmp_path / "journal.db") for _ in range(3)]

    said = [reader.communicate(timeout=60)[0].split() for reader in readers]

    assert said == [list(written)] * 3


KILLED = """
import os, signal
from sqlalchemy import Engine, event

seen, last = 0, int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *rest):
    global seen
    seen += 1
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)

SqlJournal(Path(sys.argv[1])).heads()
"""


def test_killed_before_any_statement_of_a_migration_it_opens_again_with_everything(tmp_path: Path) -> None:
    statement, killed = 0, True
    while killed:
        statement += 1
        path = tmp_path / str(statement) / "journal.db"
        path.parent.mkdir()
        written = old_journal(path)
        process = run(KILLED, path, statement)
        process.communicate(timeout=60)
        killed = process.returncode == -signal.SIGKILL

        journal = SqlJournal(path)
        assert {stream: journal.read(stream) for stream in journal.heads()} == written
        assert formats(path) == (FORMAT, f"{FORMAT:04}")

    assert statement > 8


def test_alembic_is_imported_only_to_migrate(tmp_path: Path) -> None:
    old_journal(tmp_path / "old.db")
    code = "SqlJournal(Path(sys.argv[1])).append('staging/a', 0, []); print('alembic' in sys.modules)"

    said = [run(code, tmp_path / name).communicate(timeout=60)[0].strip() for name in ("new.db", "old.db")]

    assert said == ["False", "True"]
