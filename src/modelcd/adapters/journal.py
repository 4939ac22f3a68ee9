"""The journal in an SQL database: one SQLite file on a laptop, PostgreSQL where several machines share it.

One row per record, found by stream and number, so that reading what is new costs what is new; and one row per stream
for its end, written in the same transaction, so that knowing what there is costs the number of streams.  A writer
compares with that end, and the two have to agree: records that were taken away do not make room for others.

What the two databases do differently (who may write, who holds a stream, what a failure means) is their `Store`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from sqlalchemy import (
    Column,
    Connection,
    Executable,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    func,
    select,
)
from sqlalchemy.exc import IntegrityError

from modelcd.adapters.holds import Holds
from modelcd.adapters.reserve import Reserve
from modelcd.adapters.sealing import sealed
from modelcd.adapters.sqlite import Database
from modelcd.domain.records import Entry, Head, Record
from modelcd.errors import Conflict, JournalError, Tampered

FORMAT = 2
"""Raised by one with every change of the tables: a journal of another format is refused."""

# Names are in the order of their code points everywhere, whatever language a server was set up for.
_NAME = String().with_variant(String(collation="C"), "postgresql")

TABLES = MetaData()
_RECORDS = Table(
    "records",
    TABLES,
    Column("stream", _NAME, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("at", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("release", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String, nullable=False),
    Column("digest", String, nullable=False),
)
_HEADS = Table(
    "heads",
    TABLES,
    Column("stream", _NAME, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("checkpoint", Integer, nullable=False),
)

_READ = (
    select(*_RECORDS.c)
    .where(_RECORDS.c.stream == bindparam("stream"), _RECORDS.c.seq > bindparam("after"))
    .order_by(_RECORDS.c.seq)
)
_ENDS = (
    select(_HEADS.c.stream, _HEADS.c.seq, _HEADS.c.digest, *(c.label(f"checkpoint_{c.name}") for c in _RECORDS.c))
    .select_from(
        _HEADS.outerjoin(_RECORDS, and_(_RECORDS.c.stream == _HEADS.c.stream, _RECORDS.c.seq == _HEADS.c.checkpoint))
    )
    .where(
        _HEADS.c.stream >= bindparam("prefix"),
        func.substr(_HEADS.c.stream, 1, bindparam("length")) == bindparam("prefix"),
    )
    .order_by(_HEADS.c.stream)
)
_END = (
    select(_HEADS.c.seq, _HEADS.c.digest, _HEADS.c.checkpoint, _RECORDS.c.digest.label("kept"))
    .select_from(_HEADS.outerjoin(_RECORDS, and_(_RECORDS.c.stream == _HEADS.c.stream, _RECORDS.c.seq == _HEADS.c.seq)))
    .where(_HEADS.c.stream == bindparam("stream"))
)
_DIGEST = select(_RECORDS.c.digest).where(_RECORDS.c.stream == bindparam("stream"), _RECORDS.c.seq == bindparam("seq"))


class Uncertain(JournalError):
    """The connection was lost while records were made to last: whether they were is to be found out."""


class Store(Protocol):
    """A database with the journal's tables; it translates what its driver raises."""

    patience: float

    @property
    def exists(self) -> bool:
        """Say whether there is one; until then it is empty."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Give a connection to read from."""
        ...

    def writing(self, stream: str, /) -> AbstractContextManager[Connection]:
        """Give the only connection that writes to *stream*; all of the block is kept, or nothing of it."""
        ...

    def held(self, stream: str, wait: float) -> AbstractContextManager[None]:
        """Hold *stream* for the block; raises `Busy`, saying who has it."""
        ...

    def make_room(self) -> bool:
        """Give up the room that was kept for the way back; says whether there was any, and need of it."""
        ...


