"""The parts of the model server that need no server: inputs, scores, bodies, dialects, counts, the prediction log."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from modelcd.artifact import Column, Manifest, Output, read_manifest, toolchain_changes, write_manifest
from modelcd.errors import ConfigurationError, UsageError
from modelcd.serving.bodies import encoding_of, inflated
from modelcd.serving.dialects import Answer, Ask, Dialect, Written, parse, rows_asked
from modelcd.serving.engine import INLINE, Engine, Pace
from modelcd.serving.inputs import BadInput, Inputs
from modelcd.serving.invocations import invocation_asked
from modelcd.serving.loading import Model, ModelFailed, load_model
from modelcd.serving.outputs import NoScore, array_of, output_of, plain
from modelcd.serving.predictions import PredictionLog
from modelcd.serving.settings import read_settings
from modelcd.serving.telemetry import Telemetry
from modelcd.serving.tensors import tensors_asked
from modelcd.serving.wire import encode_rows
from modelcd.testing.traffic import eventually

NUMBERS = Inputs([Column("a", "double"), Column("b", "double", nullable=False)])
EVERY_KIND = Inputs(
    [
        Column("d", "double"),
        Column("l", "long"),
        Column("b", "boolean"),
        Column("s", "string"),
        Column("t", "datetime"),
    ]
)
ROW = {"d": 1.5, "l": 2, "b": True, "s": "x", "t": "2024-05-06T07:08:09"}
NULLS = dict.fromkeys(ROW)


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_columns_come_in_the_order_of_the_manifest() -> None:
    frame = NUMBERS.of_rows([{"b": 2.0, "a": 1}])

    assert frame.to_dict("records") == [{"a": 1.0, "b": 2.0}]


def test_numbers_become_the_frame_that_pandas_would_have_made() -> None:
    frame = NUMBERS.of_rows([{"a": 1.5, "b": 2}, {"a": None, "b": 3.5}])

    pd.testing.assert_frame_equal(frame, pd.DataFrame({"a": [1.5, None], "b": [2.0, 3.5]}), check_column_type=False)


def test_every_kind_becomes_its_type() -> None:
    frame = EVERY_KIND.of_rows([ROW])

    wanted = pd.DataFrame({k: [v] for k, v in ROW.items()}).assign(t=lambda f: f["t"].astype("datetime64[us]"))
    pd.testing.assert_frame_equal(frame, wanted)


def test_null_becomes_the_missing_value_of_its_column() -> None:
    frame = EVERY_KIND.of_rows([ROW, NULLS])

    assert frame.iloc[1].isna().all()


def test_a_column_of_nulls_keeps_its_type() -> None:
    frame = EVERY_KIND.of_rows([NULLS])

    assert frame.dtypes["s"] == EVERY_KIND.of_rows([ROW]).dtypes["s"]


def test_a_column_the_model_does_not_know_is_ignored() -> None:
    frame = NUMBERS.of_rows([{"a": 1, "b": 2, "c": "anything"}])

    assert list(frame.columns) == ["a", "b"]


def test_a_datetime_with_an_offset_becomes_utc() -> None:
    frame = EVERY_KIND.of_rows([ROW | {"t": "2024-05-06T07:08:09+02:00"}])

    assert frame["t"][0] == pd.Timestamp("2024-05-06T05:08:09")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "'rows' must be a list of objects, got null"),
        ({}, "'rows' must be a list of objects, got an object"),
        ([], "'rows' is empty"),
        ([1], "rows[0]: expected an object of columns, got a number"),
        ([{"a": 1, "b": 2}, "text"], "rows[1]: expected an object of columns, got a string"),
        ([{"a": 1, "b": 2}, {"a": 1}], "rows[1]: column 'b' is missing"),
        ([{"a": 1, "b": 2}, {"a": "1", "b": 2}], "rows[1], column 'a': expected a number, got a string"),
        ([{"a": True, "b": 2}], "rows[0], column 'a': expected a number, got a boolean"),
        ([{"a": [1], "b": 2}], "rows[0], column 'a': expected a number, got a list"),
        ([{"a": 1, "b": None}], "rows[0], column 'b': expected a number, got null, and it may not be null"),
    ],
)
def test_what_does_not_fit_is_named_by_row_and_column(rows: Any, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        NUMBERS.of_rows(rows)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("l", 1.5),
        ("l", True),
        ("l", 2**63),
        ("l", "1"),
        ("b", 1),
        ("b", "true"),
        ("s", 1),
        ("t", 1714979289),
        ("t", "yesterday"),
        ("t", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_value_of_another_kind_is_refused(column: str, value: Any) -> None:
    with pytest.raises(BadInput, match=rf"rows\[1\], column '{column}'"):
        EVERY_KIND.of_rows([ROW, ROW | {column: value}])


def test_a_whole_float_is_a_whole_number() -> None:
    frame = EVERY_KIND.of_rows([ROW | {"l": 3.0}])

    assert (frame["l"][0], frame.dtypes["l"]) == (3, np.int64)


def test_a_model_of_one_column_takes_rows() -> None:
    frame = Inputs([Column("only", "double")]).of_rows([{"only": 1}, {"only": 2}])

    assert frame["only"].tolist() == [1.0, 2.0]


VECTORS = Inputs([Column("e", "vector", length=2), Column("a", "double")])


def test_a_list_of_numbers_becomes_an_array_as_parquet_would_give_it(tmp_path: Path) -> None:
    frame = VECTORS.of_rows([{"e": [1, 2.5], "a": 1}, {"e": None, "a": None}])

    frame.to_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(frame, pd.read_parquet(tmp_path / "rows.parquet"))
    assert frame["e"][0].dtype == np.float64


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([1.0], "got 1"),
        ([1.0, 2.0, 3.0], "got 3"),
        ([1.0, "x"], "got a string among them"),
        ([1.0, None], "got null among them"),
        ([[1.0, 2.0]], "got 1"),
        ([True, 1.0], "got a boolean among them"),
        (1.0, "got a number"),
        ("[1, 2]", "got a string"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_with_its_row(value: Any, got: str) -> None:
    with pytest.raises(BadInput, match=rf"rows\[1\], column 'e': expected a list of 2 numbers, {got}"):
        VECTORS.of_rows([{"e": [1, 2], "a": 1}, {"e": value, "a": 1}])


def test_a_kind_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown kind 'tensor'"):
        Inputs([Column("a", "tensor")])


def test_a_manifest_without_inputs_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no input columns"):
        Inputs([])


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "chances", "scores"),
    [
        (np.array([[0.9, 0.1], [0.2, 0.8]]), True, [0.1, 0.8]),
        (np.array([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]), True, [[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]),
        (np.array([1, 2]), False, [1, 2]),
        (np.array([[1.0], [2.0]]), False, [1.0, 2.0]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), False, [[1.0, 2.0], [3.0, 4.0]]),
        (pd.Series(["a", "b"]), False, ["a", "b"]),
        (pd.DataFrame({"score": [0.5, 1.5]}), False, [0.5, 1.5]),
        ([True, False], False, [True, False]),
    ],
)
def test_there_is_one_plain_score_per_row(answer: Any, chances: bool, scores: list[Any]) -> None:
    assert plain(array_of(answer, 2, chances=chances)) == scores


@pytest.mark.parametrize(
    ("answer", "chances"),
    [
        (np.array([1.0]), False),
        (np.array([1.0, 2.0, 3.0]), False),
        (3.0, False),
        (None, False),
        (np.array([1.0, np.nan]), False),
        (np.array([np.inf, 1.0]), False),
        (np.array([None, "a"], dtype=object), False),
        (np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]"), False),
        (np.array([[1.0], [1.0]]), True),
        (np.array([0.5, 0.5]), True),
        (np.ones((2, 2, 2)), False),
        (np.ones((2, 0)), False),
        (np.array([[1.0, np.nan], [1.0, 2.0]]), False),
        ([[1.0, 2.0], [1.0]], False),
        (pd.Series([[1.0, 2.0], [1.0]]), False),
        (np.array([["a", "b"], ["c", "d"]]), False),
        (np.array([[True, False], [True, True]]), False),
        ([{"low": 1.0}, {"low": 2.0}], False),
        ({"low": [1.0, 2.0]}, False),
        (np.array(["a", 1.0], dtype=object), False),
    ],
)
def test_what_is_no_score_is_said_to_be_none(answer: Any, chances: bool) -> None:
    with pytest.raises(NoScore, match="gave "):
        plain(array_of(answer, 2, chances=chances))


@pytest.mark.parametrize(
    ("output", "answer", "message"),
    [
        (Output("double"), [[1.0, 2.0]], "gave lists of 2 numbers, and was built to give numbers"),
        (Output("vector", 3), [[1.0, 2.0]], "gave lists of 2 numbers, and was built to give lists of 3 numbers"),
        (Output("vector", 3), [1.0], "gave numbers, and was built to give lists of 3 numbers"),
        (Output("string"), [1.0], "gave numbers, and was built to give texts"),
        (Output("double"), np.array(["a"], dtype=object), "gave texts, and was built to give numbers"),
        (Output("boolean"), [1], "gave numbers, and was built to give truth values"),
    ],
)
def test_a_model_that_gives_something_else_than_it_was_built_to_give_fails(
    output: Output, answer: Any, message: str
) -> None:
    manifest = Manifest("m", "object", "f", "predict", (Column("a", "double"),), output=output)

    with pytest.raises(ModelFailed, match=f"ScoreError: the model {message}"):
        Model(manifest, lambda frame: answer).score(pd.DataFrame({"a": [1.0]}))


def test_whole_numbers_and_fractions_are_both_numbers() -> None:
    manifest = Manifest("m", "object", "f", "predict", (Column("a", "double"),), output=Output("long"))

    assert Model(manifest, lambda frame: [1.5]).score(pd.DataFrame({"a": [1.0]})) == [1.5]


@pytest.mark.parametrize(
    ("scores", "names", "output"),
    [
        ([1.5, 2], (), Output("double")),
        ([1, 2], (), Output("long")),
        ([True], (), Output("boolean")),
        (["a"], (), Output("string")),
        ([[0.5, 0.5]], ("a", "b"), Output("vector", 2, ("a", "b"))),
        ([[0.5, 0.5]], ("a", "b", "c"), Output("vector", 2)),
    ],
)
def test_what_scores_are_is_read_off_them(scores: list[Any], names: tuple[str, ...], output: Output) -> None:
    assert output_of(scores, names) == output


def test_a_toolchain_that_is_the_recorded_one_has_no_changes() -> None:
    manifest = Manifest("m", "object", "f", "predict", (), toolchain={"numpy": np.__version__})

    assert toolchain_changes(manifest) == []


def test_a_toolchain_that_changed_says_where() -> None:
    manifest = Manifest("m", "object", "f", "predict", (), toolchain={"numpy": "1.0", "no-such-distribution": "2"})

    assert toolchain_changes(manifest) == [
        f"numpy 1.0, here {np.__version__}",
        "no-such-distribution 2, here not installed",
    ]


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    inputs = (Column("e", "vector", nullable=False, length=3),)
    manifest = Manifest("m", "object", "f", "predict", inputs, output=Output("vector", 2, ("cat", 7)))
    write_manifest(tmp_path, manifest)

    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(("field", "value"), [("flavor", "onnx"), ("method", "transform")])
def test_a_manifest_that_this_server_cannot_run_is_refused(tmp_path: Path, field: str, value: str) -> None:
    plain: dict[str, Any] = {"flavor": "object", "method": "predict"} | {field: value}
    write_manifest(tmp_path, Manifest(model="m", file="f", inputs=(Column("a", "double"),), **plain))

    with pytest.raises(ConfigurationError, match=value):
        load_model(tmp_path)


# -- bodies ------------------------------------------------------------------------------------------------------------

PACKED = {
    "gzip": gzip.compress(b"rows"),
    "gzip in two parts": gzip.compress(b"ro") + gzip.compress(b"ws"),
    "deflate": zlib.compress(b"rows"),
    "deflate without a header": zlib.compress(b"rows", wbits=-15),
}


@pytest.mark.parametrize("what", PACKED)
def test_a_compressed_body_is_unpacked(what: str) -> None:
    assert inflated(PACKED[what], what.split()[0], 4) == b"rows"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_unpacks_to_more_than_the_limit_is_refused_before_it_does(encoding: str) -> None:
    compress = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    bomb = compress(b"0" * 50_000_000)

    with pytest.raises(BadInput, match="longer than 1000 bytes") as refused:
        inflated(bomb, encoding, 1000)

    assert (refused.value.status, len(bomb) < 100_000) == (413, True)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", PACKED["gzip"][:-3], PACKED["gzip"] + b"more"],
    ids=["empty", "not compressed", "cut short", "with more behind it"],
)
def test_a_body_that_is_not_what_it_is_said_to_be_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="gzip") as refused:
        inflated(body, "gzip", 1000)

    assert refused.value.status == 400


@pytest.mark.parametrize(("header", "encoding"), [(None, ""), ("identity", ""), ("GZIP", "gzip"), ("x-gzip", "gzip")])
def test_an_encoding_is_known_by_its_names(header: str | None, encoding: str) -> None:
    assert encoding_of(header) == encoding


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, gzip"])
def test_an_encoding_that_is_not_read_is_refused_with_those_that_are(header: str) -> None:
    with pytest.raises(BadInput, match="gzip or deflate") as refused:
        encoding_of(header)

    assert refused.value.status == 415


# -- dialects ----------------------------------------------------------------------------------------------------------

ANSWER = Answer([0.25, 0.75], "m", "3", "abc")
TENSORS = [
    {"name": "a", "shape": [2], "datatype": "FP64", "data": [1, 2]},
    {"name": "b", "shape": [2, 1], "datatype": "FP64", "data": [[3], [4]]},
]


def read(dialect: Dialect, body: Any, inputs: Inputs = NUMBERS, **headers: str) -> pd.DataFrame:
    """Return the frame that *dialect* reads from *body*."""
    return asked(dialect, body, inputs, **headers)[0]


def asked(dialect: Dialect, body: Any, inputs: Inputs = NUMBERS, **headers: str) -> Any:
    """Return frame and writer for *body*, as JSON unless it is bytes; underscores in *headers* are dashes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return dialect(Ask(content, {name.replace("_", "-"): value for name, value in headers.items()}), inputs)


