"""The parts of the model server that need no server: inputs, scores, dialects, counts, the prediction log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from modelcd.artifact import Column, Manifest, toolchain_changes, write_manifest
from modelcd.errors import ConfigurationError, UsageError
from modelcd.serving.dialects import MLFLOW, OPEN_INFERENCE, OWN, Answer, parse
from modelcd.serving.engine import INLINE, Engine, Pace
from modelcd.serving.inputs import BadInput, Inputs
from modelcd.serving.loading import Model, ModelFailed, load_model, scores_of
from modelcd.serving.predictions import PredictionLog
from modelcd.serving.settings import read_settings
from modelcd.serving.telemetry import Telemetry
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
    assert scores_of(answer, 2, chances=chances) == scores


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
    ],
)
def test_what_is_no_score_is_a_failure_of_the_model(answer: Any, chances: bool) -> None:
    with pytest.raises(ModelFailed, match="ScoreError"):
        scores_of(answer, 2, chances=chances)


def test_a_toolchain_that_is_the_recorded_one_has_no_changes() -> None:
    manifest = Manifest("m", "object", "f", "predict", (), toolchain={"numpy": np.__version__})

    assert toolchain_changes(manifest) == []


def test_a_toolchain_that_changed_says_where() -> None:
    manifest = Manifest("m", "object", "f", "predict", (), toolchain={"numpy": "1.0", "no-such-distribution": "2"})

    assert toolchain_changes(manifest) == [
        f"numpy 1.0, here {np.__version__}",
        "no-such-distribution 2, here not installed",
    ]


@pytest.mark.parametrize(("field", "value"), [("flavor", "onnx"), ("method", "transform")])
def test_a_manifest_that_this_server_cannot_run_is_refused(tmp_path: Path, field: str, value: str) -> None:
    plain: dict[str, Any] = {"flavor": "object", "method": "predict"} | {field: value}
    write_manifest(tmp_path, Manifest(model="m", file="f", inputs=(Column("a", "double"),), **plain))

    with pytest.raises(ConfigurationError, match=value):
        load_model(tmp_path)


# -- dialects ----------------------------------------------------------------------------------------------------------

ANSWER = Answer([0.25, 0.75], "m", "3", "abc")


def test_the_open_inference_protocol_reads_columns() -> None:
    tensors = [
        {"name": "a", "shape": [2], "datatype": "FP64", "data": [1, 2]},
        {"name": "b", "shape": [2, 1], "datatype": "FP64", "data": [[3], [4]]},
    ]

    frame = OPEN_INFERENCE.read({"inputs": tensors}, NUMBERS)

    assert frame.to_dict("list") == {"a": [1.0, 2.0], "b": [3.0, 4.0]}


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
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors: Any) -> None:
    with pytest.raises(BadInput):
        OPEN_INFERENCE.read({"inputs": tensors}, NUMBERS)


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
    output = OPEN_INFERENCE.write(Answer(scores, "m", "3", "abc"))["outputs"][0]

    assert (output["shape"], output["datatype"]) == (shape, datatype)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"a": 1, "b": 2}]},
        {"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1]]}},
        {"dataframe_split": {"index": [0], "columns": ["a", "b"], "data": [[1, 2]]}},
    ],
)
def test_mlflow_bodies_are_read(body: dict[str, Any]) -> None:
    assert MLFLOW.read(body, NUMBERS).to_dict("records") == [{"a": 1.0, "b": 2.0}]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": [[1, 2]]},
        {"dataframe_split": {"columns": ["a", "b"]}},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}},
        {"dataframe_split": {"columns": ["a", "b"], "data": [{"a": 1}]}},
    ],
)
def test_mlflow_bodies_that_do_not_fit_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        MLFLOW.read(body, NUMBERS)


def test_mlflow_gets_predictions() -> None:
    assert MLFLOW.write(ANSWER) == {"predictions": [0.25, 0.75]}


def test_our_own_answer_says_whose_scores_they_are() -> None:
    assert OWN.write(ANSWER) == {"scores": [0.25, 0.75], "model": "m", "version": "3"}


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"rows": [', b"[1]", b"NaN", b'{"rows": [{"a": NaN}]}', b"\xff"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        parse(body)

    assert refused.value.status == 400


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


def test_rows_of_a_frame_can_be_sent() -> None:
    frame = pd.DataFrame({"a": [1.5, None], "t": [pd.Timestamp("2024-05-06"), pd.NaT], "n": np.array([1, 2])})

    rows = json.loads(encode_rows(frame.to_dict("records")))["rows"]

    assert rows == [{"a": 1.5, "t": "2024-05-06T00:00:00", "n": 1}, {"a": None, "t": None, "n": 2}]


def test_rows_that_json_has_no_word_for_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be sent as JSON"):
        encode_rows([{"a": object()}])
