"""The model server, started as it will be and looked at from outside."""

from __future__ import annotations

import gzip
import importlib.util
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from served import Server, start
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from modelcd.adapters.http import HttpScoring
from modelcd.artifact import Column, Manifest, digest_of, write_manifest
from modelcd.domain.verdict import Verdict, worst
from modelcd.errors import CannotTell, NotReady, UsageError
from modelcd.ports import Scoring
from modelcd.serving.contract import check_contract
from modelcd.serving.wire import encode_rows
from modelcd.testing.scoring import ScoringContract
from modelcd.testing.traffic import eventually, free_port

ECHO = '''
"""A model whose score is its input, with a few inputs that misbehave."""

import itertools
import sys
import time

MOOD = itertools.count()


class Echo:
    def predict(self, frame):
        scores = frame["x"].to_numpy(copy=True)
        if (scores < 0).any():
            raise ValueError("x is negative")
        if 99 in scores:
            time.sleep(1.0)
        scores[scores == 13] = float("nan")
        return scores[:-1] if 14 in scores else scores


class Sorted(Echo):
    def predict(self, frame):
        return sorted(frame["x"])


class Moody(Echo):
    def predict(self, frame):
        return frame["x"] + next(MOOD)


class Leaving(Echo):
    def predict(self, frame):
        if (frame["x"] == 5).any():
            sys.exit("bye")
        return [10**30] * len(frame) if (frame["x"] == 6).any() else frame["x"]


class Slow(Echo):
    def predict(self, frame):
        time.sleep(0.03)
        return super().predict(frame)


class Loading(Echo):
    def __setstate__(self, state):
        time.sleep(1.0)

    def __getstate__(self):
        return {"some": "state"}


class Broken(Echo):
    def __reduce__(self):
        return (fail, ())


def fail():
    raise RuntimeError("the weights are gone")
'''
SECRET = "what only the gateway knows"
ROUTED = {"x-modelcd-routing": "r1", "x-modelcd-gateway": SECRET}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Return the module of `ECHO`, under a name that only the server's `code/` folder has as well."""
    file = tmp_path_factory.mktemp("code") / "echo_model.py"
    file.write_text(ECHO)
    spec = importlib.util.spec_from_file_location("echo_model", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["echo_model"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["echo_model"]


def echo_folder(folder: Path, model: Any, warmup: tuple[Mapping[str, Any], ...] = ({"x": 1.0}, {"x": 2.0})) -> Path:
    """Write an artifact around an object of `ECHO`."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "echo_model.py").write_text(ECHO)
    joblib.dump(model, folder / "model.joblib")
    inputs = (Column("x", "double", nullable=False),)
    write_manifest(folder, Manifest("echo", "object", "model.joblib", "predict", inputs, warmup))
    return folder


@pytest.fixture(scope="module")
def server(models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return one server of the echo model for all tests that leave it as it was."""
    scratch = tmp_path_factory.mktemp("echo")
    log = str(scratch / "predictions.jsonl")
    folder = echo_folder(scratch / "model", models.Echo())
    started = start(folder, scratch, MODELCD_PREDICTIONS=log, MODELCD_GATEWAY=SECRET, MODELCD_BODY_LIMIT="100000")
    yield started.ready()
    assert started.end() == 0


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Any]:
    """Return `start` for one test; what it started is killed afterwards."""
    started: list[Server] = []

    def start_here(folder: Path, cwd: Path | None = None, **environment: str) -> Server:
        started.append(start(folder, tmp_path, cwd, **environment))
        return started[-1]

    yield start_here
    for one in started:
        one.process.kill()
        one.process.wait(10)


# -- the contract ------------------------------------------------------------------------------------------------------


class TestHttpScoring(ScoringContract):
    @pytest.fixture
    def scoring(self) -> HttpScoring:
        return HttpScoring()

    @pytest.fixture
    def served(self, server: Server) -> str:
        return server.address

    @pytest.fixture
    def nowhere(self) -> str:
        return f"http://127.0.0.1:{free_port()}"


def test_our_server_keeps_every_point_of_the_contract(server: Server) -> None:
    findings = check_contract(server.address, [{"x": 1.0}, {"x": 2.0}])

    assert [f for f in findings if f.verdict is not Verdict.PASS] == []
    assert [f.name for f in findings] == [
        "ready",
        "scores",
        "identity",
        "order",
        "bad input",
        "unknown path",
        "still ready",
    ]


def test_a_contract_is_not_checked_without_rows(server: Server) -> None:
    with pytest.raises(UsageError):
        check_contract(server.address, [])


def test_where_nothing_answers_no_point_is_kept() -> None:
    findings = check_contract(f"http://127.0.0.1:{free_port()}", [{"x": 1.0}])

    assert [f.verdict for f in findings] == [Verdict.ERROR]


def test_rows_the_model_cannot_score_do_not_pass(server: Server) -> None:
    findings = check_contract(server.address, [{"x": -1.0}])

    assert worst(f.verdict for f in findings) is Verdict.FAIL


@pytest.mark.parametrize(("kind", "verdict"), [("Sorted", Verdict.FAIL), ("Moody", Verdict.INCONCLUSIVE)])
def test_scores_that_do_not_stay_with_their_rows_do_not_pass(
    models: ModuleType, tmp_path: Path, begin: Any, kind: str, verdict: Verdict
) -> None:
    started = begin(echo_folder(tmp_path / "model", getattr(models, kind)())).ready()

    findings = {f.name: f.verdict for f in check_contract(started.address, [{"x": 2.0}, {"x": 1.0}])}

    assert findings["order"] is verdict


def test_another_service_does_not_keep_the_contract(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: _listens(port), True, deadline=10)
        findings = {f.name: f.verdict for f in check_contract(f"http://127.0.0.1:{port}", [{"x": 1.0}])}
        process.kill()

    assert (findings["ready"], findings["scores"]) == (Verdict.FAIL, Verdict.FAIL)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", ""])
def test_another_name_is_refused_in_words(server: Server, name: str) -> None:
    for answer in (
        server.post("/predict", {"rows": [{"x": 1.0}]}, {"host": name}),
        server.post("/predict", {"rows": [{"x": 1.0}]}, {"host": name, **ROUTED}),
        httpx.get(server.address + "/readyz", headers={"host": name}),
    ):
        assert answer.status_code == 403
        assert "127.0.0.1, localhost" in answer.json()["error"]


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("marks", FOREIGN)
def test_a_page_that_asks_past_the_gateway_is_refused_in_words(server: Server, marks: dict[str, str]) -> None:
    for method, path in (("POST", "/predict"), ("OPTIONS", "/predict"), ("GET", "/readyz"), ("GET", "/metrics")):
        answer = httpx.request(method, server.address + path, headers=marks, content=b'{"rows": [{"x": 1.0}]}')

        assert answer.status_code == 403
        assert "pages ask the gateway" in answer.json()["error"]
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("marks", FOREIGN)
def test_a_page_that_the_gateway_let_in_is_answered(server: Server, marks: dict[str, str]) -> None:
    assert server.post("/predict", {"rows": [{"x": 1.0}]}, {**marks, **ROUTED}).json()["scores"] == [1.0]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:1", "[::1]:8000", "127.0.0.1"])
def test_programs_of_this_machine_need_nothing(server: Server, name: str) -> None:
    assert server.post("/predict", {"rows": [{"x": 1.0}]}, {"host": name}).json()["scores"] == [1.0]


def test_a_server_for_other_machines_answers_to_their_names(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Echo()), HOST="0.0.0.0").ready()

    answer = started.post("/predict", {"rows": [{"x": 1.0}]}, {"host": "models.example.com"})

    assert answer.json()["scores"] == [1.0]