def said(written: Written) -> Any:
    """Return the JSON of an answer."""
    return json.loads(written.body)


def binary(*tensors: tuple[dict[str, Any], bytes], **more: Any) -> tuple[bytes, str]:
    """Return the body of a request with binary *tensors*, and how long its JSON is."""
    described = [tensor | {"parameters": {"binary_data_size": len(data)}} for tensor, data in tensors]
    head = json.dumps({"inputs": described, **more}).encode()
    return head + b"".join(data for _, data in tensors), str(len(head))


def test_the_open_inference_protocol_reads_columns() -> None:
    frame = read(tensors_asked, {"inputs": TENSORS, "parameters": {"priority": 1}})

    assert frame.to_dict("list") == {"a": [1.0, 2.0], "b": [3.0, 4.0]}


def test_binary_tensors_are_the_same_rows_as_those_in_json() -> None:
    a, b = ({"name": name, "shape": [2], "datatype": kind} for name, kind in (("a", "FP32"), ("b", "UINT8")))
    body, length = binary((a, np.array([1.5, np.nan], "<f4").tobytes()), (b, b"\x03\x04"))

    frame = read(tensors_asked, body, inference_header_content_length=length)

    pd.testing.assert_frame_equal(frame, NUMBERS.of_rows([{"a": 1.5, "b": 3}, {"a": None, "b": 4}]))


