"""What every journal does to entries before it keeps them: as JSON has them, and chained.

Apart from the journals so that the one in memory does not import a database.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from modelcd.domain.records import Entry, Record, seal
from modelcd.errors import UsageError


def sealed(stream: str, after: int, previous: str, entries: Sequence[Entry]) -> list[Record]:
    """Chain *entries* behind record number *after*, whose digest is *previous*.

    Bodies become what reading them back gives (tuples are lists), so that a writer and a reader hold equal records.
    Raises `UsageError` for a body that JSON cannot hold.
    """
    records: list[Record] = []
    for seq, entry in enumerate(entries, start=after + 1):
        try:
            body = json.loads(json.dumps(dict(entry.body), allow_nan=False))
            record = seal(stream, seq, replace(entry, body=body), previous)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"a record {entry.kind!r} of {stream} holds what JSON cannot: {error}",
                help="bodies are plain: text, finite numbers, booleans, null, lists and mappings of these",
            ) from error
        records.append(record)
        previous = record.digest
    return records