def test_an_answer_names_version_and_prediction_in_its_headers(server: Server) -> None:
    response = server.post("/predict", {"rows": [{"x": 1.0}]})

    assert response.headers["x-model-version"] == "7"
    assert len(response.headers["x-prediction-id"]) == 32


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"not json", 400, "the body is not JSON"),
        (b"", 400, "the body is not JSON"),
        (b"[]", 400, "must be a JSON object"),
        ({}, 422, "no 'rows'"),
        ({"rows": []}, 422, "at least one row"),
        ({"rows": [{"x": 1.0}, {"y": 1.0}]}, 422, "rows[1]: column 'x' is missing"),
        ({"rows": [{"x": "secret"}]}, 422, "rows[0], column 'x': expected a number, got a string"),
        ({"rows": [{"x": None}]}, 422, "rows[0], column 'x': expected a number, got null"),
        (b"x" * 100_001, 413, "longer than 100000 bytes"),
    ],
)
def test_bad_input_is_answered_in_words(server: Server, body: Any, status: int, error: str) -> None:
    response = server.post("/predict", body)

    assert response.status_code == status
    assert error in response.json()["error"]


def test_a_chunked_body_is_read(server: Server) -> None:
    response = httpx.post(server.address + "/predict", content=iter([b'{"rows":', b' [{"x": 5}]}']))

    assert response.json()["scores"] == [5.0]