def test_binary_texts_and_truth_values_are_read() -> None:
    inputs = Inputs([Column("s", "string"), Column("b", "boolean")])
    text = b"".join(struct.pack("<I", len(word)) + word for word in (b"one", "zwölf".encode()))
    s, b = ({"name": name, "shape": [2], "datatype": kind} for name, kind in (("s", "BYTES"), ("b", "BOOL")))
    body, length = binary((s, text), (b, b"\x01\x00"))

    frame = read(tensors_asked, body, inputs, inference_header_content_length=length)

    assert frame.to_dict("list") == {"s": ["one", "zwölf"], "b": [True, False]}


@pytest.mark.parametrize(
    ("shape", "datatype", "data", "message"),
    [
        ([2], "FP64", b"1234567", "no whole number of FP64 values"),
        ([3], "FP64", bytes(16), "'shape' says 3 values, and there are 2"),
        ([2], "BF16", bytes(4), "the datatype 'BF16' is not read here; known: BOOL"),
        ([1], "BYTES", struct.pack("<I", 9) + b"short", "its BYTES end too early"),
        ([1], "BYTES", struct.pack("<I", 1) + b"\xff", "its BYTES are not UTF-8"),
        ([1], "FP32", np.array([np.inf], "<f4").tobytes(), "holds infinity"),
    ],
)
def test_binary_tensors_that_do_not_fit_are_refused(shape: list[int], datatype: str, data: bytes, message: str) -> None:
    body, length = binary(({"name": "a", "shape": shape, "datatype": datatype}, data))

    with pytest.raises(BadInput, match=message):
        read(tensors_asked, body, inference_header_content_length=length)


