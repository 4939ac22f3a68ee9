"""Registries: what all keep, and what the one in MLflow keeps between processes and on MLflow's pages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from modelcd.adapters.memory import MemoryRegistry
from modelcd.adapters.mlflow import MlflowRegistry
from modelcd.artifact import Column, Manifest, digest_of, write_manifest
from modelcd.errors import ConfigurationError, RegistryError
from modelcd.ports import Build
from modelcd.testing.registry import MODEL, Builder, KeepingRegistryContract, RegistryContract, build_in

# MLflow 3.17 uses what SQLAlchemy 2.1 will drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

# MLflow 3.17 warns of its own type hints when it is imported.
loads = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

NEW = (
    "import sys; from pathlib import Path; from modelcd.adapters.mlflow import MlflowRegistry; "
    "from modelcd.testing.registry import *; folder = Path(sys.argv[1]); "
    "registry = MlflowRegistry(f'sqlite:///{folder}/mlflow.db', folder / 'artifacts'); "
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with nothing that a test looks at; making one takes a second, paid once for all tests."""
    folder = tmp_path_factory.mktemp("empty")
    registry = MlflowRegistry(f"sqlite:///{folder}/mlflow.db", folder)
    registry.add(build_in(folder / "build", model="another"))
    return folder / "mlflow.db"


@pytest.fixture
def kept(empty: Path, tmp_path: Path) -> MlflowRegistry:
    """A registry of this test's own."""
    shutil.copy(empty, tmp_path / "mlflow.db")
    return MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    """Make builds, each in a folder of its own."""
    return lambda training="t1", model=MODEL: build_in(tmp_path / "builds" / model / training, training, model)


class TestMemoryRegistry(RegistryContract):
    @pytest.fixture
    def registry(self) -> MemoryRegistry:
        return MemoryRegistry()


class TestMlflowRegistry(RegistryContract, KeepingRegistryContract):
    @pytest.fixture
    def registry(self, kept: MlflowRegistry) -> MlflowRegistry:
        return kept


def test_constructing_makes_no_file(tmp_path: Path) -> None:
    MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")

    assert list(tmp_path.iterdir()) == []


def test_it_is_made_wherever_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / 'it\'s "ours" :now'
    project.mkdir()
    monkeypatch.chdir(project)
    registry = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")

    registry.open()

    assert registry.opened().get_experiment("0").artifact_location.startswith(f"{tmp_path.as_uri()}/artifacts/")


DYING = """
import os, signal, sqlalchemy
statements = []
def die(*_):
    statements.append(1)
    if len(statements) == 60:
        os.kill(os.getpid(), signal.SIGKILL)
sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", die)
registry.add(build_in(folder / "dying"))
"""


def test_a_database_whose_maker_was_killed_is_made_anew(tmp_path: Path, build: Builder) -> None:
    died = subprocess.run([sys.executable, "-c", NEW + DYING, str(tmp_path)], check=False, timeout=120)
    registry = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")

    assert died.returncode < 0
    assert registry.add(build()).number == 1
    assert list(tmp_path.glob("*.making*")) == []


def test_reading_what_is_not_there_makes_no_file(tmp_path: Path) -> None:
    MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts").versions(MODEL)

    assert list(tmp_path.iterdir()) == []


def test_importing_the_adapter_does_not_import_mlflow() -> None:
    code = "import sys, modelcd.adapters.mlflow; print('mlflow' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], timeout=60, text=True) == "False\n"


def test_processes_that_create_it_at_once_both_succeed(tmp_path: Path) -> None:
    code = NEW + "print(registry.add(build_in(folder / sys.argv[2], sys.argv[2])).number)"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for name in ("one", "two")
    ]
    printed = sorted(writer.communicate(timeout=120) for writer in writers)

    # Each printed its number, and MLflow printed nothing at all.
    assert printed == [("1\n", ""), ("2\n", "")]


def test_processes_that_move_an_alias_at_once_leave_it_with_one_of_theirs(
    kept: MlflowRegistry, build: Builder, tmp_path: Path
) -> None:
    for training in ("t1", "t2"):
        kept.add(build(training))
    code = NEW + "[registry.point(MODEL, 'production', 1 + n % 2) for n in range(5)]"
    movers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    ended = [mover.wait(timeout=120) for mover in movers]

    pointed = [version.number for version in kept.versions(MODEL) if version.aliases]
    assert (ended, len(pointed)) == ([0, 0], 1)


def test_a_name_that_mlflow_cannot_tell_apart_is_refused(kept: MlflowRegistry, build: Builder) -> None:
    kept.add(build(model="team/flights"))

    with pytest.raises(ConfigurationError, match="same name"):
        kept.add(build(model="team--flights"))