def test_a_chunked_body_has_the_same_limit(server: Server) -> None:
    response = httpx.post(server.address + "/predict", content=(b" " * 1000 for _ in range(101)))

    assert response.status_code == 413


@pytest.mark.parametrize(
    ("x", "error"),
    [(-1.0, "ValueError: x is negative"), (13.0, "gave NaN or infinity for row 0"), (14.0, "shape (0,) for 1 rows")],
)
def test_a_failure_of_the_model_is_an_answer_of_500(server: Server, x: float, error: str) -> None:
    response = server.post("/predict", {"rows": [{"x": x}]})

    assert response.status_code == 500
    assert error in response.json()["error"]


@pytest.mark.parametrize(("x", "error"), [(5.0, "SystemExit: bye"), (6.0, "TypeError")])
def test_whatever_goes_wrong_is_an_answer_and_the_server_goes_on(
    models: ModuleType, tmp_path: Path, begin: Any, x: float, error: str
) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Leaving())).ready()
    response = started.post("/predict", {"rows": [{"x": x}]})

    assert (response.status_code, error in response.json()["error"]) == (500, True)
    assert started.post("/predict", {"rows": [{"x": 1.0}]}).status_code == 200


def test_what_the_model_raised_is_logged_with_its_traceback(server: Server) -> None:
    server.post("/predict", {"rows": [{"x": -1.0}]})

    failed = [line for line in server.log() if line.get("status") == 500]
    assert 'raise ValueError("x is negative")' in failed[-1]["trace"]


def test_a_refused_request_is_logged_without_its_values(server: Server) -> None:
    server.post("/predict", {"rows": [{"x": "a secret"}]})

    assert "column 'x'" in server.log()[-1]["error"]
    assert "a secret" not in server.output.read_text()


def test_an_answered_request_is_not_logged(server: Server) -> None:
    before = len(server.log())
    server.post("/predict", {"rows": [{"x": 1.0}]})

    assert len(server.log()) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/nothing", 404), ("GET", "/predict", 405), ("POST", "/readyz", 405)],
)
def test_what_is_not_here_says_so(server: Server, method: str, path: str, status: int) -> None:
    response = httpx.request(method, server.address + path)

    assert response.status_code == status
    assert response.json()["error"]


GETS = (
    *("/readyz", "/healthz", "/metrics", "/ping", "/health", "/version", "/v2", "/v2/health/live", "/v2/health/ready"),
    *("/v2/models/echo", "/v2/models/echo/ready", "/v2/models/echo/versions/7", "/v2/models/echo/versions/7/ready"),
)