@pytest.mark.parametrize("length", ["-1", "1000000", "many"])
def test_a_length_that_cannot_be_is_refused(length: str) -> None:
    with pytest.raises(BadInput, match="Inference-Header-Content-Length"):
        read(tensors_asked, {"inputs": TENSORS}, inference_header_content_length=length)


def test_bytes_that_no_tensor_counts_are_refused() -> None:
    body, length = binary(({"name": "a", "shape": [1], "datatype": "FP64"}, bytes(8)))

    with pytest.raises(BadInput, match="1 bytes follow the last tensor"):
        read(tensors_asked, body + b"x", inference_header_content_length=length)


def test_a_tensor_of_two_dimensions_is_a_list_in_each_row() -> None:
    e, a = ({"name": name, "shape": shape, "datatype": "FP32"} for name, shape in (("e", [2, 2]), ("a", [2])))
    body, length = binary((e, np.array([1, 2, 3, 4], "<f4").tobytes()), (a, np.array([5, 6], "<f4").tobytes()))

    frame = read(tensors_asked, body, VECTORS, inference_header_content_length=length)

    pd.testing.assert_frame_equal(frame, VECTORS.of_rows([{"e": [1, 2], "a": 5}, {"e": [3, 4], "a": 6}]))


@pytest.mark.parametrize("shape", [[2], [1, 1, 2], [1000000000, 0]])
def test_a_tensor_of_another_shape_is_no_list(shape: list[int]) -> None:
    e = {"name": "e", "shape": shape, "datatype": "FP64", "data": [1, 2] if 0 not in shape else []}

    with pytest.raises(BadInput, match=r"must be \[rows, numbers\]"):
        read(tensors_asked, {"inputs": [e, {"name": "a", "shape": [1], "data": [1]}]}, VECTORS)


