"""From the JSON of a request to the DataFrame that the model was trained on, refusing what does not fit.

JSON knows six types, so a whole column is checked by the set of its values' types, in C; only a request that is
refused pays for finding the row to name.  A model whose inputs are all numbers gets its frame from one
two-dimensional array: pandas takes 10 microseconds for that, and 200 for one row given as a dictionary.

A datetime with an offset is turned into UTC and loses the offset: a manifest does not know time zones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from modelcd.artifact import Column
from modelcd.errors import ConfigurationError

_NULL = type(None)
_ACCEPTED: Mapping[str, frozenset[type]] = {
    "double": frozenset({float, int}),
    "long": frozenset({int, float}),
    "boolean": frozenset({bool}),
    "string": frozenset({str}),
    "datetime": frozenset({str}),
    "vector": frozenset({list}),
}
_EXPECTED = {
    "double": "a number",
    "long": "a whole number",
    "boolean": "true or false",
    "string": "a string",
    "datetime": "an ISO 8601 date and time",
    "vector": "a list of {length} numbers",
}
_JSON = {
    float: "a number",
    int: "a number",
    bool: "a boolean",
    str: "a string",
    _NULL: "null",
    list: "a list",
    dict: "an object",
}


class BadInput(Exception):
    """A request that cannot be answered, with the HTTP status that says so; its message shows no value of a row."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class Inputs:
    """The columns of a model: checks requests and builds frames from them."""

    def __init__(self, columns: Sequence[Column]) -> None:
        if not columns:
            raise ConfigurationError("the manifest names no input columns", help="build the version anew")
        for column in columns:
            if column.kind not in _ACCEPTED:
                raise ConfigurationError(f"column {column.name!r} has the unknown kind {column.kind!r}")
        self.columns = tuple(columns)
        names = [column.name for column in columns]
        self._index = pd.Index(names)
        self._get: Callable[[Any], Any] = itemgetter(*names) if len(names) > 1 else _single(names[0])
        self._types = [_ACCEPTED[c.kind] | ({_NULL} if c.nullable else set()) for c in columns]
        kinds = {column.kind for column in columns}
        self._flat = frozenset.intersection(*map(frozenset, self._types)) if kinds == {"double"} else None

    def of_rows(self, rows: object) -> pd.DataFrame:
        """Build the frame of *rows*, a list of objects; columns the model does not know are ignored.

        Raises `BadInput` naming row and column.
        """
        if type(rows) is not list:
            raise BadInput(f"'rows' must be a list of objects, got {_name(rows)}")
        if not rows:
            raise BadInput("'rows' is empty: give at least one row")
        try:
            values = list(map(self._get, rows))
        except (KeyError, TypeError, IndexError):
            raise self._misshapen(rows) from None
        if self._flat is not None:
            flat = list(chain.from_iterable(values))
            if self._flat.issuperset(map(type, flat)):
                block = np.array(flat, dtype=np.float64).reshape(len(rows), len(self.columns))
                return pd.DataFrame(block, columns=self._index)
        return self._of_sequences(list(zip(*values, strict=True)))

    def of_columns(self, columns: Mapping[str, Any]) -> pd.DataFrame:
        """Build the frame of *columns*, each a list of values; raises `BadInput` naming row and column."""
        missing = [c.name for c in self.columns if c.name not in columns]
        if missing:
            raise BadInput(f"column {missing[0]!r} is missing")
        sequences = [columns[c.name] for c in self.columns]
        for column, values in zip(self.columns, sequences, strict=True):
            if type(values) is not list or len(values) != len(sequences[0]):
                raise BadInput(f"column {column.name!r} must be a list as long as the other columns")
        if not sequences[0]:
            raise BadInput("there are no rows: give at least one")
        return self._of_sequences(sequences)

    def _of_sequences(self, sequences: Sequence[Sequence[Any]]) -> pd.DataFrame:
        arrays = {}
        for column, types, values in zip(self.columns, self._types, sequences, strict=True):
            if not types.issuperset(map(type, values)):
                raise _misfit(column, types, values)
            arrays[column.name] = _CONVERT[column.kind](column, values)
        return pd.DataFrame(arrays)

    def _misshapen(self, rows: Sequence[Any]) -> BadInput:
        for k, row in enumerate(rows):
            if type(row) is not dict:
                return BadInput(f"rows[{k}]: expected an object of columns, got {_name(row)}")
            for column in self.columns:
                if column.name not in row:
                    return BadInput(f"rows[{k}]: column {column.name!r} is missing")
        raise AssertionError("rows that could not be read have every column")


def _single(name: str) -> Callable[[Any], Any]:
    get = itemgetter(name)
    return lambda row: (get(row),)


def _name(value: object) -> str:
    return _JSON.get(type(value), type(value).__name__)


def _misfit(column: Column, types: frozenset[type], values: Sequence[Any]) -> BadInput:
    k = next(k for k, value in enumerate(values) if type(value) not in types)
    tail = ", and it may not be null" if values[k] is None else ""
    return _refuse(column, k, f"got {_name(values[k])}{tail}")


def _refuse(column: Column, row: int, got: str) -> BadInput:
    expected = _EXPECTED[column.kind].format(length=column.length)
    return BadInput(f"rows[{row}], column {column.name!r}: expected {expected}, {got}")


def _doubles(_column: Column, values: Sequence[Any]) -> Any:
    return np.array(values, dtype=np.float64)


def _longs(column: Column, values: Sequence[Any]) -> Any:
    for k, value in enumerate(values):
        if type(value) is float and not value.is_integer():
            raise _refuse(column, k, "got a fraction")
        if value is not None and not -(2**63) <= value < 2**63:
            raise _refuse(column, k, "got one beyond 64 bits")
    # A column of integers with gaps is one of floats, in the frames that models are trained on as well.
    return np.array(values, dtype=np.float64 if None in values else np.int64)


def _booleans(_column: Column, values: Sequence[Any]) -> Any:
    return np.array(values, dtype=object if None in values else np.bool_)


_TEXT = pd.Series(["text"]).dtype  # `str` since pandas 3, object before: what the training frame had


def _strings(_column: Column, values: Sequence[Any]) -> Any:
    return pd.array(list(values), dtype=_TEXT)


def _datetimes(column: Column, values: Sequence[Any]) -> Any:
    moments: list[datetime | None] = []
    for k, value in enumerate(values):
        try:
            moments.append(None if value is None else _moment(value))
        except (ValueError, OverflowError):
            raise _refuse(column, k, "got a string that is none") from None
    return np.array(moments, dtype="datetime64[us]")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _vectors(column: Column, values: Sequence[Any]) -> Any:
    """Return a column of arrays, as data frames have them that were read from parquet."""
    arrays = np.empty(len(values), dtype=object)
    for k, value in enumerate(values):
        if value is None:
            continue
        if len(value) != column.length:
            raise _refuse(column, k, f"got {len(value)}")
        if not _NUMBERS.issuperset(map(type, value)):
            odd = next(one for one in value if type(one) not in _NUMBERS)
            raise _refuse(column, k, f"got {_name(odd)} among them")
        arrays[k] = np.array(value, dtype=np.float64)
    return arrays


_NUMBERS = _ACCEPTED["double"]

_CONVERT: Mapping[str, Callable[[Column, Sequence[Any]], Any]] = {
    "double": _doubles,
    "long": _longs,
    "boolean": _booleans,
    "string": _strings,
    "datetime": _datetimes,
    "vector": _vectors,
}
