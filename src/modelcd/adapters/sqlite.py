"""An SQLite file as our adapters use it: write-ahead log, full durability, one writer at a time, versioned.

Tables are made under a lock, because two processes may be the first.  Writers take the write lock before they read
(BEGIN IMMEDIATE), so that what they decide on still holds when they write.  What the library raises is translated
here, at one door, into the error the adapter asked for.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from modelcd.adapters.formats import Format
from modelcd.adapters.locks import held
from modelcd.errors import CannotTell

_ADVICE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space, then run again"),
    sqlite3.SQLITE_IOERR: ("the disk could not be read or written", "check its space and quota, then run again"),
    sqlite3.SQLITE_READONLY: ("it is read-only", "make the file and its folder writable for this user"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "its folder must exist and be writable for this user"),
    sqlite3.SQLITE_BUSY: ("another process has it locked", "try again; if it lasts, find who holds it (fuser FILE)"),
    sqlite3.SQLITE_LOCKED: ("another process has it locked", "try again; if it lasts, find who holds it (fuser FILE)"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "restore it from a backup; keep the damaged file"),
    sqlite3.SQLITE_NOTADB: ("it is not an SQLite database", "move that file away or name another workspace"),
}


class Database:
    """The file *path* with *tables*; made when it is first written to.  One per adapter, kept as long as it.

    *what* names it in messages, *fails* is what cannot be done raises, *patience* is how long, in seconds, a writer
    waits for another one.  A file of another *format* raises `ConfigurationError`.
    """

    def __init__(
        self,
        path: Path,
        tables: MetaData,
        *,
        what: str,
        fails: type[CannotTell],
        format: int,
        patience: float = 10.0,
    ) -> None:
        self.path = path
        self._what = what
        self._fails = fails
        self._format = Format(tables, format)
        self._patience = patience
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    @property
    def exists(self) -> bool:
        """Say whether the file is there; until then it is empty."""
        return self.path.exists()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection whose statements all see the same state."""
        with self._door(), self._opened().connect() as connection, _transaction(connection, "BEGIN"):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give the only connection that writes; all of the block is kept, or nothing of it."""
        with self._door(), self._opened().connect() as connection, _transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    @contextmanager
    def _door(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            why, help = _ADVICE.get(code, (str(error.orig), "check the file, its folder and the disk"))
            raise self._fails(f"{self._what} {self.path}: {why}", help=help) from error
        except SQLAlchemyError as error:
            raise self._fails(f"{self._what} {self.path}: {error}") from error

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is None:
                engine = self._connect()
                weakref.finalize(self, engine.dispose)
                self._prepare(engine)
                self._engine = engine
            return self._engine

    def _connect(self) -> Engine:
        url = URL.create("sqlite", database=str(self.path))
        # AUTOCOMMIT leaves BEGIN and COMMIT to `_transaction`: the driver by itself would begin only at the first
        # write, after the reads that it depends on.
        engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"timeout": self._patience})
        event.listen(engine, "connect", _settings)
        return engine

    def _prepare(self, engine: Engine) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.exists:
                self.path.touch(mode=0o600)  # what SQLite puts beside it gets the same mode
        except OSError as error:
            raise self._fails(f"{self._what} {self.path}: {error}", help="make its folder writable") from error
        with engine.connect() as connection:
            if self._format.missing(connection):
                lock = self.path.with_name(self.path.name + ".setup.lock")
                with held(lock, f"{self._what} {self.path}", self._patience, self._fails):
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                    with _transaction(connection, "BEGIN IMMEDIATE"):
                        self._format.make(connection)
            self._format.refuse_other(connection, f"{self._what} {self.path}")


def _settings(connection: sqlite3.Connection, _: object) -> None:
    # NORMAL would lose the newest records, though not the file, when the machine loses power.
    connection.execute("PRAGMA synchronous = FULL")


@contextmanager
def _transaction(connection: Connection, begin: str) -> Iterator[None]:
    connection.exec_driver_sql(begin)
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        # The driver's own rollback does nothing when SQLite has rolled back by itself (a full disk), where a
        # ROLLBACK statement would hide the first error behind a second one.
        driver = connection.connection.driver_connection
        if driver is not None:
            driver.rollback()
        raise