@pytest.mark.parametrize("path", GETS)
def test_head_is_answered_as_get_without_the_body(server: Server, path: str) -> None:
    get, head = server.get(path), httpx.head(server.address + path)

    assert (get.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(("path", "allowed"), [("/readyz", "GET, HEAD"), ("/predict", "POST")])
def test_other_methods_are_told_which_are_allowed(server: Server, path: str, allowed: str) -> None:
    response = httpx.options(server.address + path)

    assert (response.status_code, response.headers["allow"]) == (405, allowed)


def test_a_compressed_body_is_answered(server: Server) -> None:
    body = gzip.compress(b'{"rows": [{"x": 3.0}]}')

    assert server.post("/predict", body, {"content-encoding": "gzip"}).json()["scores"] == [3.0]


@pytest.mark.parametrize("size", [10_000_000, 80_000_000])
def test_a_bomb_is_refused_and_the_server_goes_on(server: Server, size: int) -> None:
    bomb = gzip.compress(b" " * size)
    response = server.post("/predict", bomb, {"content-encoding": "gzip"})

    assert (response.status_code, "longer than 100000 bytes" in response.json()["error"]) == (413, True)
    assert server.status() == 200


def test_an_encoding_or_a_type_that_is_not_read_is_refused_by_name(server: Server) -> None:
    for header, value, works in (("content-encoding", "br", "gzip"), ("content-type", "text/plain", "json")):
        response = server.post("/predict", {"rows": [{"x": 3.0}]}, {header: value})

        assert (response.status_code, works in response.json()["error"]) == (415, True)


def test_a_client_that_waits_to_be_told_to_continue_is_told(server: Server) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    body = b'{"rows": [{"x": 3.0}]}'
    head = f"POST /predict HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert b'"scores":[3.0]' in connection.recv(1000)


def test_missing_values_are_null_and_nan_is_told_so(server: Server) -> None:
    response = server.post("/predict", b'{"rows": [{"x": NaN}]}')

    assert (response.status_code, "send null" in response.json()["error"]) == (400, True)


def test_mlflow_and_open_inference_say_who_they_are_as_their_servers_do(server: Server) -> None:
    assert server.get("/ping").text == server.get("/health").text == "\n"
    assert server.get("/version").text == metadata.version("mlflow")
    assert server.get("/v2").json() == {
        "name": "modelcd",
        "version": metadata.version("modelcd"),
        "extensions": ["binary_tensor_data"],
    }


@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/v2/models/echo/versions/7/infer"])
def test_the_open_inference_protocol_is_spoken(server: Server, path: str) -> None:
    tensor = {"name": "x", "shape": [2], "datatype": "FP64", "data": [3.0, 4.0]}
    response = server.post(path, {"inputs": [tensor]}).json()

    assert response["outputs"] == [{"name": "scores", "shape": [2], "datatype": "FP64", "data": [3.0, 4.0]}]
    assert (response["model_name"], response["model_version"]) == ("echo", "7")


def test_the_prediction_id_is_ours_whatever_the_requests_own_id(server: Server) -> None:
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [3.0]}
    response = server.post("/v2/models/echo/infer", {"id": "mine", "inputs": [tensor]})

    ours = response.headers["x-prediction-id"]
    assert (response.json()["id"], response.json()["parameters"]) == ("mine", {"prediction_id": ours})


def test_the_open_inference_protocol_describes_the_model(server: Server) -> None:
    assert server.get("/v2/models/echo").json()["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1]}]


def test_another_version_is_not_here(server: Server) -> None:
    assert server.post("/v2/models/echo/versions/8/infer", {"inputs": []}).status_code == 404


def test_mlflow_bodies_are_answered(server: Server) -> None:
    response = server.post("/invocations", {"dataframe_split": {"columns": ["x"], "data": [[3.0]]}})

    assert response.json() == {"predictions": [3.0]}


def test_metrics_count_requests_by_code(server: Server) -> None:
    def count(code: str) -> float:
        text = server.get("/metrics").text
        parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no types
        samples = {f.name: f.samples for f in parsed}["modelcd_requests"]
        return sum(float(s.value) for s in samples if s.labels["code"] == code)

    before = count("200")
    for _ in range(3):
        server.post("/predict", {"rows": [{"x": 1.0}]})

    assert count("200") == before + 3


def test_many_idle_connections_do_not_keep_the_probe_waiting(server: Server) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(300)]
    try:
        assert server.status() == 200
    finally:
        for connection in idle:
            connection.close()


