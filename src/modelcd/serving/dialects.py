"""The three ways to ask for scores: modelcd's own, the Open Inference Protocol, and MLflow's scoring protocol.

Each is a pair of plain functions, from a parsed body to a frame and from scores to a body, so that all three share
the checks, the model and the bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from modelcd.serving.inputs import BadInput, Inputs

if TYPE_CHECKING:
    import pandas as pd

OPEN_INFERENCE_TYPES = {"double": "FP64", "long": "INT64", "boolean": "BOOL", "string": "BYTES", "datetime": "BYTES"}


@dataclass(frozen=True)
class Answer:
    """One score per row, and what they are the scores of."""

    scores: list[Any]
    model: str
    version: str
    prediction: str


@dataclass(frozen=True)
class Dialect:
    """How a request is read and an answer is written."""

    read: Callable[[Mapping[str, Any], Inputs], pd.DataFrame]
    write: Callable[[Answer], Mapping[str, Any]]


def parse(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in *body*; raises `BadInput` (400)."""
    try:
        plain = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not JSON: {error.msg} at character {error.pos}", 400) from None
    if type(plain) is not dict:
        raise BadInput("the body must be a JSON object", 400)
    return plain


def _read_rows(plain: Mapping[str, Any], inputs: Inputs) -> pd.DataFrame:
    if "rows" not in plain:
        raise BadInput("the body has no 'rows': send {\"rows\": [{column: value, ...}, ...]}")
    return inputs.of_rows(plain["rows"])


def _write_scores(answer: Answer) -> Mapping[str, Any]:
    return {"scores": answer.scores, "model": answer.model, "version": answer.version}


def _read_tensors(plain: Mapping[str, Any], inputs: Inputs) -> pd.DataFrame:
    tensors = plain.get("inputs")
    if type(tensors) is not list or not all(type(t) is dict and type(t.get("name")) is str for t in tensors):
        raise BadInput("'inputs' must be a list with one named tensor per column")
    return inputs.of_columns({tensor["name"]: _column(tensor) for tensor in tensors})


def _column(tensor: Mapping[str, Any]) -> list[Any]:
    name, shape, data = tensor["name"], tensor.get("shape"), tensor.get("data")
    if type(data) is not list:
        raise BadInput(f"input {name!r} has no list 'data' (the binary extension is not spoken here)")
    if all(type(value) is list and len(value) == 1 for value in data):
        data = [value[0] for value in data]
    if shape not in ([len(data)], [len(data), 1]):
        raise BadInput(f"input {name!r}: 'shape' must be [{len(data)}] or [{len(data)}, 1], as there are values")
    return data


def _write_tensors(answer: Answer) -> Mapping[str, Any]:
    scores, shape = answer.scores, [len(answer.scores)]
    if isinstance(scores[0], list):
        shape.append(len(scores[0]))
        scores = [value for score in scores for value in score]
    output = {"name": "scores", "shape": shape, "datatype": _datatype(scores), "data": scores}
    return {
        "model_name": answer.model,
        "model_version": answer.version,
        "id": answer.prediction,
        "outputs": [output],
    }


def _datatype(scores: list[Any]) -> str:
    types = set(map(type, scores))
    if types == {bool}:
        return "BOOL"
    if types == {int}:
        return "INT64"
    return "FP64" if types <= {int, float} else "BYTES"


def _read_dataframe(plain: Mapping[str, Any], inputs: Inputs) -> pd.DataFrame:
    if "dataframe_records" in plain:
        return inputs.of_rows(plain["dataframe_records"])
    split = plain.get("dataframe_split")
    if type(split) is not dict:
        raise BadInput("send 'dataframe_records' or 'dataframe_split'; other forms are not spoken here")
    names, data = split.get("columns"), split.get("data")
    if type(names) is not list or type(data) is not list or not all(type(name) is str for name in names):
        raise BadInput("'dataframe_split' needs 'columns' and 'data', two lists")
    for k, row in enumerate(data):
        if type(row) is not list or len(row) != len(names):
            raise BadInput(f"data[{k}] must be a list with one value for each of the {len(names)} columns")
    return inputs.of_rows([dict(zip(names, row, strict=True)) for row in data])


def _write_predictions(answer: Answer) -> Mapping[str, Any]:
    return {"predictions": answer.scores}


OWN = Dialect(_read_rows, _write_scores)
OPEN_INFERENCE = Dialect(_read_tensors, _write_tensors)
MLFLOW = Dialect(_read_dataframe, _write_predictions)
