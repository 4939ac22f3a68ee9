"""MLflow's scoring protocol (`/invocations`), as its own server and client speak it, for models with named columns.

MLflow's client writes NaN for what is missing in a frame, and its server reads that; so does this dialect, and no
other.  `params` are refused: a version is judged by what it answers without any.  So are values without names: which
column they are of would be a guess.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import StringIO
from math import isfinite
from typing import TYPE_CHECKING, Any

import orjson

from modelcd.serving.dialects import Answer, Ask, Write, Written, parse, takes
from modelcd.serving.inputs import BadInput, Inputs

if TYPE_CHECKING:
    import pandas as pd

_NAMED = "send {form!r} as {shape}: values without names could be of any column"


def invocation_asked(ask: Ask, inputs: Inputs) -> tuple[pd.DataFrame, Write]:
    """Read a body of MLflow's protocol: JSON in one of its four forms, or CSV."""
    if takes(ask, "application/json", "text/csv") == "text/csv":
        return inputs.of_columns(_csv(ask.body, inputs)), _write_predictions
    plain = _parsed(ask.body)
    forms = [form for form in _FORMS if form in plain]
    if len(forms) != 1:
        raise BadInput(f"send exactly one of {', '.join(_FORMS)}, or CSV as text/csv; got {', '.join(forms) or 'none'}")
    if plain.get("params"):
        raise BadInput("'params' are not taken here: a version answers as it was judged; leave them away")
    return _FORMS[forms[0]](plain[forms[0]], inputs), _write_predictions


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        return parse(body)
    except BadInput:
        if b"NaN" not in body:
            raise
    try:
        plain = json.loads(body, parse_constant=_missing, parse_int=_number, parse_float=_number)
    except (ValueError, RecursionError):
        return parse(body)  # it raises, and says why
    if type(plain) is not dict:
        raise BadInput("the body must be a JSON object", 400)
    return plain


def _missing(word: str) -> None:
    if word != "NaN":
        raise ValueError(word)


def _number(text: str) -> int | float:
    """Return the number *text*, one beyond 64 bits as a float; raises `ValueError` for what is none or infinite."""
    number = int(text) if len(text) < 20 and text.lstrip("+-").isdecimal() else float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def _split(split: Any, inputs: Inputs) -> pd.DataFrame:
    if type(split) is not dict:
        raise BadInput("'dataframe_split' must be an object with 'columns' and 'data'")
    names, data = split.get("columns"), split.get("data")
    if type(names) is not list or type(data) is not list or not all(type(name) is str for name in names):
        raise BadInput("'dataframe_split' needs 'columns' and 'data', two lists")
    _once(names)
    for k, row in enumerate(data):
        if type(row) is not list or len(row) != len(names):
            raise BadInput(f"data[{k}] must be a list with one value for each of the {len(names)} columns")
    return inputs.of_rows([dict(zip(names, row, strict=True)) for row in data])


def _once(names: list[str]) -> None:
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        raise BadInput(f"column {twin!r} is there twice")


def _instances(instances: Any, inputs: Inputs) -> pd.DataFrame:
    if type(instances) is list and instances and type(instances[0]) is not dict:
        raise BadInput(_NAMED.format(form="instances", shape="[{column: value, ...}, ...]"))
    return inputs.of_rows(instances)


def _inputs(given: Any, inputs: Inputs) -> pd.DataFrame:
    if type(given) is dict:
        return inputs.of_columns(given)
    if type(given) is not list or not given or type(given[0]) is not dict:
        raise BadInput(_NAMED.format(form="inputs", shape="{column: [value, ...], ...}"))
    return inputs.of_rows(given)


_FORMS: Mapping[str, Callable[[Any, Inputs], Any]] = {
    "dataframe_split": _split,
    "dataframe_records": lambda records, inputs: inputs.of_rows(records),
    "instances": _instances,
    "inputs": _inputs,
}


# -- CSV ---------------------------------------------------------------------------------------------------------------


def _csv(body: bytes, inputs: Inputs) -> dict[str, list[Any]]:
    """Return the columns of a CSV with a header; an empty field is a missing value."""
    try:
        names, *rows = csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    except UnicodeDecodeError as error:
        raise BadInput(f"the CSV is not UTF-8: byte {error.start}", 400) from None
    except (csv.Error, ValueError) as error:  # an empty body has no first line
        said = str(error) if isinstance(error, csv.Error) else "it has no header"
        raise BadInput(f"the body is not CSV: {said}", 400) from None
    _once(names)
    rows = [row for row in rows if row]
    for k, row in enumerate(rows):
        if len(row) != len(names):
            raise BadInput(f"rows[{k}] of the CSV has {len(row)} fields, the header {len(names)}")
    fields = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
    kinds = {column.name: column.kind for column in inputs.columns}
    if vector := next((name for name in names if kinds.get(name) == "vector"), None):
        raise BadInput(f"column {vector!r} holds lists, which CSV has no way to say: send JSON", 415)
    return {name: [_value(kinds[name], text) for text in texts] for name, texts in fields.items() if name in kinds}


def _value(kind: str, text: str) -> Any:
    """Return what *text* says as JSON would; what it cannot be stays text, for the column's check to refuse."""
    if text == "":
        return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in ("double", "long"):
        with suppress(ValueError):
            return _number(text)
    return text


def _write_predictions(answer: Answer) -> Written:
    return Written(orjson.dumps({"predictions": answer.scores}))
