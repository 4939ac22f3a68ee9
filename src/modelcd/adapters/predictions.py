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
from modelcd.adapters.truths import first_of, settled
from modelcd.domain.versions import slug
from modelcd.errors import PredictionsError
from modelcd.ports import Label, Labelled, Receipt

FORMAT = 1
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
    Column("value", Text, nullable=False),
)
_JOINED = Table(
    "joined",
    _TABLES,
    Column("cursor", Integer, primary_key=True),
    Column("endpoint", String, nullable=False),
    Column("prediction", String, nullable=False),
    Index("joined_once", "endpoint", "prediction", unique=True),
    Index("joined_in_order", "endpoint", "cursor"),
    sqlite_autoincrement=True,
)
_IDS = func.json_each(bindparam("ids")).table_valued("value", "key", name="ids")
"""Any number of ids as one parameter; SQLite limits how many parameters a statement has."""


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

    def label(self, endpoint: str, labels: Sequence[Label]) -> Receipt:
        """Attach truths to predictions; a second, different truth for one prediction is refused (`UsageError`)."""
        self._ingest(endpoint)
        ids = [label.prediction for label in labels]
        asked = select(_IDS.c.value)
        served = select(_PREDICTIONS.c.id).where(_PREDICTIONS.c.endpoint == endpoint, _PREDICTIONS.c.id.in_(asked))
        known = select(_LABELS.c.prediction, _LABELS.c.value).where(
            _LABELS.c.endpoint == endpoint, _LABELS.c.prediction.in_(asked)
        )
        with self._database.writing() as connection:
            rows = connection.execute(known, {"ids": json.dumps(ids)})
            many = set(connection.scalars(served, {"ids": json.dumps([first_of(label) for label in labels])}))
            new, again = settled(labels, {row.prediction: orjson.loads(row.value) for row in rows}, many)
            if new:
                connection.execute(
                    _LABELS.insert(),
                    [{"endpoint": endpoint, "prediction": id, "value": json.dumps(v)} for id, v in new.items()],
                )
            joined = _join(connection, endpoint, list(new))
        return Receipt(joined=joined, waiting=len(new) - joined, again=again)

    def labelled(self, endpoint: str, after: int = 0, limit: int = 100_000) -> list[Labelled]:
        """Return joined pairs with a cursor above *after*, in the order in which they were joined."""
        self._ingest(endpoint)
        ours = and_(_PREDICTIONS.c.endpoint == endpoint, _PREDICTIONS.c.id == _JOINED.c.prediction)
        truth = and_(_LABELS.c.endpoint == endpoint, _LABELS.c.prediction == _JOINED.c.prediction)
        query = (
            select(_JOINED.c.cursor, _PREDICTIONS, _LABELS.c.value)
            .select_from(_JOINED.join(_PREDICTIONS, ours).join(_LABELS, truth))
            .where(_JOINED.c.endpoint == endpoint, _JOINED.c.cursor > after)
            .order_by(_JOINED.c.cursor)
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Labelled(
                cursor=row.cursor,
                prediction=row.id,
                model=row.model,
                version=row.version,
                revision=row.revision,
                leg=row.leg,
                score=orjson.loads(row.score),
                value=orjson.loads(row.value),
            )
            for row in rows
        ]

    def counts(self, endpoint: str) -> Mapping[str, int]:
        """Return how many `predictions`, `labelled`, `waiting` labels and `malformed` lines there are."""
        self._ingest(endpoint)
        with self._database.reading() as connection:
            predictions, labels, joined = (
                connection.scalar(select(func.count()).select_from(table).where(table.c.endpoint == endpoint)) or 0
                for table in (_PREDICTIONS, _LABELS, _JOINED)
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


def _join(connection: Connection, endpoint: str, ids: Sequence[str]) -> int:
    """Join those of *ids* that have a prediction and a label, in the order given; returns how many."""
    both = (
        select(bindparam("of", endpoint).label("endpoint"), _IDS.c.value)
        .select_from(
            _IDS.join(_PREDICTIONS, and_(_PREDICTIONS.c.endpoint == endpoint, _PREDICTIONS.c.id == _IDS.c.value)).join(
                _LABELS, and_(_LABELS.c.endpoint == endpoint, _LABELS.c.prediction == _IDS.c.value)
            )
        )
        .order_by(_IDS.c.key)
    )
    statement = insert(_JOINED).from_select(["endpoint", "prediction"], both).on_conflict_do_nothing()
    return connection.execute(statement, {"ids": json.dumps(list(ids))}).rowcount if ids else 0


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