def test_lists_do_not_fit_into_csv() -> None:
    with pytest.raises(BadInput, match="column 'e' holds lists"):
        read(invocation_asked, b"e,a\n1,2\n", VECTORS, content_type="text/csv")


@pytest.mark.parametrize(
    "tensors",
    [
        None,
        [1],
        [{"name": "a", "shape": [1], "data": [1]}],
        [{"name": "a", "shape": [1], "data": [1]}, {"name": "b", "shape": [2], "data": [1, 2]}],
        [{"name": "a", "shape": [2], "data": [1]}, {"name": "b", "shape": [1], "data": [1]}],
        [{"name": "a", "shape": [0], "data": []}, {"name": "b", "shape": [0], "data": []}],
        [{"name": "a", "shape": [1]}, {"name": "b", "shape": [1], "data": [1]}],
        [{"name": "a", "shape": [1], "data": ["x"]}, {"name": "b", "shape": [1], "data": [1]}],
        [{"name": "a", "shape": "1", "data": [1]}, {"name": "b", "shape": [1], "data": [1]}],
        [{"name": "a", "shape": [True], "data": [1]}, {"name": "b", "shape": [1], "data": [1]}],
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors: Any) -> None:
    with pytest.raises(BadInput):
        read(tensors_asked, {"inputs": tensors})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"id": 7}, "'id' must be a string"),
        ({"outputs": [{"name": "logits"}]}, "'scores', the only output"),
        ({"outputs": [{"name": "scores", "parameters": {"classification": 3}}]}, "classification"),
    ],
)
def test_what_the_open_inference_protocol_cannot_be_asked_is_refused_by_name(more: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(tensors_asked, {"inputs": TENSORS, **more})


@pytest.mark.parametrize(
    ("scores", "shape", "datatype"),
    [
        ([0.25, 0.75], [2], "FP64"),
        ([1, 2], [2], "INT64"),
        ([True, False], [2], "BOOL"),
        (["a", "b"], [2], "BYTES"),
        ([[0.1, 0.9], [0.2, 0.8]], [2, 2], "FP64"),
    ],
)
def test_the_open_inference_protocol_names_shape_and_type(scores: list[Any], shape: list[int], datatype: str) -> None:
    output = said(asked(tensors_asked, {"inputs": TENSORS})[1](Answer(scores, "m", "3", "abc")))["outputs"][0]

    assert (output["shape"], output["datatype"]) == (shape, datatype)


def test_an_answer_has_the_id_of_its_request_and_ours_beside_it() -> None:
    with_id, without = (said(asked(tensors_asked, {"inputs": TENSORS, **i})[1](ANSWER)) for i in ({"id": "mine"}, {}))

    assert (with_id["id"], with_id["parameters"]) == ("mine", {"prediction_id": "abc"})
    assert "id" not in without


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "scores", "parameters": {"binary_data": True}}]},
    ],
)
def test_scores_come_binary_when_they_are_wanted_so(more: dict[str, Any]) -> None:
    written = asked(tensors_asked, {"inputs": TENSORS, **more})[1](ANSWER)

    length = int(dict(written.headers)["inference-header-content-length"])
    output = json.loads(written.body[:length])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(written.body[length:], "<f8").tolist() == [0.25, 0.75]


