"""The journal on a real PostgreSQL server: what all journals keep, and restarts, lost connections, machines apart."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.postgres import Postgres, PostgresClock
from modelcd.domain.records import broken
from modelcd.errors import ConfigurationError, JournalError
from modelcd.platform.journal import clock_of, journal_of
from modelcd.testing.clock import ClockContract
from modelcd.testing.journal import (
    STREAM,
    JournalAcrossProcesses,
    JournalContract,
    await_word,
    entry,
    python,
)
from modelcd.testing.postgres import PostgresServer
from modelcd.workspace import open_workspace

ELSEWHERE = """
from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.postgres import Postgres
journal = SqlJournal(Postgres({address!r}))
"""


class TestPostgresJournal(JournalContract, JournalAcrossProcesses):
    @pytest.fixture
    def journal(self, database: str) -> SqlJournal:
        return SqlJournal(Postgres(database))

    @pytest.fixture
    def elsewhere(self, database: str) -> str:
        return ELSEWHERE.format(address=database)


class TestPostgresClock(ClockContract):
    @pytest.fixture
    def clock(self, database: str) -> PostgresClock:
        return PostgresClock(Postgres(database))


@pytest.fixture
def journal(database: str) -> SqlJournal:
    return SqlJournal(Postgres(database))


@pytest.fixture
def fragile() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with PostgresServer() as server:
        yield server


def values(address: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(address) as connection:
        return connection.execute(query.encode()).fetchall()


# -- restarts and lost connections -------------------------------------------------------------------------------------


def test_after_a_restart_the_next_call_works(fragile: PostgresServer) -> None:
    journal = SqlJournal(Postgres(fragile.database("test"), patience=2.0))
    journal.append(STREAM, 0, [entry()])
    fragile.stop()
    fragile.start()

    journal.append(STREAM, 1, [entry()])
    assert (len(journal.read(STREAM)), journal.heads()[STREAM].seq) == (2, 2)
    with journal.exclusive(STREAM):
        pass


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["at once", "in order"])
def test_without_its_server_every_call_says_so(fragile: PostgresServer, how: signal.Signals) -> None:
    journal = SqlJournal(Postgres(fragile.database("test"), patience=2.0))
    journal.append(STREAM, 0, [entry()])
    fragile.stop(how)

    def hold() -> None:
        with journal.exclusive(STREAM):
            pass

    calls: list[Callable[[], object]] = [
        lambda: journal.read(STREAM),
        lambda: journal.append(STREAM, 1, [entry()]),
        journal.heads,
        hold,
    ]
    for call in calls:
        with pytest.raises(JournalError, match=r"the journal postgresql://.*/test: it cannot be reached") as said:
            call()
        assert "try again" in said.value.help


def test_a_holder_whose_server_is_restarted_leaves_quietly_and_others_can_hold(fragile: PostgresServer) -> None:
    journal = SqlJournal(Postgres(fragile.database("test"), patience=2.0))
    journal.append(STREAM, 0, [entry()])

    with journal.exclusive(STREAM):
        fragile.stop()
        with pytest.raises(JournalError, match="cannot be reached"):
            journal.append(STREAM, 1, [entry("in between")])
        fragile.start()
        with journal.exclusive(STREAM):
            journal.append(STREAM, 1, [entry("after")])

    assert [record.entry.kind for record in journal.read(STREAM)] == ["step", "after"]


class Once:
    """Lets bytes pass, but those with *word* in them once, when `armed`: then it does *then* and they are lost."""

    def __init__(self, word: bytes, then: Callable[[], object] = lambda: None) -> None:
        self.word = word
        self.then = then
        self.armed = False

    def __call__(self, data: bytes) -> bool:
        if not self.armed or self.word not in data:
            return True
        self.armed = False
        self.then()
        return False


class Line:
    """A connection to the server at *address* that ends where *there* or *back* does not let bytes pass."""

    def __init__(self, address: str) -> None:
        self._address = make_url(address)
        self.there = self.back = Once(b"")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def address(self) -> str:
        return self._address.set(port=self._listening.getsockname()[1]).render_as_string()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection((self._address.host, self._address.port))
                except OSError:
                    client.close()
                    continue
                threading.Thread(target=self._pass_on, args=(client, server, "there"), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, "back"), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with suppress(OSError), source:
            while (data := source.recv(65536)) and getattr(self, way)(data):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(database: str) -> Iterator[Line]:
    line = Line(database)
    yield line
    line.close()


@pytest.mark.parametrize("word", [b"BEGIN", b"pg_advisory_xact_lock", b"heads", b"INSERT INTO records"])
def test_a_connection_lost_in_the_middle_of_a_write_leaves_nothing(line: Line, word: bytes) -> None:
    journal = SqlJournal(Postgres(line.address))
    journal.append(STREAM, 0, [entry()])
    line.there = Once(word)
    line.there.armed = True

    with pytest.raises(JournalError, match="it cannot be reached"):
        journal.append(STREAM, 1, [entry(), entry()])

    assert not line.there.armed
    journal.append(STREAM, 1, [entry("again")])
    assert [record.entry.kind for record in journal.read(STREAM)] == ["step", "again"]


def test_records_whose_commit_did_not_arrive_are_found_missing(line: Line) -> None:
    journal = SqlJournal(Postgres(line.address))
    journal.append(STREAM, 0, [entry()])
    line.there = Once(b"COMMIT\0")
    line.there.armed = True

    with pytest.raises(JournalError, match="none was"):
        journal.append(STREAM, 1, [entry(), entry()])

    assert len(journal.read(STREAM)) == 1


def test_records_whose_commit_was_not_answered_are_found_written_once(line: Line) -> None:
    journal = SqlJournal(Postgres(line.address))
    journal.append(STREAM, 0, [entry()])
    line.back = Once(b"COMMIT\0")
    line.back.armed = True

    written = journal.append(STREAM, 1, [entry(), entry()])

    assert not line.back.armed
    assert journal.read(STREAM)[1:] == written


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_restart_in_the_middle_of_a_commit_is_waited_for_and_found_out(fragile: PostgresServer, way: str) -> None:
    line = Line(fragile.database("test"))
    journal = SqlJournal(Postgres(line.address))
    journal.append(STREAM, 0, [entry()])

    starting = threading.Thread(target=fragile.start)

    def restart() -> None:
        fragile.stop()
        starting.start()

    setattr(line, way, Once(b"COMMIT\0", restart))
    getattr(line, way).armed = True
    try:
        journal.append(STREAM, 1, [entry(), entry()])
        said = "written"
    except JournalError as error:
        said = error.message.rpartition("; ")[2]
    found = len(journal.read(STREAM))
    starting.join()
    line.close()

    assert (said, found) == {"there": ("none was", 1), "back": ("written", 3)}[way]


def test_a_server_that_does_not_come_back_leaves_it_open_whether_records_were_written(fragile: PostgresServer) -> None:
    line = Line(fragile.database("test"))
    journal = SqlJournal(Postgres(line.address, patience=0.5))
    journal.append(STREAM, 0, [entry()])
    line.back = Once(b"COMMIT\0", fragile.stop)
    line.back.armed = True

    with pytest.raises(JournalError, match="the connection was lost while records were being written") as said:
        journal.append(STREAM, 1, [entry()])
    line.close()

    assert "read again" in said.value.help


FROZEN = """
import os, signal
try:
    with journal._store.writing(STREAM):
        print("writing", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
except JournalError as error:
    print(error, flush=True)
"""


def test_a_writer_frozen_in_the_middle_of_a_write_keeps_others_from_it_for_seconds_only(
    database: str, journal: SqlJournal
) -> None:
    writer = python(ELSEWHERE.format(address=database) + FROZEN)
    await_word(writer, "writing")

    journal.append(STREAM, 0, [entry()])
    writer.send_signal(signal.SIGCONT)
    said, _ = writer.communicate(timeout=60)

    assert "lost" in said or "stood still" in said
    assert len(journal.read(STREAM)) == 1


# -- what cannot be done is said, and no password is -------------------------------------------------------------------


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def said_by(address: str) -> str:
    """Everything that is said of a journal at *address* that cannot be read, down to the first cause."""
    with pytest.raises((JournalError, ConfigurationError)) as told:
        SqlJournal(Postgres(address, patience=2.0)).read(STREAM)
    help = told.value.help
    return "\n".join([help, *(f"{error!s} {error!r}" for error in causes(told.value))])


def test_a_wrong_password_is_said_and_not_told(postgres: PostgresServer) -> None:
    postgres.demand_password("secretive", "geheim")
    address = postgres.address().replace("modelcd@", "secretive:falsch@")

    said = said_by(address)

    assert "check user and password" in said
    assert "falsch" not in said


def test_a_right_password_is_let_in_however_it_is_given(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    postgres.demand_password("discreet", "geheim")
    without = database.replace("modelcd@", "discreet@")

    assert SqlJournal(Postgres(without.replace("@", ":geheim@"))).read(STREAM) == []
    assert SqlJournal(Postgres(f"{without}&password=geheim")).read(STREAM) == []
    monkeypatch.setenv("PGPASSWORD", "geheim")
    assert SqlJournal(Postgres(without)).read(STREAM) == []


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ada:geheim@127.0.0.1:1/journal",
        "postgresql://127.0.0.1:1/journal?password=geheim",
        "postgresql://ada:geheim@nowhere.invalid/journal",
        "postgresql://ada:x@geheim:y/journal",
        "mysql://ada:geheim@127.0.0.1/journal",
        "geheim",
    ],
)
def test_no_message_has_what_may_be_a_password(address: str) -> None:
    assert "geheim" not in said_by(address)


def test_a_database_that_does_not_exist_is_an_error_that_says_so(postgres: PostgresServer) -> None:
    assert "there is no such database" in said_by(postgres.address("nowhere"))


def test_a_server_that_only_reads_is_an_error_that_says_so(database: str, journal: SqlJournal) -> None:
    journal.append(STREAM, 0, [entry()])

    reader = SqlJournal(Postgres(database.replace("options=", "options=-cdefault_transaction_read_only%3Don%20")))
    assert len(reader.read(STREAM)) == 1
    with pytest.raises(JournalError, match="it is read-only"):
        reader.append(STREAM, 1, [entry()])


def test_a_writer_that_does_not_end_is_an_error_that_says_so(database: str, journal: SqlJournal) -> None:
    with journal._store.writing(STREAM), pytest.raises(JournalError, match="another process is writing"):
        SqlJournal(Postgres(database, patience=0.2)).append(STREAM, 0, [entry()])


def test_tables_of_somebody_else_are_an_error_that_says_so(database: str) -> None:
    with psycopg.connect(database) as other:
        other.execute("CREATE TABLE meta (something INTEGER)")

    assert "database of its own" in said_by(database)


def test_constructing_reaches_nothing() -> None:
    PostgresClock(Postgres("postgresql://127.0.0.1:1/nowhere"))


# -- formats -----------------------------------------------------------------------------------------------------------


def test_a_journal_of_a_newer_format_is_refused(database: str, journal: SqlJournal) -> None:
    journal.append(STREAM, 0, [entry()])
    with psycopg.connect(database) as other:
        other.execute("UPDATE meta SET value = 99")

    with pytest.raises(ConfigurationError, match="newer modelcd"):
        SqlJournal(Postgres(database)).read(STREAM)


def test_processes_that_make_it_at_once_lose_no_record(database: str, journal: SqlJournal) -> None:
    code = ELSEWHERE.format(address=database) + "\njournal.append(sys.stdin.readline().strip(), 0, [entry()])"
    writers = [python(code) for _ in range(3)]
    for number, writer in enumerate(writers):
        writer.communicate(f"staging/{number}\n", timeout=60)

    assert list(journal.heads()) == ["staging/0", "staging/1", "staging/2"]


# -- several machines --------------------------------------------------------------------------------------------------


def test_many_writers_to_many_streams_lose_no_record(database: str) -> None:
    code = (
        ELSEWHERE.format(address=database)
        + """
for number in range(40):
    stream = f"staging/{number % 4}"
    while True:
        try:
            journal.append(stream, len(journal.read(stream)), [entry()])
            break
        except Conflict:
            pass
"""
    )
    writers = [python(code) for _ in range(3)]
    for writer in writers:
        writer.communicate(timeout=120)

    journal = SqlJournal(Postgres(database))
    found = {stream: (len(journal.read(stream)), broken(journal.read(stream))) for stream in journal.heads()}
    assert found == {f"staging/{n}": (30, "") for n in range(4)}


def test_the_clock_tells_the_servers_time(postgres: PostgresServer, database: str) -> None:
    clock = PostgresClock(Postgres(database))

    before = values(database, "SELECT clock_timestamp()")[0][0]
    told = clock.now()
    after = values(database, "SELECT clock_timestamp()")[0][0]

    slack = timedelta(milliseconds=50)
    assert isinstance(before, datetime)
    assert isinstance(after, datetime)
    assert before - slack <= told <= after + slack


def test_clocks_of_machines_a_minute_apart_agree(database: str) -> None:
    """Let the server's clock be a minute ahead of ours, as that of another machine may be."""
    with psycopg.connect(database, autocommit=True) as other:
        shifted = "SELECT pg_catalog.clock_timestamp() + interval '1 minute'"
        other.execute(f"CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ {shifted} $$".encode())

    told = PostgresClock(Postgres(f"{database},pg_catalog")).now()

    assert timedelta(seconds=55) < told - datetime.now(UTC) < timedelta(seconds=65)


def test_a_clock_goes_on_when_its_server_is_away(fragile: PostgresServer) -> None:
    clock = PostgresClock(Postgres(fragile.address(), patience=2.0))
    before = clock.now()
    fragile.stop()
    clock.EVERY = 0.0

    assert before <= clock.now() < before + timedelta(minutes=1)


def test_a_clock_that_never_reached_its_server_cannot_tell() -> None:
    with pytest.raises(JournalError, match="cannot be reached"):
        PostgresClock(Postgres("postgresql://127.0.0.1:1/nowhere", patience=2.0)).now()


# -- where it is bound -------------------------------------------------------------------------------------------------


def test_the_journal_and_the_time_are_those_of_the_server_that_is_named(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_workspace(tmp_path)
    monkeypatch.setenv("MODELCD_JOURNAL", database)

    journal_of(workspace).append(STREAM, 0, [entry()])

    assert not workspace.journal.exists()
    assert len(SqlJournal(Postgres(database)).read(STREAM)) == 1
    assert isinstance(clock_of(workspace), PostgresClock)


def test_an_address_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELCD_JOURNAL", "mysql://host/db")

    with pytest.raises(ConfigurationError, match="address"):
        journal_of(open_workspace(tmp_path))
