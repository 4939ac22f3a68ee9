"""The journal's database on a PostgreSQL server, where several machines share it, and the time they agree on.

Who appends takes the server's lock for that stream until its transaction ends, so a writer that was cut off can find
out whether its records arrived: it waits for that lock and looks.  A hold for a tick is a lock of a session of its own;
the session ends with its process, and one who waits ends the session of a holder that shows no life.  Both are session
or transaction locks of the server: between us and it there may be no pooler that shares sessions.

The connection waits for nothing without end: every wait has a limit, set at its beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from modelcd.adapters.formats import Format
from modelcd.adapters.journal import FORMAT, TABLES, Uncertain
from modelcd.adapters.pulse import PULSE, STALE, Watched
from modelcd.errors import Busy, ConfigurationError, JournalError

POLL = 0.05
"""Seconds between two looks at a hold that somebody else has."""

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")

_ADVICE = {
    "08": ("the connection was lost", "look whether the server runs and the network reaches it, then try again"),
    "25006": ("it is read-only", "name the server that takes writes: this one is a standby or set to read-only"),
    "25P03": ("this process stood still in the middle of a write, which was given up", "read again, decide again"),
    "28": ("we were not let in", "check user and password: in the address, PGPASSWORD or ~/.pgpass"),
    "3D000": ("there is no such database", "make it: createdb NAME"),
    "42501": ("a permission is missing", "let this user create tables in it, and read and write them"),
    "42703": ("its tables are not ours", "give the journal a database of its own"),
    "53100": ("the server's disk is full", "free some space there, then run again"),
    "53300": ("it has no connection left", "raise max_connections, or end who has them"),
    "55P03": ("another process is writing and does not end", "try again; if it lasts, find it in pg_stat_activity"),
    "57P": ("the server is being stopped or started", "try again when it is up"),
}
"""By the beginning of what PostgreSQL calls SQLSTATE."""

_REFUSALS = {
    "password": "28",
    "pg_hba.conf": "28",
    "role ": "28",
    "database ": "3D000",
    "too many": "53300",
    "connection slots": "53300",
    "starting up": "57P",
    "shutting down": "57P",
    "recovery": "57P",
}
"""By a word of a server that does not let us in, which its library tells us without a SQLSTATE."""

_TRY = text("SELECT pg_try_advisory_lock(:key)")
_LEAVE = text("SELECT pg_advisory_unlock(:key)")
_WRITE = text("SELECT pg_advisory_xact_lock(:key)")
_HOLDER = text("""
    SELECT a.pid, a.backend_start, a.state_change, a.application_name
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid::bigint = :high AND l.objid::bigint = :low
""")
_END = text("""
    SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
    WHERE pid = :pid AND backend_start = :backend_start AND state_change = :state_change
