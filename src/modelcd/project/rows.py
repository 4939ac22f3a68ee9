"""Rows between data frames and JSON: what is sent to a model is what JSON can say.

A missing value is null whatever its kind, times are ISO 8601, and lists hold numbers and are of one length in all rows.
What JSON cannot say (decimals, infinity) is refused by name, because a silent `str()` would score something else than
the holdout holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelcd.artifact import Column
from modelcd.errors import ChildError, ProjectError


def columns_of(frame: pd.DataFrame, names: Sequence[str]) -> tuple[Column, ...]:
    """Return the inputs *names* of *frame*; a double takes null always, the others where nulls were seen."""
    return tuple(_column(name, frame[name]) for name in names)


def _column(name: str, values: pd.Series) -> Column:
    kind = _kind(name, values)
    length = len(values.dropna().iloc[0]) if kind == "vector" else 0
    return Column(name, kind, nullable=kind == "double" or bool(values.isna().any()), length=length)


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
    if len(present) and isinstance(present.iloc[0], np.ndarray):
        return "vector"
    if len(present) and all(isinstance(value, bool) for value in present.head(1000)):
        return "boolean"
    if all(isinstance(value, str) for value in present.head(1000)):
        return "string" if len(present) or not types.is_object_dtype(values) else "double"
    raise ProjectError(
        f"column {name!r} holds a {type(present.iloc[0]).__name__}, which cannot be sent to a model as JSON",
        help="turn it into numbers, lists of numbers, text or times in prepare, or drop it",
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
    if kind == "vector":
        return [None if gap else value.tolist() for value, gap in zip(values, missing, strict=True)]
    if kind == "datetime":
        return [None if gap else value.isoformat() for value, gap in zip(values, missing, strict=True)]
    if kind == "double" and any(math.isinf(value) for value in values.dropna().tolist()):
        raise ProjectError(
            f"column {values.name!r} holds infinity", help="JSON has no infinity: make it null in prepare"
        )
    return [None if gap else value for value, gap in zip(values.tolist(), missing, strict=True)]


def with_vectors(frame: pd.DataFrame) -> pd.DataFrame:
    """Return *frame* with its lists of numbers as arrays of floats; raises `ProjectError` for what is none.

    So a model learns from what it will be asked with, whether a list came from parquet, or was made in `prepare`.
    """
    first = {name: frame[name].dropna().head(1) for name in frame.columns if frame[name].dtype == object}
    names = [name for name, few in first.items() if len(few) and isinstance(few.iloc[0], list | tuple | np.ndarray)]
    return frame.assign(**{name: _vectors(name, frame[name]) for name in names})


def _vectors(name: str, values: pd.Series) -> pd.Series:
    arrays = np.empty(len(values), dtype=object)
    length = None
    for row, (value, gap) in enumerate(zip(values, values.isna().tolist(), strict=True)):
        if gap:
            continue
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.array(np.nan)
        if array.ndim != 1 or not np.isfinite(array).all():
            raise ProjectError(
                f"column {name!r}, row {row}: not a plain list of finite numbers",
                help="a column of lists holds numbers only, without gaps: put it right in prepare",
            )
        length = len(array) if length is None else length
        if len(array) != length or not length:
            raise ProjectError(
                f"column {name!r} holds lists of {length} and of {len(array)} numbers (row {row})",
                help="a list is as long in every row: cut or fill it up in prepare",
            )
        arrays[row] = array
    return pd.Series(arrays, index=values.index, name=name)


def truths_of(frame: pd.DataFrame, targets: Sequence[str]) -> list[Any]:
    """Return the truth of each row of *frame* as JSON has it: a value, or a list when there are several *targets*."""
    columns = [plain_values(frame[name]) for name in targets]
    return columns[0] if len(columns) == 1 else [list(row) for row in zip(*columns, strict=True)]


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