def test_a_version_made_by_hand_in_mlflow_is_not_ours(kept: MlflowRegistry, build: Builder, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    kept.add(build(model="flights"))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_model_version("flights", source=str(tmp_path))

    assert [version.number for version in kept.versions("flights")] == [1]


def test_a_version_whose_lineage_was_spoilt_in_mlflow_is_an_error(
    kept: MlflowRegistry, build: Builder, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    kept.add(build(model="flights"))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.set_model_version_tag("flights", "1", "modelcd.lineage", "oops")

    with pytest.raises(RegistryError, match="cannot be understood"):
        kept.versions("flights")


def test_a_database_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be looked at" * 100)

    with pytest.raises(RegistryError):
        MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).versions(MODEL)


def test_the_run_shows_metrics_parameters_and_data(kept: MlflowRegistry, build: Builder, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    kept.add(replace(build(), source="/flights/data/*.csv", holdout_rows=250))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.get_run(str(client.get_model_version("team--flights", "1").run_id)).to_dictionary()

    data = {each["tags"]["mlflow.data.context"]: each["dataset"] for each in run["inputs"]["dataset_inputs"]}
    assert (run["info"]["status"], run["data"]["params"]) == ("FINISHED", {"depth": "3", "carriers_0_": "AA"})
    assert {name: json.loads(each["profile"])["num_rows"] for name, each in data.items()} == {
        "training": 1000,
        "evaluation": 250,
    }
    assert json.loads(data["evaluation"]["source"]) == {"uri": "/flights/data/*.csv", "digest": "sha256:" + "d" * 64}


@loads
@pytest.mark.usefixtures("store")
def test_mlflow_knows_signature_example_and_requirements(kept: MlflowRegistry, tmp_path: Path) -> None:
    import mlflow

    kept.add(fitted(tmp_path / "fitted"))
    model = mlflow.pyfunc.load_model("models:/flights/1")
    signature, needed = model.metadata.signature, Path(mlflow.pyfunc.get_model_dependencies("models:/flights/1"))

    assert [(column.name, column.type.name) for column in signature.inputs] == [
        ("distance", "double"),
        ("stops", "double"),  # one of whole numbers with gaps, as pandas reads it
    ]
    assert [column.type.name for column in signature.outputs] == ["double"]
    assert np.allclose(model.predict(model.input_example), [4.0])
    assert {"scikit-learn==1.7.2", f"mlflow=={mlflow.__version__}"} <= set(needed.read_text().splitlines())


def test_what_the_gates_made_of_a_version_stands_in_mlflow(
    kept: MlflowRegistry, build: Builder, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    given = build()
    kept.add(given)
    for _ in range(2):
        kept.add(replace(given, metrics={"roc_auc": 0.8, "champion/roc_auc": 0.9}, failed=True))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    version = client.get_model_version("team--flights", "1")
    run = client.get_run(str(version.run_id))

    assert (run.info.status, run.info.end_time - run.info.start_time) == ("FAILED", 2500)
    assert run.data.tags["mlflow.user"] == "anna"
    assert (run.data.metrics["roc_auc"], run.data.metrics["champion/roc_auc"]) == (0.8, 0.9)
    assert (run.data.tags["mlflow.source.git.dirty"], version.tags["modelcd.commit"]) == ("true", "abc123-dirty")


def fitted(folder: Path) -> Build:
    """A build whose model really predicts: twice the distance."""
    plain = build_in(folder, model="flights")
    inputs = (Column("distance", "double"), Column("stops", "long"))
    frame = pd.DataFrame({"distance": [1.0, 2.0, 3.0], "stops": [0, 1, 0]})
    joblib.dump(LinearRegression().fit(frame, 2 * frame["distance"]), folder / "model.joblib")
    manifest = Manifest(
        model="flights",
        flavor="object",
        file="model.joblib",
        method="predict",
        inputs=inputs,
        warmup=({"distance": 2.0, "stops": 1},),
        toolchain={"python": "3.11.7", "scikit-learn": "1.7.2"},
    )
    write_manifest(folder, manifest)
    return Build("flights", folder, digest_of(folder), plain.lineage)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MLflow itself look at this test's registry, as a notebook would."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(sys, "path", [*sys.path])  # loading a version puts its code there


@loads
@pytest.mark.usefixtures("store")
def test_mlflow_can_load_a_version(kept: MlflowRegistry, tmp_path: Path) -> None:
    import mlflow

    kept.add(fitted(tmp_path / "fitted"))
    model = mlflow.pyfunc.load_model("models:/flights/1")

    assert np.allclose(model.predict(pd.DataFrame({"distance": [5.0], "stops": [1]})), [10.0])


@loads
@pytest.mark.usefixtures("store")
def test_a_version_that_mlflow_loaded_can_still_be_fetched(kept: MlflowRegistry, tmp_path: Path) -> None:
    import mlflow

    kept.add(fitted(tmp_path / "fitted"))
    mlflow.pyfunc.load_model("models:/flights/1")

    assert kept.fetch("flights", 1).is_dir()