def test_a_client_that_leaves_harms_nobody(server: Server) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n{")

    assert server.post("/predict", {"rows": [{"x": 1.0}]}).status_code == 200


# -- the prediction log ------------------------------------------------------------------------------------------------


def logged(server: Server, begin_of_id: str) -> list[dict[str, Any]]:
    """Return the lines of the prediction log whose id begins with *begin_of_id*."""
    text = (server.output.parent / "predictions.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["id"].startswith(begin_of_id)]


def test_a_routed_request_is_in_the_prediction_log_soon(server: Server) -> None:
    identity = server.post("/predict", {"rows": [{"x": 1.5}]}, ROUTED).headers["x-prediction-id"]
    eventually(lambda: len(logged(server, identity)), 1)

    line = logged(server, identity)[0]
    assert (line["revision"], line["leg"], line["score"], line["version"]) == ("r1", "main", 1.5, 7)


def test_the_leg_is_what_the_gateway_says(server: Server) -> None:
    headers = ROUTED | {"x-modelcd-leg": "shadow"}
    identity = server.post("/predict", {"rows": [{"x": 1.5}]}, headers).headers["x-prediction-id"]

    assert eventually(lambda: [line["leg"] for line in logged(server, identity)], ["shadow"]) == ["shadow"]


def test_each_row_of_a_request_has_its_own_id(server: Server) -> None:
    identity = server.post("/predict", {"rows": [{"x": 1.0}, {"x": 2.0}]}, ROUTED).headers["x-prediction-id"]

    def scores() -> dict[str, float]:
        return {line["id"]: line["score"] for line in logged(server, identity)}

    wanted = {f"{identity}/0": 1.0, f"{identity}/1": 2.0}
    assert eventually(scores, wanted) == wanted


def test_direct_and_failed_requests_are_not_in_the_prediction_log(server: Server) -> None:
    direct = server.post("/predict", {"rows": [{"x": 1.0}]}).headers["x-prediction-id"]
    server.post("/predict", {"rows": [{"x": -5.0}]}, ROUTED)
    marker = server.post("/predict", {"rows": [{"x": 1.0}]}, ROUTED).headers["x-prediction-id"]
    eventually(lambda: len(logged(server, marker)), 1)

    assert logged(server, direct) == []
    assert all(line["score"] != -5.0 for line in logged(server, ""))


@pytest.mark.parametrize("secret", [{}, {"x-modelcd-gateway": "guessed"}, {"x-modelcd-gateway": f"{SECRET}é"}])
def test_a_request_that_only_says_it_was_routed_is_answered_and_not_logged(
    server: Server, secret: dict[str, str]
) -> None:
    forged = {"x-modelcd-routing": "r1", "x-modelcd-leg": "main", **{k: v.encode() for k, v in secret.items()}}
    answer = httpx.post(server.address + "/predict", json={"rows": [{"x": 1.0}]}, headers=forged)
    marker = server.post("/predict", {"rows": [{"x": 1.0}]}, ROUTED).headers["x-prediction-id"]
    eventually(lambda: len(logged(server, marker)), 1)

    assert answer.json()["scores"] == [1.0]
    assert logged(server, answer.headers["x-prediction-id"]) == []


def test_a_page_that_only_says_it_was_routed_is_refused(server: Server) -> None:
    forged = {"origin": "http://evil.example", "x-modelcd-routing": "r1"}

    assert server.post("/predict", {"rows": [{"x": 1.0}]}, forged).status_code == 403


def test_the_prediction_log_is_whole_after_sigterm(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    log = tmp_path / "predictions.jsonl"
    told = {"MODELCD_PREDICTIONS": str(log), "MODELCD_GATEWAY": SECRET}
    started = begin(echo_folder(tmp_path / "model", models.Echo()), **told).ready()
    ids = set()
    with httpx.Client(base_url=started.address) as client:
        for _ in range(200):
            response = client.post("/predict", json={"rows": [{"x": 1.0}]}, headers=ROUTED)
            ids.add(response.headers["x-prediction-id"])
        code = started.end()

    assert code == 0
    assert {json.loads(line)["id"] for line in log.read_text().splitlines()} == ids


# -- its life ----------------------------------------------------------------------------------------------------------


def test_it_is_not_ready_while_it_loads(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Loading()))

    assert eventually(started.status, 503, deadline=20) == 503
    assert started.get("/healthz").status_code == 200
    assert started.post("/predict", {"rows": [{"x": 1.0}]}).status_code == 503
    assert "loading" in started.get("/readyz").json()["error"]
    with pytest.raises(NotReady, match="loading"):
        HttpScoring().ready(started.address)
    assert started.ready().status() == 200


def test_it_ends_at_once_when_told_to_while_it_loads(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Loading()))
    eventually(started.status, 503, deadline=20)

    assert started.end() == 0


def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason(
    models: ModuleType, tmp_path: Path, begin: Any
) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Broken()))

    assert started.process.wait(30) == 1
    assert "RuntimeError: the weights are gone" in started.log()[-1]["error"]


