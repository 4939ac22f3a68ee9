"""Clients that others wrote, against our model server: MLflow's own, and Triton's of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import joblib
import numpy as np
import pandas as pd
import pytest
from served import start
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modelcd.artifact import Column, Manifest, write_manifest

# MLflow warns about its own type hints when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*inferred as AnyType")

INPUTS = (Column("carrier", "string", nullable=False), Column("delay", "double"), Column("hour", "long", False))
FRAME = pd.DataFrame({"carrier": ["UA", "AA", "UA", "B6"] * 10, "delay": [1.5, np.nan, 30.0, 7.0] * 10, "hour": 9})
ASKED = FRAME.head(3)


@pytest.fixture(scope="module")
def fitted() -> Any:
    """Return a model that takes text, numbers and missing values."""
    encode = make_column_transformer((OneHotEncoder(sparse_output=False), ["carrier"]), remainder="passthrough")
    return make_pipeline(encode, HistGradientBoostingClassifier(max_iter=3)).fit(FRAME, FRAME["carrier"] == "UA")


@pytest.fixture(scope="module")
def scores(fitted: Any) -> list[float]:
    """Return what the model itself says of the rows that are asked for."""
    return list(fitted.predict_proba(ASKED)[:, 1])


@pytest.fixture(scope="module")
def address(fitted: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return host and port of a server of the model."""
    folder = tmp_path_factory.mktemp("model")
    joblib.dump(fitted, folder / "model.joblib")
    warmup = ({"carrier": "UA", "delay": None, "hour": 9},)
    write_manifest(folder, Manifest("echo", "object", "model.joblib", "predict_proba", INPUTS, warmup))
    started = start(folder, tmp_path_factory.mktemp("log")).ready()
    yield urlsplit(started.address).netloc
    assert started.end() == 0


# -- MLflow ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mlflow_client(address: str) -> Any:
    """Return the client of MLflow's scoring protocol."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    return ScoringServerClient(*address.split(":"))


def test_mlflows_client_finds_the_server_and_its_version(mlflow_client: Any) -> None:
    import mlflow

    mlflow_client.wait_server_ready(timeout=10)

    assert mlflow_client.get_version() == mlflow.__version__


def test_mlflows_client_sends_a_frame_with_what_is_missing_in_it(mlflow_client: Any, scores: list[float]) -> None:
    assert mlflow_client.invoke(ASKED)["predictions"] == pytest.approx(scores)


def test_mlflows_client_is_told_by_name_what_is_not_taken(mlflow_client: Any) -> None:
    with pytest.raises(Exception, match="values without names"):
        mlflow_client.invoke(ASKED.to_numpy(dtype=str))
    with pytest.raises(Exception, match="'params' are not taken here"):
        mlflow_client.invoke(ASKED, params={"top": 1})


# -- Triton ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def triton(address: str) -> Iterator[Any]:
    """Return Triton's HTTP client of the server."""
    from tritonclient.http import InferenceServerClient

    with InferenceServerClient(address) as client:
        yield client


def tensors(binary: bool) -> list[Any]:
    """Return the rows that are asked for as tensors."""
    from tritonclient.http import InferInput

    found = []
    for name, kind in (("carrier", "BYTES"), ("delay", "FP64"), ("hour", "INT64")):
        values = ASKED[name].to_numpy(dtype=object if kind == "BYTES" else None)
        found.append(InferInput(name, [len(values)], kind))
        found[-1].set_data_from_numpy(values, binary_data=binary)
    return found


def test_tritons_client_finds_server_and_model(triton: Any) -> None:
    assert (triton.is_server_live(), triton.is_server_ready(), triton.is_model_ready("echo", "7")) == (True, True, True)
    assert triton.get_server_metadata()["name"] == "modelcd"
    described = triton.get_model_metadata("echo")
    assert [(one["name"], one["datatype"], one["shape"]) for one in described["inputs"]] == [
        ("carrier", "BYTES", [-1]),
        ("delay", "FP64", [-1]),
        ("hour", "INT64", [-1]),
    ]
    assert not triton.is_model_ready("another")


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritons_client_asks_as_it_does_by_itself_in_binary(triton: Any, scores: list[float], compression: str) -> None:
    found = triton.infer("echo", tensors(binary=True), request_id="mine", request_compression_algorithm=compression)

    assert found.as_numpy("scores") == pytest.approx(scores)
    assert found.get_response()["id"] == "mine"
    assert len(found.get_response()["parameters"]["prediction_id"]) == 32


def test_tritons_client_asks_in_json_where_json_has_words_for_it(triton: Any, scores: list[float]) -> None:
    from tritonclient.http import InferRequestedOutput

    outputs = [InferRequestedOutput("scores", binary_data=False)]
    whole = [0, 2]  # row 1 lacks a value, and the client would write NaN
    asked = tensors(binary=False)
    for one in asked:
        one._data, one._shape = [one._data[k] for k in whole], [len(whole)]

    found = triton.infer("echo", asked, "7", outputs)

    assert found.as_numpy("scores") == pytest.approx([scores[k] for k in whole])


def test_tritons_client_is_told_by_name_what_is_wrong(triton: Any) -> None:
    from tritonclient.http import InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    for asked, outputs, message in (
        (tensors(binary=True)[:2], None, "column 'hour' is missing"),
        (tensors(binary=False), None, "send null"),
        (tensors(binary=True), [InferRequestedOutput("logits")], "'scores', the only output"),
    ):
        with pytest.raises(InferenceServerException, match=message):
            triton.infer("echo", asked, outputs=outputs)