class SqlJournal:
    """A `Journal` in *store*; a path is short for the SQLite file there, whose writers wait *patience* seconds."""

    def __init__(self, store: Path | Store, *, patience: float = 10.0) -> None:
        self._store = _File(store, patience) if isinstance(store, Path) else store

    def read(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of *stream* numbered above *after*, in order."""
        if not self._store.exists:
            return []
        rows = self._rows(_READ, {"stream": stream, "after": after})
        return [_record(row) for row in rows]

    def _rows(self, query: Executable, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        with self._store.reading() as connection:
            return connection.execute(query, values).all()

    def append(self, stream: str, expected: int, entries: Sequence[Entry]) -> list[Record]:
        """Append *entries* behind record number *expected*, all or none; raises `Conflict`, `JournalError`."""
        records: list[Record] = []
        try:
            with self._store.writing(stream) as connection:
                records += self._appended(connection, stream, expected, entries)
        except Uncertain as error:
            if records and not self._arrived(records[-1], error):
                raise JournalError(f"{error.message}; none was", help="try again") from error
        return records

    def _arrived(self, newest: Record, lost: Uncertain) -> bool:
        """Find out whether *newest* was written: who writes next to its stream comes after it, however it ended."""
        deadline = time.monotonic() + self._store.patience
        while True:
            try:
                with self._store.writing(newest.stream) as connection:
                    found = connection.scalar(_DIGEST, {"stream": newest.stream, "seq": newest.seq})
                return bool(found == newest.digest)
            except JournalError:
                if time.monotonic() >= deadline:
                    raise lost from None
                time.sleep(0.1)

    def _appended(self, connection: Connection, stream: str, expected: int, entries: Sequence[Entry]) -> list[Record]:
        end = connection.execute(_END, {"stream": stream}).first()
        seq, digest, checkpoint = (end.seq, end.digest, end.checkpoint) if end else (0, "", 0)
        if end and end.kept != digest:
            raise _tampered(stream, f"its head names record {seq}, which is not there as it was")
        if seq != expected:
            if expected > seq and connection.scalar(_DIGEST, {"stream": stream, "seq": expected}):
                raise _tampered(stream, f"there are records behind number {seq}, where its head says it ends")
            raise _conflict(stream, expected, f"record {seq}")
        records = sealed(stream, seq, digest, entries)
        if records:
            try:
                _keep(connection, Head(seq, digest).behind(records), checkpoint, records)
            except IntegrityError as error:
                raise _conflict(stream, expected, "another record in that place") from error
        return records

    def heads(self, prefix: str = "") -> dict[str, Head]:
        """Return the ends of the streams whose names begin with *prefix*, in the order of their names."""
        if not self._store.exists:
            return {}
        rows = self._rows(_ENDS, {"prefix": prefix, "length": len(prefix)})
        return {row[0]: Head(row[1], row[2], _checkpoint(row[3:])) for row in rows}

    def make_room(self) -> bool:
        """Give up the room that is kept on the disk for the way back, if it is full; says whether there was any."""
        return self._store.make_room()

    def orphans(self) -> list[str]:
        """Return the streams that have records and no head; goes through all records."""
        if not self._store.exists:
            return []
        streams = {row[0] for row in self._rows(select(_RECORDS.c.stream).distinct(), {})}
        return sorted(streams - set(self.heads()))

    def exclusive(self, stream: str, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold *stream* among all who share the database; raises `Busy`, saying who has it."""
        return self._store.held(stream, wait)


class _File:
    """A `Store` in one SQLite file, for processes that share a disk.

    The hold is a locked file beside the database and not a row in it: it must end with its process, however that ends.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._database = Database(
            path, TABLES, what="the journal", fails=JournalError, format=FORMAT, patience=patience
        )
        self.patience = patience
        self._holds = Holds(path.with_name(path.name + ".holds"), JournalError)
        self._reserve = Reserve(path.with_name(path.name + ".reserve"))

    @property
    def exists(self) -> bool:
        return self._database.exists

    def reading(self) -> AbstractContextManager[Connection]:
        return self._database.reading()

    @contextmanager
    def writing(self, _: str, /) -> Iterator[Connection]:
        with self._database.writing() as connection:
            yield connection
        self._reserve.make()

    def held(self, stream: str, wait: float) -> AbstractContextManager[None]:
        return self._holds.held(quote(stream, safe=""), stream, wait)

    def make_room(self) -> bool:
        return self._reserve.give()


def _keep(connection: Connection, head: Head, checkpoint: int, records: Sequence[Record]) -> None:
    """Move the head and write *records*; raises `IntegrityError` when somebody else was there first."""
    stream, expected = records[0].stream, records[0].seq - 1
    moved: dict[str, Any] = {
        "seq": head.seq,
        "digest": head.digest,
        "checkpoint": head.checkpoint.seq if head.checkpoint else checkpoint,
    }
    if expected == 0:
        connection.execute(_HEADS.insert().values(stream=stream, **moved))
    else:
        behind = _HEADS.update().where(_HEADS.c.stream == stream, _HEADS.c.seq == expected)
        if connection.execute(behind.values(**moved)).rowcount != 1:
            raise _conflict(stream, expected, "another record in that place")
    connection.execute(_RECORDS.insert(), [_row(record) for record in records])


def _conflict(stream: str, expected: int, found: str) -> Conflict:
    return Conflict(
        f"{stream}: wanted to write behind record {expected}, found {found}",
        help="somebody else wrote meanwhile: read again, decide again",
    )


def _tampered(stream: str, why: str) -> Tampered:
    return Tampered(
        f"{stream}: {why}",
        help="see what else was changed (modelcd verify), end processes of an older modelcd, restore from a backup",
    )


def _row(record: Record) -> dict[str, object]:
    entry = record.entry
    return {
        "stream": record.stream,
        "seq": record.seq,
        "kind": entry.kind,
        "at": entry.at,
        "actor": entry.actor,
        "release": entry.release,
        "body": json.dumps(entry.body, ensure_ascii=False, sort_keys=True),
        "previous": record.previous,
        "digest": record.digest,
    }


def _checkpoint(row: Sequence[Any]) -> Record | None:
    # One that is not there, or not as it was, is none: who begins at the beginning instead will come upon it.
    try:
        return None if row[0] is None else _record(row)
    except Tampered:
        return None


def _record(row: Sequence[Any]) -> Record:
    stream, seq, kind, at, actor, release, text, previous, digest = row
    try:
        body: Mapping[str, Any] = json.loads(text)
    except ValueError as error:
        raise Tampered(
            f"{stream}: record {seq} was changed after it was written: its body is no JSON",
            help="restore the journal from a backup; keep the changed file",
        ) from error
    return Record(stream, seq, Entry(kind, at, actor, release, body), previous, digest)