def test_a_model_that_cannot_score_its_warm_up_rows_is_never_ready(
    models: ModuleType, tmp_path: Path, begin: Any
) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Echo(), warmup=({"x": -1.0},)))

    assert started.process.wait(30) == 1
    assert "cannot score its own warm-up rows" in started.log()[-1]["error"]


def test_a_module_is_not_taken_from_the_folder_it_is_started_in(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    folder = echo_folder(tmp_path / "model", models.Echo())
    (folder / "code" / "echo_model.py").rename(tmp_path / "echo_model.py")
    started = begin(folder, tmp_path)

    assert started.process.wait(30) == 1
    assert "No module named 'echo_model'" in started.log()[-1]["error"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path, begin: Any) -> None:
    started = begin(tmp_path)

    assert started.process.wait(30) == 1
    assert "is not a modelcd artifact" in started.log()[-1]["error"]


def test_a_port_that_is_taken_is_refused(server: Server, tmp_path: Path, begin: Any) -> None:
    started = begin(tmp_path, PORT=server.address.rsplit(":", 1)[1])

    assert started.process.wait(30) == 2
    assert "cannot be had" in started.log()[-1]["error"]


def test_a_slow_model_does_not_keep_the_probe_waiting(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Slow())).ready()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(started.post, "/predict", {"rows": [{"x": 99.0}]})
        eventually(lambda: _in_flight(started), 1)
        probed = started.status()
        busy = not answer.done()

    assert (probed, busy) == (200, True)
    assert answer.result().json()["scores"] == [99.0]


def test_sigterm_answers_what_is_in_flight_and_is_not_ready_meanwhile(
    models: ModuleType, tmp_path: Path, begin: Any
) -> None:
    started = begin(echo_folder(tmp_path / "model", models.Slow())).ready()
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=started.address) as idle:
        idle.get("/readyz")
        answer = pool.submit(started.post, "/predict", {"rows": [{"x": 99.0}]})
        eventually(lambda: _in_flight(started), 1)
        started.process.send_signal(signal.SIGTERM)
        status = eventually(started.status, 503)

        assert status == 503
        assert answer.result().json()["scores"] == [99.0]
        assert started.process.wait(10) == 0


def _in_flight(server: Server) -> int:
    text = server.get("/metrics").text
    return int(next(line for line in text.splitlines() if line.startswith("modelcd_in_flight ")).split()[1])


def test_it_is_one_process(server: Server) -> None:
    assert psutil.Process(server.process.pid).children() == []