""")
_NOW = text("SELECT EXTRACT(EPOCH FROM clock_timestamp())")


class Postgres:
    """A `Store` of the journal at *address*, `postgresql://user@host/database`.

    *patience* is how long, in seconds, one waits for the server or another writer.
    """

    exists = True

    def __init__(self, address: str, *, patience: float = 10.0) -> None:
        self._url = _parsed(address)
        self._format = Format(TABLES, FORMAT)
        self._engine: Engine | None = None
        self._schema = ""
        self._opening = threading.Lock()
        self._watched: dict[str, Watched] = {}
        self.patience = patience

    def __str__(self) -> str:
        """Return the address without what is secret in it."""
        url = self._url
        return URL.create("postgresql", url.username, None, url.host, url.port, url.database).render_as_string()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection to read from; each statement sees one state."""
        with self._door(), self._opened().connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, stream: str, /) -> Iterator[Connection]:
        """Give the only connection that writes to *stream*; all of the block is kept, or nothing of it.

        Raises `Uncertain` when the connection is lost while the block is being made to last.
        """
        with self._door(), self._opened().connect() as connection:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")
            connection.execute(_WRITE, {"key": self._key("write", stream)})
            yield connection
            # What is not committed is rolled back by the pool, or by the server when we are gone.
            try:
                connection.exec_driver_sql("COMMIT")
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                raise Uncertain(
                    f"{self._what}: the connection was lost while records were being written",
                    help="read again: they may have been written",
                ) from error

    def make_room(self) -> bool:
        """Say no: the server's disk is not ours."""
        return False

    @contextlib.contextmanager
    def held(self, stream: str, wait: float) -> Iterator[None]:
        """Hold *stream* for the block; raises `Busy`, saying who has it."""
        with self._door():
            connection = self._taken(stream, wait)
        try:
            with PULSE.keeping(lambda: connection.exec_driver_sql("SELECT 1")):
                yield
        finally:
            # Who lost the hold, or the server, has nothing to give back: the session's end did it.
            with contextlib.suppress(SQLAlchemyError):
                if connection.invalidated or not connection.scalar(_LEAVE, {"key": self._key("hold", stream)}):
                    connection.invalidate()
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def _taken(self, stream: str, wait: float) -> Connection:
        deadline = time.monotonic() + wait
        watched = self._watched.setdefault(stream, Watched())
        connection = self._opened().connect()
        key = self._key("hold", stream)
        try:
            while not connection.scalar(_TRY, {"key": key}):
                holder = connection.execute(_HOLDER, {"high": key >> 32 & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}).first()
                # Of another user's session nothing is shown, least of all that it lives.
                if holder and holder.state_change and watched.see(tuple(holder)[:3]):
                    connection.execute(_END, dict(holder._mapping))
                    if connection.scalar(_TRY, {"key": key}):
                        break
                if time.monotonic() >= deadline:
                    who = holder.application_name.removeprefix("modelcd: ") if holder else "another process"
                    raise Busy(f"{stream} is held by {who}", help="wait until it is done, then try again")
                time.sleep(POLL)
        except Busy:
            connection.close()
            raise
        except BaseException:
            # It may have the lock already, and must not come back with it.
            connection.invalidate()
            connection.close()
            raise
        self._watched.pop(stream, None)
        return connection

    # -- opening -------------------------------------------------------------------------------------------------------

    @property
    def _what(self) -> str:
        return f"the journal {self}"

    @contextlib.contextmanager
    def _door(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            why, help = self._advice(error)
            raise JournalError(f"{self._what}: {why}", help=help) from error
        except SQLAlchemyError as error:
            raise JournalError(f"{self._what}: {self._safe(str(error))}") from error

    def _advice(self, error: DBAPIError) -> tuple[str, str]:
        state = getattr(error.orig, "sqlstate", None) or ""
        said = self._safe(" ".join(str(error.orig).split()))
        if not state and "FATAL" in said:
            state = next((state for word, state in _REFUSALS.items() if word in said.rpartition("FATAL")[2]), "")
        for length in (5, 3, 2):
            if state[:length] in _ADVICE:
                return _ADVICE[state[:length]]
        if state:
            return said, f"PostgreSQL calls it {state}; its log may say more"
        return f"it cannot be reached: {said}", "look whether the server runs and the address is right, then try again"

    def _safe(self, said: str) -> str:
        secrets = [self._url.password, self._url.query.get("password"), os.environ.get("PGPASSWORD")]
        for secret in secrets:
            said = said.replace(str(secret), "***") if secret else said
        return said

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is None:
                engine = self._connect()
                try:
                    self._prepare(engine)
                except BaseException:
                    engine.dispose()
                    raise
                weakref.finalize(self, engine.dispose)
                self._engine = engine
            return self._engine

    def _connect(self) -> Engine:
        engine = create_engine(
            self._url,
            # BEGIN and COMMIT are ours to send: a lock for a hold must not sit in a transaction.
            isolation_level="AUTOCOMMIT",
            # The server may have been started again since a connection was used.
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=-1,
            hide_parameters=True,
            connect_args={
                "connect_timeout": max(2, math.ceil(self.patience)),
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            },
        )
        # Not a method: the pool would keep us alive, and we close it when we are gone.
        event.listen(engine, "connect", partial(_settings, self.patience))
        return engine

    def _prepare(self, engine: Engine) -> None:
        with engine.connect() as connection:
            self._schema = str(connection.scalar(text("SELECT current_schema()")))
            if self._format.missing(connection):
                connection.exec_driver_sql("BEGIN")
                connection.execute(_WRITE, {"key": self._key("setup", "")})
                self._format.make(connection)
                connection.exec_driver_sql("COMMIT")
            self._format.refuse_other(connection, self._what)

    def _key(self, purpose: str, name: str) -> int:
        """Return the number that the server knows a lock by; a database may have one journal a schema."""
        digest = hashlib.sha256(f"modelcd {self._schema} {purpose} {name}".encode()).digest()
        return int.from_bytes(digest[:8], signed=True)


class PostgresClock:
    """A `Clock` that tells the time of the server that keeps the journal, so that all who share it agree.

    Asked now and then; in between the time passes as this machine counts it, however its own clock is set.
    """

    EVERY = 30.0
    """Seconds after which the server is asked again."""

    def __init__(self, store: Postgres) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._ahead: float | None = None
        self._asked = (0.0, 0.0)
        self._newest = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """Return the present time in UTC; raises `JournalError` when the server was never reached."""
        with self._lock:
            if self._due():
                self._ask()
            assert self._ahead is not None
            now = datetime.fromtimestamp(time.monotonic() + self._ahead, UTC)
            self._newest = max(now, self._newest)
            return self._newest

    def sleep(self, seconds: float) -> None:
        """Wait *seconds*; none or fewer return at once."""
        time.sleep(max(0.0, seconds))

    def _due(self) -> bool:
        # The machine's own clock only tells that it slept: time on which the other one may have stood still.
        passed = time.monotonic() - self._asked[0], time.time() - self._asked[1]
        return self._ahead is None or max(map(abs, passed)) > self.EVERY

    def _ask(self) -> None:
        try:
            with self._store.reading() as connection:
                before = time.monotonic()
                told = float(connection.scalar(_NOW) or 0.0)
                after = time.monotonic()
        except JournalError:
            if self._ahead is None:
                raise
            return
        self._ahead = told - (before + after) / 2
        self._asked = time.monotonic(), time.time()


def _settings(patience: float, connection: Any, _: object) -> None:
    name = f"modelcd: process {os.getpid()} on {socket.gethostname()}".replace("'", "")
    connection.execute(f"SET application_name = '{name}'")
    connection.execute(f"SET lock_timeout = {int(patience * 1000)}")
    # Who is frozen in the middle of a write must not keep others from writing.
    connection.execute(f"SET idle_in_transaction_session_timeout = {int(STALE * 1000)}")


def _parsed(address: str) -> URL:
    try:
        url = make_url(address)
        if url.drivername in SCHEMES:
            return url.set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        # What was wrong is not told along: it may be a part of the password.
        pass
    raise ConfigurationError(
        "the journal's address is none of a PostgreSQL database",
        help="write it as postgresql://user@host:5432/database, a password in PGPASSWORD or ~/.pgpass",
    ) from None
