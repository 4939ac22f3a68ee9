"""What goes over the wire to a model, seen from the side that asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from modelcd.errors import UsageError


def encode_rows(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the request body for *rows*: NaN, NaT and NA become null, numpy values plain ones, times ISO 8601.

    Raises `UsageError` for a value that JSON has no word for.
    """
    try:
        plain = [dict(row) for row in rows]
        return orjson.dumps({"rows": plain}, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)
    except TypeError as error:
        raise UsageError(f"these rows cannot be sent as JSON: {error}") from error


def _plain(value: Any) -> Any:
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    isoformat: Callable[[], str] | None = getattr(value, "isoformat", None)
    if isoformat is None:
        raise TypeError(f"a value of type {type(value).__name__}")
    return isoformat()


def said_in(content: bytes) -> dict[str, Any]:
    """Return the JSON object in *content*; empty when it holds none, so that every look-up in it finds nothing."""
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        said = None
    return said if isinstance(said, dict) else {}