def test_killed_outright_it_leaves_its_port(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    folder = echo_folder(tmp_path / "model", models.Echo())
    first = begin(folder).ready()
    first.process.kill()
    first.process.wait(10)
    second = begin(folder, PORT=first.address.rsplit(":", 1)[1])

    again = Server(second.process, first.address, second.output)
    assert again.ready().status() == 200


def test_running_an_artifact_does_not_change_its_digest(models: ModuleType, tmp_path: Path, begin: Any) -> None:
    folder = echo_folder(tmp_path / "model", models.Echo())
    before = digest_of(folder)
    begin(folder).ready()

    assert digest_of(folder) == before


def test_serving_needs_neither_mlflow_nor_prefect() -> None:
    command = (
        "import sys, modelcd.serving.process; print([m for m in ('mlflow', 'prefect', 'httpx') if m in sys.modules])"
    )
    imported = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout

    assert imported.strip() == "[]"


# -- real models -------------------------------------------------------------------------------------------------------


def flights(rows: int = 600) -> tuple[pd.DataFrame, pd.Series]:
    """Return a small frame with every kind of column that matters, gaps included, and a truth."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "distance": rng.normal(1000, 300, rows),
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
            "delay": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(0, 10, rows)),
            "hour": rng.integers(0, 24, rows),
            "late_before": rng.random(rows) < 0.5,
        }
    )
    return frame, (frame["distance"] + frame["hour"] * 20 > 1200).astype(int)


FLIGHT_INPUTS = (
    Column("distance", "double", nullable=False),
    Column("carrier", "string", nullable=False),
    Column("delay", "double"),
    Column("hour", "long", nullable=False),
    Column("late_before", "boolean", nullable=False),
)


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of *frame* as they come over the wire."""
    rows: list[dict[str, Any]] = json.loads(encode_rows(frame.to_dict("records")))["rows"]
    return rows


@pytest.mark.parametrize("estimator", [LogisticRegression(max_iter=5000), HistGradientBoostingClassifier(max_iter=20)])
def test_a_pipeline_scores_as_it_does_in_process(estimator: Any, tmp_path: Path, begin: Any) -> None:
    frame, truth = flights()
    trees = isinstance(estimator, HistGradientBoostingClassifier)
    columns = ["distance", "delay", "hour", "late_before"] if trees else ["distance", "hour"]
    encode = make_column_transformer((OneHotEncoder(sparse_output=False), ["carrier"]), ("passthrough", columns))
    fitted = make_pipeline(encode, estimator).fit(frame, truth)
    joblib.dump(fitted, tmp_path / "model.joblib")
    warmup = tuple(plain_rows(frame.head(5)))
    write_manifest(tmp_path, Manifest("m", "object", "model.joblib", "predict_proba", FLIGHT_INPUTS, warmup))
    started = begin(tmp_path).ready()

    scores = HttpScoring().predict(started.address, plain_rows(frame.head(50))).scores

    assert scores == pytest.approx(fitted.predict_proba(frame.head(50))[:, 1])


@pytest.mark.filterwarnings("ignore:.*inferred as AnyType")  # MLflow warns about its own type hints at import
def test_an_mlflow_model_scores_as_it_does_in_process(tmp_path: Path, begin: Any) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    frame, truth = flights()
    numbers = frame[["distance", "delay"]]
    fitted = HistGradientBoostingClassifier(max_iter=5).fit(numbers, truth)
    mlflow.sklearn.save_model(
        fitted,
        str(tmp_path / "model"),
        serialization_format="cloudpickle",
        pip_requirements=[],
        signature=infer_signature(numbers, fitted.predict(numbers)),
    )
    inputs = (FLIGHT_INPUTS[0], FLIGHT_INPUTS[2])
    warmup = tuple(plain_rows(numbers.head(3)))
    write_manifest(tmp_path, Manifest("m", "pyfunc", "model", "predict", inputs, warmup))
    started = begin(tmp_path).ready()

    scores = HttpScoring().predict(started.address, plain_rows(numbers.head(20))).scores

    assert list(scores) == fitted.predict(numbers.head(20)).tolist()


def test_an_answer_that_is_not_the_contracts_is_no_score(tmp_path: Path) -> None:
    (tmp_path / "readyz").write_text("{}")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: _listens(port), True, deadline=10)
        scoring: Scoring = HttpScoring()
        with pytest.raises(NotReady, match="without saying which model"):
            scoring.ready(f"http://127.0.0.1:{port}")
        with pytest.raises(CannotTell, match="HTTP 501"):
            scoring.predict(f"http://127.0.0.1:{port}", [{"x": 1.0}])
        process.kill()
