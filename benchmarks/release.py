"""From a trained model to 100 % of production: modelcd beside a script that does the same by hand.

Both get the same fitted model, the same running gateway and a warm machine, and run in turns, each in a fresh process:
log and register in MLflow, start a server, wait until it is ready, switch the gateway, until a client outside gets the
new version.  Training, gates, staging and the time a canary bakes are in neither.  What modelcd does besides (journal,
Prefect's pages, a check of the toolchain, read-back, warm-up) is in its time.

Run: ``python benchmarks/release.py [--rounds N]``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import joblib
import numpy as np

from modelcd.adapters.memory_project import MemoryProject
from modelcd.artifact import Column, Manifest, write_manifest
from modelcd.control import connect
from modelcd.domain.delivery import stream_of
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import Acceptance, Canary
from modelcd.platform.environments import Platform
from modelcd.platform.services import Services
from modelcd.steps import build
from modelcd.workspace import Workspace, open_workspace

MODEL = "bench"
ROW = {"a": 0.5, "b": 0.25}
PATIENCE = 60.0

SERVER = """
import os, joblib, pandas as pd
from fastapi import FastAPI, Response
model, version = joblib.load(os.environ["MODEL"]), os.environ["VERSION"]
app = FastAPI()

@app.get("/readyz")
def ready():
    return {"version": version}

@app.post("/predict")
def predict(body: dict, response: Response):
    response.headers["X-Version"] = version
    return {"scores": model.predict_proba(pd.DataFrame(body["rows"]))[:, 1].tolist()}