def test_binary_texts_have_their_length_before_them() -> None:
    body = {"inputs": TENSORS, "parameters": {"binary_data_output": True}}
    written = asked(tensors_asked, body)[1](Answer(["a", "bc"], "m", "3", "abc"))

    assert written.body.endswith(b"\x01\x00\x00\x00a\x02\x00\x00\x00bc")


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"a": 1, "b": 2}]},
        {"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1]]}},
        {"dataframe_split": {"index": [0], "columns": ["a", "b"], "data": [[1, 2]]}, "params": None},
        {"instances": [{"a": 1, "b": 2}]},
        {"inputs": {"a": [1], "b": [2]}},
        {"inputs": [{"a": 1, "b": 2}]},
    ],
)
def test_mlflow_bodies_are_read(body: dict[str, Any]) -> None:
    assert read(invocation_asked, body).to_dict("records") == [{"a": 1.0, "b": 2.0}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "exactly one of dataframe_split, dataframe_records, instances, inputs"),
        ({"instances": [{"a": 1, "b": 2}], "inputs": {}}, "got instances, inputs"),
        ({"inputs": [[1, 2]]}, "values without names"),
        ({"instances": [[1, 2]]}, "values without names"),
        ({"inputs": 1}, "values without names"),
        ({"inputs": {"a": [1], "b": 2}}, "column 'b' must be a list"),
        ({"instances": [{"a": 1, "b": 2}], "params": {"top": 3}}, "'params' are not taken here"),
        ({"dataframe_split": {"columns": ["a", "b"]}}, "two lists"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, "one value for each"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [{"a": 1}]}}, "one value for each"),
        ({"dataframe_split": {"columns": ["a", "b", "a"], "data": [[1, 2, 3]]}}, "column 'a' is there twice"),
        ({"dataframe_split": "a,b"}, "must be an object"),
    ],
)
def test_mlflow_bodies_that_do_not_fit_are_refused_by_name(body: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(invocation_asked, body)


def test_mlflow_writes_nan_for_what_is_missing_and_is_understood() -> None:
    frame = read(
        invocation_asked, b'{"dataframe_records": [{"a": NaN, "b": 2}, {"a": 1e30, "b": 123456789012345678901}]}'
    )

    pd.testing.assert_frame_equal(
        frame, NUMBERS.of_rows([{"a": None, "b": 2}, {"a": 1e30, "b": 123456789012345678901}])
    )


@pytest.mark.parametrize("number", [b"Infinity", b"-Infinity", b"1e999"])
def test_mlflow_or_not_infinity_is_no_number(number: bytes) -> None:
    with pytest.raises(BadInput, match="send null"):
        read(invocation_asked, b'{"dataframe_records": [{"a": NaN, "b": %s}]}' % number)


def test_csv_is_read_by_the_kinds_of_its_columns() -> None:
    text = "other,t,s,b,l,d\r\n1,2024-05-06T07:08:09,007,TRUE,2,1.5\r\n\r\n2,,,,,\r\n"

    frame = read(invocation_asked, text.encode(), EVERY_KIND, content_type="text/csv; charset=utf-8")

    pd.testing.assert_frame_equal(frame, EVERY_KIND.of_rows([ROW | {"s": "007"}, NULLS]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no header"),
        (b"a,b\n", "no rows"),
        (b"a\n1\n", "column 'b' is missing"),
        (b"a,b\n1\n", "1 fields, the header 2"),
        (b"a,a,b\n1,2,3\n", "column 'a' is there twice"),
        (b"a,b\nx,2\n", "rows\\[0\\], column 'a': expected a number, got a string"),
        (b"a,b\ninf,2\n", "rows\\[0\\], column 'a': expected a number, got a string"),
        (b'a,b\n"1,2\n', "not CSV"),
        (b"a,b\n\xff,2\n", "not UTF-8: byte 4"),
    ],
)
def test_csv_that_does_not_fit_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(invocation_asked, text, content_type="text/csv")


def test_mlflow_gets_predictions() -> None:
    write = asked(invocation_asked, {"dataframe_records": [{"a": 1, "b": 2}]})[1]

    assert said(write(ANSWER)) == {"predictions": [0.25, 0.75]}


def test_our_own_answer_says_whose_scores_they_are() -> None:
    write = asked(rows_asked, {"rows": [{"a": 1, "b": 2}]})[1]

    assert said(write(ANSWER)) == {"scores": [0.25, 0.75], "model": "m", "version": "3"}
    assert said(write(ANSWER._replace(names=("cat", 7))))["names"] == ["cat", 7]


@pytest.mark.parametrize("dialect", [rows_asked, tensors_asked, invocation_asked])
def test_a_body_of_another_type_is_refused_with_the_types_that_are_read(dialect: Dialect) -> None:
    with pytest.raises(BadInput, match="send application/json") as refused:
        read(dialect, {}, content_type="text/plain")

    assert refused.value.status == 415


@pytest.mark.parametrize("said_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_known_however_it_is_written(said_type: str) -> None:
    assert len(read(rows_asked, {"rows": [{"a": 1, "b": 2}]}, content_type=said_type)) == 1


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"rows": [', b"[1]", b"NaN", b'{"rows": [{"a": NaN}]}', b"\xff"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        parse(body)

    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": NaN}', "NaN at character 6: send null for a value that is missing"),
        ('{"é": NaN}'.encode(), "NaN at character 6: send null"),
        (b'{"a": -Infinity}', "Infinity at character 7: send null"),
        (b'{"a": Infinity}', "Infinity at character 6: send null"),
        (b'{"a": 1e999}', "the number at character 6 is too large for 64 bits: send null"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"[" * 2000, "depth limit exceeded"),
    ],
)
def test_what_json_has_no_word_for_is_refused_with_what_to_send(body: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(body)


# -- warm-up -----------------------------------------------------------------------------------------------------------


def engine(warmup: tuple[dict[str, Any], ...], predict: Any) -> Engine:
    """Return an engine around the function *predict*."""
    manifest = Manifest("m", "object", "f", "predict", (Column("a", "double", nullable=False),), warmup=warmup)
    return Engine(Model(manifest, predict), "m", "3")


def test_without_warm_up_rows_nothing_is_thought_quick() -> None:
    cold = engine((), lambda frame: frame["a"])
    cold.warm_up()

    assert cold.pace.expected(1) > INLINE


def test_a_warm_quick_model_is_known_to_be_quick() -> None:
    warm = engine(({"a": 1.0},), lambda frame: frame["a"])
    warm.warm_up()

    assert warm.pace.expected(30) <= INLINE


def test_a_larger_request_is_expected_to_take_longer() -> None:
    pace = Pace(seconds=0.001, size=100, per_byte=0.0001)

    assert pace.expected(1100) == pytest.approx(0.101)


def test_warm_up_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="warm-up rows do not fit"):
        engine(({"a": None},), lambda frame: frame["a"]).warm_up()


def test_a_model_that_cannot_score_its_warm_up_rows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
        engine(({"a": 1.0},), lambda frame: 1 / 0).warm_up()


# -- counts ------------------------------------------------------------------------------------------------------------


def families(telemetry: Telemetry) -> dict[str, Any]:
    """Return what a scraper reads out of *telemetry*."""
    text = telemetry.text('a "quoted" model', "3", {"modelcd_ready": 1}, {"modelcd_predictions_lost": 0})
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # prometheus_client has no types
    return {family.name: family for family in parsed}


def test_a_server_without_requests_has_zeros() -> None:
    samples = families(Telemetry())["modelcd_request_seconds"].samples

    assert {sample.value for sample in samples} == {0.0}


def test_requests_are_counted_by_code() -> None:
    telemetry = Telemetry()
    telemetry.count(200, 0.001, 5)
    telemetry.count(422, 0.001)
    telemetry.count(200, 0.001, 1)

    samples = families(telemetry)["modelcd_requests"].samples
    assert {sample.labels["code"]: sample.value for sample in samples} == {"200": 2, "422": 1}


def test_a_latency_on_an_edge_is_in_the_bucket_it_closes() -> None:
    telemetry = Telemetry()
    telemetry.count(200, 0.0005)

    first = families(telemetry)["modelcd_request_seconds"].samples[0]
    assert (first.labels["le"], first.value) == ("0.0005", 1)


# -- the prediction log ------------------------------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the log at *path*."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_closing_writes_every_line(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.jsonl", "m", "3")
    for k in range(5000):
        log.add((str(k), 0.0, "r1", "main", [0.5]))
    log.close()

    assert [line["id"] for line in lines(tmp_path / "log.jsonl")] == [str(k) for k in range(5000)]


def test_lines_are_there_without_closing(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.jsonl", "m", "3")
    log.add(("a", 0.0, "r1", "main", [0.5]))

    assert eventually(lambda: len(lines(tmp_path / "log.jsonl")), 1) == 1
    log.close()


def test_a_line_says_all_there_is_to_know(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "new" / "log.jsonl", "m", "3")
    log.add(("a", 1_700_000_000.25, "r1", "fallback", [0.5]))
    log.close()

    assert lines(tmp_path / "new" / "log.jsonl") == [
        {
            "id": "a",
            "at": "2023-11-14T22:13:20.250000+00:00",
            "model": "m",
            "version": 3,
            "revision": "r1",
            "leg": "fallback",
            "score": 0.5,
        }
    ]


def test_rows_of_one_request_have_numbered_ids(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.jsonl", "m", "3")
    log.add(("a", 0.0, "r1", "main", [0.5, 0.25]))
    log.close()

    assert {line["id"]: line["score"] for line in lines(tmp_path / "log.jsonl")} == {"a/0": 0.5, "a/1": 0.25}


def test_a_log_that_is_there_is_continued(tmp_path: Path) -> None:
    for name in ("a", "b"):
        log = PredictionLog(tmp_path / "log.jsonl", "m", "3")
        log.add((name, 0.0, "r1", "main", [0.5]))
        log.close()

    assert [line["id"] for line in lines(tmp_path / "log.jsonl")] == ["a", "b"]


def test_lines_that_cannot_be_written_are_counted_as_lost(capsys: pytest.CaptureFixture[str]) -> None:
    log = PredictionLog(Path("/dev/full"), "m", "3")
    log.add(("a", 0.0, "r1", "main", [0.5, 0.25]))
    log.close()

    assert log.lost == 2
    assert "prediction log cannot be written" in capsys.readouterr().out


# -- settings and wire -------------------------------------------------------------------------------------------------

ENVIRONMENT = {"PORT": "8000", "MODELCD_MODEL": "team/m", "MODELCD_VERSION": "3"}


def test_what_is_not_said_has_a_careful_default() -> None:
    settings = read_settings(["folder"], ENVIRONMENT)

    assert (settings.host, settings.predictions, settings.log_all) == ("127.0.0.1", None, False)


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_who_and_where_must_be_said(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read_settings(["folder"], ENVIRONMENT | {name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "http"),
        ("PORT", "80.5"),
        ("MODELCD_DRAIN", "60"),
        ("MODELCD_LOG", "some"),
        ("MODELCD_VERSION", "3\n"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read_settings(["folder"], ENVIRONMENT | {name: value})


def test_a_prediction_log_needs_the_secret_by_which_traffic_is_known_and_no_message_shows_it() -> None:
    logging = ENVIRONMENT | {"MODELCD_PREDICTIONS": "log.jsonl"}
    with pytest.raises(ConfigurationError, match="MODELCD_GATEWAY is not"):
        read_settings(["folder"], logging)

    settings = read_settings(["folder"], logging | {"MODELCD_GATEWAY": "hidden"})
    assert settings.gateway == "hidden"
    assert "hidden" not in repr(settings)


def test_rows_of_a_frame_can_be_sent() -> None:
    frame = pd.DataFrame({"a": [1.5, None], "t": [pd.Timestamp("2024-05-06"), pd.NaT], "n": np.array([1, 2])})

    rows = json.loads(encode_rows(frame.to_dict("records")))["rows"]

    assert rows == [{"a": 1.5, "t": "2024-05-06T00:00:00", "n": 1}, {"a": None, "t": None, "n": 2}]


def test_rows_that_json_has_no_word_for_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be sent as JSON"):
        encode_rows([{"a": object()}])
