"""Rows between data frames and JSON: what is sent to a model is what JSON can say.

A missing value is null whatever its kind, times are ISO 8601.  What JSON cannot say (lists, decimals, infinity) is
refused by name, because a silent `str()` would score something else than the holdout holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from modelcd.artifact import Column
from modelcd.errors import ChildError, ProjectError


def columns_of(frame: pd.DataFrame, names: Sequence[str]) -> tuple[Column, ...]:
    """Return the inputs *names* of *frame*; a double takes null always, the others where nulls were seen."""
    return tuple(_column(name, frame[name]) for name in names)


def _column(name: str, values: pd.Series) -> Column:
    kind = _kind(name, values)
    return Column(name, kind, nullable=kind == "double" or bool(values.isna().any()))


def _kind(name: str, values: pd.Series) -> str:
    types = pd.api.types
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _kind(name, values.cat.categories.to_series())
    if types.is_bool_dtype(values):
        return "boolean"
    if types.is_integer_dtype(values):
        return "long"
    if types.is_float_dtype(values):
        return "double"
    if types.is_datetime64_any_dtype(values):
        return "datetime"
    present = values.dropna()
    if len(present) and all(isinstance(value, bool) for value in present.head(1000)):
        return "boolean"
    if all(isinstance(value, str) for value in present.head(1000)):
        return "string" if len(present) or not types.is_object_dtype(values) else "double"
    raise ProjectError(
        f"column {name!r} holds a {type(present.iloc[0]).__name__}, which cannot be sent to a model as JSON",
        help="turn it into numbers, text or times in prepare, or drop it",
    )


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of *frame* as JSON objects."""
    names = [str(name) for name in frame.columns]
    columns = [plain_values(frame[name]) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def plain_values(values: pd.Series) -> list[Any]:
    """Return *values* as JSON values; raises `ProjectError` for what JSON cannot say."""
    kind = _kind(str(values.name), values)
    missing = values.isna().tolist()
    if kind == "datetime":
        return [None if gap else value.isoformat() for value, gap in zip(values, missing, strict=True)]
    if kind == "double" and any(math.isinf(value) for value in values.dropna().tolist()):
        raise ProjectError(
            f"column {values.name!r} holds infinity", help="JSON has no infinity: make it null in prepare"
        )
    return [None if gap else value for value, gap in zip(values.tolist(), missing, strict=True)]


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of the parquet file *path*."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ChildError(f"the prepared rows {path.name} cannot be read: {error}", help="prepare them again") from error


def spread(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return *count* rows of *frame*, spread evenly over all of it, in their order; all when it has no more."""
    if count >= len(frame):
        return frame
    return frame.iloc[[place * len(frame) // count for place in range(count)]]


def write_rows(frame: pd.DataFrame, path: Path) -> None:
    """Write *frame* as parquet; raises `ProjectError` for a column with values of several kinds."""
    try:
        frame.to_parquet(path, index=False)
    except (ValueError, TypeError, OverflowError) as error:
        first = str(error.args[-1] if error.args else error).splitlines()[0]
        raise ProjectError(
            f"the prepared rows cannot be stored: {first}", help="a column has values of one kind"
        ) from error