"""


def artifact(folder: Path, seed: int, linear: bool = False) -> Path:
    """Fit a model and write it as a version's folder; the numbers it has learned differ with *seed*.

    A *linear* one fails on rows with a gap.
    """
    from importlib.metadata import version

    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    rows = pd.DataFrame(np.random.default_rng(seed).random((2000, 2)), columns=list(ROW))
    model = LogisticRegression() if linear else HistGradientBoostingClassifier(max_iter=50)
    fitted = model.fit(rows, rows["a"] + rows["b"] > 1)
    folder.mkdir(parents=True)
    joblib.dump(fitted, folder / "model.joblib")
    columns = tuple(Column(name, "double") for name in ROW)
    toolchain = {name: version(name) for name in ("scikit-learn", "numpy", "pandas", "joblib")}
    write_manifest(folder, Manifest(MODEL, "object", "model.joblib", "predict_proba", columns, (ROW,), toolchain))
    return folder


# -- the two ways, each run as a process of its own --------------------------------------------------------------------


def by_modelcd(workspace: Workspace, trained: Path, number: int) -> None:
    """Register what was trained and promote it, as the end of a delivery does."""
    told = connect(workspace.path).promote(MODEL, proven(workspace, trained, number, Canary(shares=())))
    assert told["ending"] == "promoted", told


def proven(workspace: Workspace, trained: Path, number: int, rollout: Canary) -> int:
    """Register what was trained, with *rollout* as its policy, and return its version."""
    place = Platform(workspace)
    env, walk = place.environment("production"), place.walk(Path.cwd(), "bench", secrets.token_hex(3))
    walk.project = MemoryProject({"train": lambda arguments: _handed_over(trained, Path(str(arguments["out"])))})
    walk.spec = {
        "name": MODEL,
        "training_code": str(number),
        "parameters": {"max_iter": 50},
        "rollouts": {"*": to_plain(rollout)},
        "policy_digest": "",
        "acceptance": to_plain(Acceptance()),
        "budgets": {},
    }
    walk.data = {"digest": "none"}
    walk.prepared = {"data": "", "train_rows": 2000}
    walk.folder.mkdir(parents=True)
    with env.journal.exclusive(stream_of(MODEL)):  # as a delivery does: nobody is to think that its driver is gone
        walk.builds = build.read_builds(env, MODEL)
        build.open_delivery(walk, reason="", trigger="bench")
        build.train(walk)
        assert walk.version is not None and walk.artifact is not None, "it was registered"
        body = {
            "version": walk.version.number,
            "digest": walk.version.digest,
            "artifact": str(walk.artifact),
            "interpreter": walk.interpreter,
            "snapshot": "",
            "policies": walk.spec["rollouts"],
            "findings": [],
        }
        walk.record("proven", body)
        walk.record("accepted", {"version": walk.version.number})
        build.close_delivery(walk, "proven", "")
    return walk.version.number


def _handed_over(trained: Path, out: Path) -> dict[str, object]:
    shutil.copytree(trained, out)
    return {"toolchain": {}, "seconds": 0.0, "source": {"snapshot": "sha256:none"}}


def by_hand(workspace: Workspace, trained: Path, number: int) -> None:
    """Do the same with MLflow, a server of twelve lines and a file for Traefik."""
    import mlflow
    from mlflow import MlflowClient

    folder = workspace.path / "by-hand"
    folder.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment(MODEL)
    with mlflow.start_run() as run:
        mlflow.log_params({"max_iter": 50})
        mlflow.log_artifacts(str(trained), "model")
    client = MlflowClient()
    if number == 1:
        client.create_registered_model(MODEL)
    version = client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", run.info.run_id).version
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "plain.py").write_text(SERVER)
    environment = {**os.environ, "MODEL": str(trained / "model.joblib"), "VERSION": str(version)}
    command = [sys.executable, "-m", "uvicorn", "plain:app", "--port", str(port), "--log-level", "error"]
    server = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)
    (folder / f"{number}.pid").write_text(str(server.pid))
    _until(lambda: _answer("get", f"http://127.0.0.1:{port}/readyz") is not None, f"the server on port {port}")
    routes = {
        "routers": {"plain": {"rule": "PathPrefix(`/plain`)", "service": "plain", "middlewares": ["plain"]}},
        "middlewares": {"plain": {"stripPrefix": {"prefixes": ["/plain"]}}},
        "services": {"plain": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{port}"}]}}},
    }
    target = Services(workspace).gateway.watched / "plain.yml"
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps({"http": routes}))
    fresh.replace(target)
    public = f"{Services(workspace).gateway.url}/plain/predict"
    _until(lambda: served(public) == str(version), "the gateway")
    client.set_registered_model_alias(MODEL, "production", version)


# -- measuring ---------------------------------------------------------------------------------------------------------


def served(url: str) -> str:
    """Return the version that answers at *url* now, or nothing."""
    answer = _answer("post", url)
    return answer.headers.get("x-version", "") if answer is not None else ""


def _answer(how: str, url: str) -> httpx.Response | None:
    body = {"json": {"rows": [ROW]}} if how == "post" else {}
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.request(how, url, timeout=2.0, trust_env=False, **body)
        return answer if answer.status_code == 200 else None
    return None


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not answer within {PATIENCE:g} s")
        time.sleep(0.02)


def once(way: str, workspace: Workspace, trained: Path, number: int) -> tuple[float, float]:
    """Return the seconds until a client gets version *number*, and until the process has ended."""
    path = f"production/{MODEL}" if way == "modelcd" else "plain"
    url = f"{Services(workspace).gateway.url}/{path}/predict"
    began = time.perf_counter()
    command = [sys.executable, __file__, "--way", way, str(workspace.path), str(trained), str(number)]
    process = subprocess.Popen(command, cwd=workspace.path)
    _until(lambda: served(url) == str(number) or process.poll() not in (None, 0), f"version {number} by {way}")
    until_served = time.perf_counter() - began
    if process.wait(PATIENCE) != 0:
        raise SystemExit(f"{way} failed at version {number}")
    return until_served, time.perf_counter() - began


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Workspace]:
    """Start what a release needs and end all of it afterwards, the servers of both ways included."""
    workspace = open_workspace(folder / "workspace")
    try:
        Services(workspace).up(("gateway", "prefect", "control"))
        yield workspace
    finally:
        connect(workspace.path).down()
        for record in (workspace.path / "by-hand").glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(record.read_text()), 15)


def main(rounds: int) -> None:
    """Measure *rounds* releases of each way, in turns; the first of each makes its databases and does not count."""
    times: dict[str, list[tuple[float, float]]] = {"modelcd": [], "by hand": []}
    with tempfile.TemporaryDirectory() as place, running(Path(place)) as workspace:
        for number in range(1, rounds + 2):
            trained = artifact(Path(place) / f"model-{number}", number)
            for way, taken in times.items():
                taken.append(once(way, workspace, trained, number))
                served_in, ended_in = taken[-1]
                print(
                    f"version {number} {way:8}  served after {served_in:5.2f} s, ended after {ended_in:5.2f} s",
                    flush=True,
                )
    for k, what in enumerate(("until served", "until the command ended")):
        ours, plain = ([taken[k] for taken in times[way][1:]] for way in ("modelcd", "by hand"))
        ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
        print(
            f"{what:24} modelcd {statistics.median(ours):5.2f} s   by hand {statistics.median(plain):5.2f} s"
            f"   ratio {ratio:4.2f} (median of the rounds' ratios)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", nargs=4, metavar=("WAY", "WORKSPACE", "MODEL", "NUMBER"))
    given = parser.parse_args()
    if given.way is None:
        main(given.rounds)
    else:
        way, workspace, model, number = given.way
        ways = {"modelcd": by_modelcd, "by hand": by_hand}
        ways[way](Workspace(Path(workspace)), Path(model), int(number))
