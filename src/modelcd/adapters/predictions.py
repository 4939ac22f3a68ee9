"""The prediction log of model servers that share a disk with us: files they append to, and a database we keep.

A server appends one JSON line per scored row to a file of its own, which costs it next to nothing and needs no
connection.  We read what is new whenever somebody asks.  How far a file was read is kept in the same transaction as
what was read from it, so a crash neither loses nor doubles a line; a line that is not finished yet is left for the
next time.  A full line that cannot be understood is counted (`malformed`), never guessed at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    Connection,
    Index,
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
from sqlalchemy.dialects.sqlite import insert

from modelcd.adapters.sqlite import Database
from modelcd.adapters.truths import around, settled
from modelcd.domain.labels import nameless
from modelcd.domain.versions import slug
from modelcd.errors import PredictionsError
from modelcd.ports import Amendment, Label, Labelled, Receipt

FORMAT = 3
LEGS = frozenset({"main", "fallback", "shadow"})
CHUNK = 8 * 1024 * 1024
"""About how many bytes of a spool file are read in one transaction."""

_TABLES = MetaData()
_SPOOLS = Table(
    "spools",
    _TABLES,
    Column("endpoint", String, primary_key=True),
    Column("file", String, primary_key=True),
    Column("inode", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("malformed", Integer, nullable=False),
)
_PREDICTIONS = Table(
    "predictions",
    _TABLES,
    Column("endpoint", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("at", String, nullable=False),
    Column("model", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("revision", String, nullable=False),
    Column("leg", String, nullable=False),
    Column("score", Text, nullable=False),
)
_LABELS = Table(
    "labels",
    _TABLES,
    Column("endpoint", String, primary_key=True),
    Column("prediction", String, primary_key=True),
    Column("value", Text),
    Column("by", String, nullable=False),
    Column("first", Integer, nullable=False),
)
"""What is true of each prediction now (nothing: it was withdrawn), by whom, and the entry that began it (0: none)."""
_AMENDMENTS = Table(
    "amendments",
    _TABLES,
    Column("number", Integer, primary_key=True),
    Column("endpoint", String, nullable=False),
    Column("prediction", String, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("at", String, nullable=False),
    Column("by", String, nullable=False),
    Column("why", String, nullable=False),
)
_JOINED = Table(
    "joined",
    _TABLES,
    Column("cursor", Integer, primary_key=True),
    Column("endpoint", String, nullable=False),
    Column("prediction", String, nullable=False),
    Column("value", Text),
    Column("by", String, nullable=False),
    Column("first", Integer, nullable=False),
    Column("amendment", Integer, nullable=False),
    Index("joined_in_order", "endpoint", "cursor"),
)
"""What was told of answers, in order; nothing of it is ever changed."""
_IDS = func.json_each(bindparam("ids")).table_valued("value", "key", name="ids")
"""Any number of ids as one parameter; SQLite limits how many parameters a statement has."""
_OURS = and_(_LABELS.c.endpoint == bindparam("ours"), _LABELS.c.prediction == bindparam("of"))
_BEGIN = _LABELS.update().where(_OURS).values(first=bindparam("cursor"))
_CHANGE = _LABELS.update().where(_OURS).values(value=bindparam("now"), by=bindparam("whose"), first=bindparam("begun"))


class SpoolPredictions:
    """A `Predictions` over spool files in *folder*; servers write `<folder>/<endpoint slug>/<anything>.jsonl`.

    A line is `{"id","at","model","version","revision","leg","score"}`.
    """

    def __init__(self, folder: Path, *, patience: float = 10.0) -> None:
        self._folder = folder
        self._database = Database(
            folder / "predictions.sqlite",
            _TABLES,
            what="the prediction log",
            fails=PredictionsError,
            format=FORMAT,
            patience=patience,
        )

    def spool(self, endpoint: str) -> Path:
        """Return the folder in which the servers of *endpoint* keep their files, one each."""
        return self._folder / slug(endpoint)

    def label(
        self, endpoint: str, labels: Sequence[Label], amendment: Amendment | None = None, *, by: str = ""
    ) -> Receipt:
        """Attach truths to predictions, each by itself; see `modelcd.ports.Predictions.label`."""
        self._ingest(endpoint)
        ids = [label.prediction for label in labels if not nameless(label.prediction)]
        known = select(_LABELS).where(_LABELS.c.endpoint == endpoint, _LABELS.c.prediction.in_(select(_IDS.c.value)))
        with self._database.writing() as connection:
            rows = {row.prediction: row for row in connection.execute(known, {"ids": json.dumps(ids)})}
            served = _served(connection, endpoint, around(ids))
            told = {id: _read(row.value) for id, row in rows.items()}
            found = settled(labels, told, served, amendment)
            joined = _attach(connection, endpoint, found.new, by)
            if amendment is not None and found.changed:
                firsts = {id: rows[id].first for id in found.changed}
                _amend(
                    connection, endpoint, {id: (told[id], v, firsts[id]) for id, v in found.changed.items()}, amendment
                )
        return found.receipt(joined)

    def labelled(self, endpoint: str, after: int = 0, limit: int = 100_000) -> list[Labelled]:
        """Return what was told of answers, in the order in which it met them, with a cursor above *after*."""
        self._ingest(endpoint)
        ours = and_(_PREDICTIONS.c.endpoint == endpoint, _PREDICTIONS.c.id == _JOINED.c.prediction)
        changed = _AMENDMENTS.c.number == _JOINED.c.amendment
        query = (
            select(_JOINED, _PREDICTIONS, _AMENDMENTS.c.before, _AMENDMENTS.c.why)
            .select_from(_JOINED.join(_PREDICTIONS, ours).outerjoin(_AMENDMENTS, changed))
            .where(_JOINED.c.endpoint == endpoint, _JOINED.c.cursor > after)
            .order_by(_JOINED.c.cursor)
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Labelled(
                cursor=row.cursor,
                prediction=row.prediction,
                model=row.model,
                version=row.version,
                revision=row.revision,
                leg=row.leg,
                score=orjson.loads(row.score),
                value=_read(row.value),
                first=row.first,
                before=_read(row.before),
                by=row.by,
                why=row.why or "",
            )
            for row in rows
        ]

    def scores(self, endpoint: str, predictions: Sequence[str]) -> Mapping[str, Any]:
        """Return the score of each of *predictions* that was served, by its id."""
        self._ingest(endpoint)
        asked = _PREDICTIONS.c.id.in_(select(_IDS.c.value))
        query = select(_PREDICTIONS.c.id, _PREDICTIONS.c.score).where(_PREDICTIONS.c.endpoint == endpoint, asked)
        with self._database.reading() as connection:
            rows = connection.execute(query, {"ids": json.dumps(list(predictions))}).all()
        return {row.id: orjson.loads(row.score) for row in rows}

    def counts(self, endpoint: str) -> Mapping[str, int]:
        """Return how many `predictions`, `labelled`, `waiting` labels and `malformed` lines there are."""
        self._ingest(endpoint)
        with self._database.reading() as connection:
            true = and_(_LABELS.c.endpoint == endpoint, _LABELS.c.value.is_not(None))
            predictions, labels, joined = (
                connection.scalar(select(func.count()).select_from(table).where(where)) or 0
                for table, where in (
                    (_PREDICTIONS, _PREDICTIONS.c.endpoint == endpoint),
                    (_LABELS, true),
                    (_LABELS, and_(true, _LABELS.c.first > 0)),
                )
            )
            malformed = connection.scalar(
                select(func.coalesce(func.sum(_SPOOLS.c.malformed), 0)).where(_SPOOLS.c.endpoint == endpoint)
            )
        return {
            "predictions": predictions,
            "labelled": joined,
            "waiting": labels - joined,
            "malformed": int(malformed or 0),
        }

    def _ingest(self, endpoint: str) -> None:
        with _reading_files():
            files = sorted(self.spool(endpoint).glob("*.jsonl"))
        if not files:
            return
        with self._database.reading() as connection:
            spools = connection.execute(select(_SPOOLS).where(_SPOOLS.c.endpoint == endpoint))
            read = {row.file: (row.inode, row.offset) for row in spools}
        for path in files:
            with _reading_files():
                found = path.stat()
            # Nothing is locked for a file without news: most looks find none.
            if read.get(path.name) != (found.st_ino, found.st_size):
                while self._ingest_chunk(endpoint, path):
                    pass

    def _ingest_chunk(self, endpoint: str, path: Path) -> bool:
        """Keep the next stretch of *path*; says whether there may be more."""
        here = and_(_SPOOLS.c.endpoint == endpoint, _SPOOLS.c.file == path.name)
        with self._database.writing() as connection:
            spool = connection.execute(select(_SPOOLS).where(here)).first()
            with _reading_files(), path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                # Another file under the old name, or one that was cut, is read from its beginning: ids that are
                # known already are not counted again.
                same = spool is not None and spool.inode == found.st_ino and spool.offset <= found.st_size
                offset = spool.offset if spool is not None and same else 0
                stream.seek(offset)
                lines = stream.readlines(CHUNK)
            if lines and not lines[-1].endswith(b"\n"):
                lines.pop()
            if not lines:
                return False
            rows = [row for line in lines if (row := _row(endpoint, line)) is not None]
            state = {
                "inode": found.st_ino,
                "offset": offset + sum(map(len, lines)),
                "malformed": (spool.malformed if spool is not None else 0) + len(lines) - len(rows),
            }
            upsert = insert(_SPOOLS).values(endpoint=endpoint, file=path.name, **state)
            connection.execute(upsert.on_conflict_do_update(index_elements=["endpoint", "file"], set_=state))
            if rows:
                connection.execute(insert(_PREDICTIONS).on_conflict_do_nothing(), rows)
                _join(connection, endpoint, [row["id"] for row in rows])
        return True


def _served(connection: Connection, endpoint: str, ids: Sequence[str]) -> set[str]:
    """Return which of *ids* are those of predictions."""
    asked = _PREDICTIONS.c.id.in_(select(_IDS.c.value))
    query = select(_PREDICTIONS.c.id).where(_PREDICTIONS.c.endpoint == endpoint, asked)
    return set(connection.scalars(query, {"ids": json.dumps(list(ids))}))


def _attach(connection: Connection, endpoint: str, new: Mapping[str, Any], by: str) -> int:
    """Keep the *new* truths, told *by* somebody, and join those that have a prediction; returns how many."""
    served, cursor = _served(connection, endpoint, list(new)), _newest(connection)
    labels, joined = [], []
    for id, value in new.items():
        cursor += id in served
        told = {"endpoint": endpoint, "prediction": id, "value": json.dumps(value), "by": by}
        labels.append({**told, "first": cursor if id in served else 0})
        if id in served:
            joined.append({**told, "cursor": cursor, "first": 0, "amendment": 0})
    for table, rows in ((_LABELS, labels), (_JOINED, joined)):
        if rows:
            connection.execute(table.insert(), rows)
    return len(joined)


def _join(connection: Connection, endpoint: str, ids: Sequence[str]) -> None:
    """Join those of *ids*, which are predictions, whose truth waits for them, in the order given."""
    waits = and_(
        _LABELS.c.endpoint == endpoint,
        _LABELS.c.prediction == _IDS.c.value,
        _LABELS.c.first == 0,
        _LABELS.c.value.is_not(None),
    )
    told_of = select(_LABELS.c.prediction, _LABELS.c.value, _LABELS.c.by)
    query = told_of.select_from(_IDS.join(_LABELS, waits)).order_by(_IDS.c.key)
    rows = connection.execute(query, {"ids": json.dumps(list(ids))}).all()
    if not rows:
        return
    begin = _newest(connection) + 1
    told = [{"cursor": begin + k, **row._mapping} for k, row in enumerate(rows)]
    connection.execute(_JOINED.insert(), [{**row, "endpoint": endpoint, "first": 0, "amendment": 0} for row in told])
    connection.execute(_BEGIN, [{"ours": endpoint, "of": row["prediction"], "cursor": row["cursor"]} for row in told])


def _amend(
    connection: Connection, endpoint: str, changes: Mapping[str, tuple[Any, Any, int]], amendment: Amendment
) -> None:
    """Change truths: *changes* has, by prediction, the one before, the new one, and the entry that began it (or 0)."""
    served, cursor = _served(connection, endpoint, list(changes)), _newest(connection)
    number = connection.scalar(select(func.coalesce(func.max(_AMENDMENTS.c.number), 0))) or 0
    for id, (before, after, first) in changes.items():
        number += 1
        told = {"endpoint": endpoint, "prediction": id}
        values = {"before": _written(before), "after": _written(after)}
        who = {"at": amendment.at, "by": amendment.by, "why": amendment.why}
        connection.execute(_AMENDMENTS.insert(), {**told, **values, **who, "number": number})
        begins = not first and id in served  # it was withdrawn while it waited, and its prediction came meanwhile
        if first or begins:
            cursor += 1
            entry = {"cursor": cursor, "first": first, "amendment": 0 if begins else number}
            connection.execute(_JOINED.insert(), {**told, **entry, "value": _written(after), "by": amendment.by})
        now = {"now": _written(after), "whose": amendment.by, "begun": first or (cursor if begins else 0)}
        connection.execute(_CHANGE, {"ours": endpoint, "of": id, **now})


def _newest(connection: Connection) -> int:
    return connection.scalar(select(func.coalesce(func.max(_JOINED.c.cursor), 0))) or 0


def _written(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _read(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def _row(endpoint: str, line: bytes) -> dict[str, Any] | None:
    """Return what *line* says as a row, or None when it is no prediction."""
    try:
        plain = orjson.loads(line)
        row = {
            "endpoint": endpoint,
            "id": plain["id"],
            "at": str(plain["at"]),
            "model": plain["model"],
            "version": int(plain["version"]),
            "revision": plain["revision"],
            "leg": plain["leg"],
            "score": orjson.dumps(plain["score"]).decode(),
        }
    except (ValueError, KeyError, TypeError):
        return None
    named = all(isinstance(row[key], str) for key in ("id", "model", "revision"))
    return row if named and row["id"] and row["leg"] in LEGS else None


@contextmanager
def _reading_files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PredictionsError(
            f"a prediction log of a model server cannot be read: {error}",
            help="make the file readable for this user",
        ) from error
