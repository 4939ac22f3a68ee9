"""Journals: what all keep, and what the one on disk keeps when processes, disks and versions get in its way."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.memory import MemoryJournal
from modelcd.domain.records import broken
from modelcd.errors import ConfigurationError, JournalError, Tampered
from modelcd.testing.journal import STREAM, JournalAcrossProcesses, JournalContract, entry, python


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal()


class TestSqlJournal(JournalContract, JournalAcrossProcesses):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "new" / "journal.sqlite"

    @pytest.fixture
    def journal(self, path: Path) -> SqlJournal:
        return SqlJournal(path)

    @pytest.fixture
    def elsewhere(self, path: Path) -> str:
        return f"""
from pathlib import Path
from modelcd.adapters.journal import SqlJournal
journal = SqlJournal(Path({str(path)!r}))
"""


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that runs *code*, its output to be read."""
    given = (
        f"sys.argv[1:] = {[str(argument) for argument in arguments]!r}\n"
        "from pathlib import Path; from modelcd.adapters.journal import SqlJournal\n"
        "journal = SqlJournal(Path(sys.argv[1]))\n"
    )
    return python(given + code)


def test_constructing_makes_no_file(tmp_path: Path) -> None:
    SqlJournal(tmp_path / "journal.sqlite")

    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_not_there_makes_no_file(tmp_path: Path) -> None:
    SqlJournal(tmp_path / "journal.sqlite").read(STREAM)

    assert list(tmp_path.iterdir()) == []


def test_processes_that_create_it_at_once_lose_no_record(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writers = [run("journal.append(f'staging/{sys.argv[2]}', 0, [entry()])", path, n) for n in range(3)]
    for writer in writers:
        writer.communicate(timeout=60)

    assert list(SqlJournal(path).heads()) == ["staging/0", "staging/1", "staging/2"]


def test_holds_that_come_and_go_leave_few_files(tmp_path: Path) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite")
    for _ in range(20):
        with journal.exclusive(STREAM):
            pass

    assert sum(path.is_file() for path in tmp_path.rglob("*")) <= 2


def test_what_a_killed_process_left_of_a_claim_is_cleared_away(tmp_path: Path) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite")
    with journal.exclusive(STREAM):
        pass
    folder = next(path for path in tmp_path.rglob("*") if path.is_file()).parent
    (folder / "new-left").touch()

    with journal.exclusive(STREAM):
        assert not (folder / "new-left").exists()


def test_a_folder_that_cannot_hold_locks_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite.holds").write_text("in the way")

    with pytest.raises(JournalError, match="cannot be held"), SqlJournal(tmp_path / "journal.sqlite").exclusive(STREAM):
        pass


def test_a_locked_database_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    SqlJournal(path).append(STREAM, 0, [entry()])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(JournalError, match="locked"):
            SqlJournal(path, patience=0.05).append(STREAM, 1, [entry()])
    finally:
        other.close()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    SqlJournal(path).append(STREAM, 0, [entry()])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert len(SqlJournal(path, patience=0.05).read(STREAM)) == 1
    finally:
        other.close()


FILL = """
import resource
journal.append(STREAM, 0, [entry()])
size = max(path.stat().st_size for path in Path(sys.argv[1]).parent.iterdir() if path.suffix != ".reserve")
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, resource.RLIM_INFINITY))
try:
    journal.append(STREAM, 1, [entry(text="x" * 500) for _ in range(1000)])
except JournalError as error:
    print(error, error.help)
"""


def test_a_disk_that_takes_no_more_is_an_error_that_says_so(tmp_path: Path) -> None:
    printed, _ = run(FILL, tmp_path / "journal.sqlite").communicate(timeout=60)

    assert re.search("disk .* space", printed)


def test_a_disk_that_takes_no_more_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    run(FILL, path).communicate(timeout=60)

    assert len(SqlJournal(path).read(STREAM)) == 1


def test_a_path_that_cannot_be_opened_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened"):
        SqlJournal(tmp_path).append(STREAM, 0, [entry()])


def test_a_file_that_is_no_database_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("not a database, but long enough to be looked at" * 100)

    with pytest.raises(JournalError, match="not an SQLite database"):
        SqlJournal(path).read(STREAM)


@pytest.mark.parametrize(("format", "age"), [(99, "newer"), (1, "older")])
def test_a_journal_of_another_format_is_refused(tmp_path: Path, format: int, age: str) -> None:
    path = tmp_path / "journal.sqlite"
    SqlJournal(path).append(STREAM, 0, [entry()])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE meta SET value = ?", (format,))
    other.close()

    with pytest.raises(ConfigurationError, match=f"{age} modelcd"):
        SqlJournal(path).read(STREAM)


def test_a_changed_record_breaks_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqlJournal(path)
    journal.append(STREAM, 0, [entry(share=5), entry(share=25)])
    with sqlite3.connect(path) as other:
        other.execute("""UPDATE records SET body = '{"share": 100}' WHERE seq = 1""")
    other.close()

    assert "record 1 was changed" in broken(journal.read(STREAM))


def test_a_body_that_is_no_json_any_more_is_tampered(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqlJournal(path)
    journal.append(STREAM, 0, [entry()])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE records SET body = 'oops'")
    other.close()

    with pytest.raises(Tampered, match="record 1"):
        journal.read(STREAM)
