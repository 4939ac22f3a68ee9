"""The Open Inference Protocol over HTTP (`/v2`), with its binary tensors: what `tritonclient.http` speaks.

A model's columns are inputs of their own names, its scores one output, `scores`.  `parameters` of a request mean
nothing to us and are let by.  The answer has the request's own `id`; ours is its parameter `prediction_id`, because
this protocol's clients do not show headers.  gRPC is not spoken.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from math import isinf, isnan, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from modelcd.serving.dialects import Answer, Ask, Write, Written, parse, takes
from modelcd.serving.inputs import BadInput, Inputs

if TYPE_CHECKING:
    import pandas as pd

OUTPUT = "scores"
DATATYPES = {
    "double": "FP64",
    "long": "INT64",
    "boolean": "BOOL",
    "string": "BYTES",
    "datetime": "BYTES",
    "vector": "FP64",
}
"""The datatype of a column, or of scores, by its kind."""

_HEAD = "inference-header-content-length"
_PACKED = {
    "BOOL": "?",
    **{f"{sign}INT{8 * size}": f"<{letter}{size}" for sign, letter in (("", "i"), ("U", "u")) for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}


def tensors_asked(ask: Ask, inputs: Inputs) -> tuple[pd.DataFrame, Write]:
    """Read an inference request: one tensor per column, as JSON or binary."""
    takes(ask, "application/json", "application/octet-stream")
    head, tail = _parts(ask)
    plain = parse(head)
    given, identity = plain.get("inputs"), plain.get("id")
    if type(given) is not list or not all(type(t) is dict and type(t.get("name")) is str for t in given):
        raise BadInput("'inputs' must be a list with one named tensor per column")
    if identity is not None and type(identity) is not str:
        raise BadInput("'id' must be a string")
    vectors = {column.name for column in inputs.columns if column.kind == "vector"}
    frame = inputs.of_columns(dict(_columns(given, tail, vectors)))
    return frame, partial(_write_tensors, identity, _binary_wanted(plain))


def _parts(ask: Ask) -> tuple[bytes, memoryview]:
    """Return the JSON of a request, and the binary values behind it."""
    said = ask.headers.get(_HEAD)
    if said is None:
        return ask.body, memoryview(b"")
    if not said.isdecimal() or int(said) > len(ask.body):
        raise BadInput(f"Inference-Header-Content-Length is {said!r} of {len(ask.body)} bytes", 400)
    return ask.body[: int(said)], memoryview(ask.body)[int(said) :]


def _columns(
    tensors: Sequence[Mapping[str, Any]], tail: memoryview, vectors: Collection[str]
) -> Iterator[tuple[str, list[Any]]]:
    for tensor in tensors:
        name, shape, size = tensor["name"], tensor.get("shape"), _parameters(tensor).get("binary_data_size")
        if type(shape) is not list or not shape or not all(type(n) is int and n >= 0 for n in shape):
            raise BadInput(f"input {name!r}: 'shape' must be a list of whole numbers")
        if size is None:
            values = _flat(name, tensor.get("data"))
        else:
            if type(size) is not int or not 0 <= size <= len(tail):
                raise BadInput(f"input {name!r}: binary_data_size is {size!r}, and {len(tail)} bytes are left", 400)
            values, tail = _unpacked(name, tensor.get("datatype"), tail[:size]), tail[size:]
        if len(values) != prod(shape):
            raise BadInput(f"input {name!r}: 'shape' says {prod(shape)} values, and there are {len(values)}")
        yield name, _rows(name, shape, values) if name in vectors else _scalars(name, shape, values)
    if len(tail):
        raise BadInput(f"{len(tail)} bytes follow the last tensor: binary_data_size does not count them", 400)


def _scalars(name: str, shape: list[int], values: list[Any]) -> list[Any]:
    if shape not in ([len(values)], [len(values), 1]):
        raise BadInput(f"input {name!r}: 'shape' must be [{len(values)}] or [{len(values)}, 1], one value a row")
    return values


def _rows(name: str, shape: list[int], values: list[Any]) -> list[Any]:
    if len(shape) != 2 or not shape[1]:
        raise BadInput(f"input {name!r}: 'shape' must be [rows, numbers], it is a list of numbers in each row")
    return [values[k * shape[1] : (k + 1) * shape[1]] for k in range(shape[0])]


def _parameters(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    found = plain.get("parameters")
    return found if type(found) is dict else {}


def _flat(name: str, data: Any) -> list[Any]:
    if type(data) is not list:
        raise BadInput(f"input {name!r} has neither a list 'data' nor the parameter binary_data_size")
    while data and all(type(value) is list for value in data):
        data = [value for inner in data for value in inner]
    return list(data)


def _unpacked(name: str, datatype: Any, data: memoryview) -> list[Any]:
    """Return the binary values *data* as JSON would have them; NaN is a missing one."""
    if datatype == "BYTES":
        return list(_texts(name, data))
    if datatype not in _PACKED:
        known = ", ".join((*_PACKED, "BYTES"))
        raise BadInput(f"input {name!r}: the datatype {datatype!r} is not read here; known: {known}")
    kind = np.dtype(_PACKED[datatype])
    if len(data) % kind.itemsize:
        raise BadInput(f"input {name!r}: {len(data)} bytes are no whole number of {datatype} values", 400)
    values: list[Any] = np.frombuffer(data, kind).tolist()
    if kind.kind != "f":
        return values
    if any(map(isinf, values)):
        raise BadInput(f"input {name!r} holds infinity: send NaN for a value that is missing")
    return [None if isnan(value) else value for value in values]


def _texts(name: str, data: memoryview) -> Iterator[str]:
    while data:
        length = int.from_bytes(data[:4], "little")
        if len(data) < 4 + length:
            raise BadInput(f"input {name!r}: its BYTES end too early", 400)
        try:
            yield str(data[4 : 4 + length], "utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"input {name!r}: its BYTES are not UTF-8", 400) from None
        data = data[4 + length :]


def _binary_wanted(plain: Mapping[str, Any]) -> bool:
    """Say whether the scores are wanted binary; raises `BadInput` for outputs that there are not."""
    wanted = bool(_parameters(plain).get("binary_data_output", False))
    outputs = plain.get("outputs") or []
    if type(outputs) is not list or not all(type(o) is dict and o.get("name") == OUTPUT for o in outputs):
        raise BadInput(f"'outputs' may name {OUTPUT!r}, the only output")
    for output in outputs:
        if _parameters(output).get("classification"):
            raise BadInput("the parameter 'classification' is not spoken here: sort the scores yourself")
        wanted = bool(_parameters(output).get("binary_data", wanted))
    return wanted


# -- answers -----------------------------------------------------------------------------------------------------------


def _write_tensors(identity: str | None, binary: bool, answer: Answer) -> Written:
    scores, shape = answer.scores, [len(answer.scores)]
    if type(scores[0]) is list:
        shape.append(len(scores[0]))
        scores = [value for score in scores for value in score]
    output: dict[str, Any] = {"name": OUTPUT, "shape": shape, "datatype": _datatype(scores)}
    data = _packed(output["datatype"], scores) if binary else b""
    output |= {"parameters": {"binary_data_size": len(data)}} if binary else {"data": scores}
    head = orjson.dumps(
        {
            "model_name": answer.model,
            "model_version": answer.version,
            **({"id": identity} if identity is not None else {}),
            "parameters": {"prediction_id": answer.prediction},
            "outputs": [output],
        }
    )
    if not binary:
        return Written(head)
    return Written(head + data, (("content-type", "application/octet-stream"), (_HEAD, str(len(head)))))


def _datatype(scores: Sequence[Any]) -> str:
    types = set(map(type, scores))
    if types == {bool}:
        return "BOOL"
    if types == {int}:
        return "INT64"
    return "FP64" if types <= {int, float} else "BYTES"


def _packed(datatype: str, scores: Sequence[Any]) -> bytes:
    if datatype != "BYTES":
        return np.asarray(scores, dtype=_PACKED[datatype]).tobytes()
    texts = [str(score).encode() for score in scores]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
