"""Versions in MLflow: its pages show them, and this adapter alone knows how ours are kept there.

A model is an experiment and a registered model; a version is a run (metrics, parameters, data set) and a registered
version.  What must be read back exactly (lineage, metrics, digest) is in the version's tags, which are written in
one step with it; what stands in the run is for people, in the form that MLflow allows.  The artifact has a folder of
its own inside the MLflow model, because MLflow writes files of its own beside it.

MLflow has no compare-and-set and no uniqueness by digest, and its database must not be created twice at once: file
locks in the artifact folder stand in for these, so writers must share that folder.  MLflow takes more than a second
to import, so it is imported when it is first needed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from modelcd.adapters.locks import held
from modelcd.artifact import MANIFEST, Column, Manifest, digest_of, read_manifest
from modelcd.domain.versions import CLEAN, Lineage, ModelVersion, marked, slug
from modelcd.errors import ConfigurationError, RegistryError, UnknownName
from modelcd.ports import Build, Still, always

if TYPE_CHECKING:
    import mlflow.entities
    import mlflow.entities.model_registry
    from mlflow import MlflowClient

MODEL, DIGEST, LINEAGE = "modelcd.model", "modelcd.digest", "modelcd.lineage"
"""The tags of a version that it is read back from; a version without them is not ours."""

_FOLDER = "model"
_ARTIFACT = "artifact"
_PAGE = 1000
_BATCH = 100
_LONGEST = 6000


class MlflowRegistry:
    """A `Registry` in the MLflow store at *uri* (a database or a server), with locks and artifacts in *folder*.

    With a server, artifacts are where the server keeps them and *folder* holds the copies that were fetched.
    Writers wait up to *patience* seconds for each other.
    """

    def __init__(self, uri: str, folder: Path, *, patience: float = 120.0) -> None:
        self._uri = uri
        self._folder = folder
        self._patience = patience
        self._client: MlflowClient | None = None
        self._opening = threading.Lock()

    def open(self) -> None:
        """Make the store usable, with whatever is imported and made for it first; each method does so by itself."""
        with door("the registry could not be opened"):
            self.opened()

    def add(self, build: Build) -> ModelVersion:
        """Register *build*; the same training digest again returns the version that is there.

        Raises `RegistryError` when the folder is not what the build's digest says.
        """
        with door(f"{build.model} could not be registered"), self._alone(build.model):
            client = self.opened()
            for version in self._versions(client, build.model):
                if version.lineage.training == build.lineage.training:
                    self._judged(client, version, build)
                    return version
            _check(build.artifact, build.digest, f"the build of {build.model}")
            _ensure_model(client, build.model)
            began, ended = _times(build)
            run = client.create_run(self._experiment(client, build.model), start_time=began, tags=_run_tags(build))
            try:
                self._describe(client, run.info.run_id, build)
                number = self._register(client, run, build)
            except BaseException:
                client.set_terminated(run.info.run_id, "FAILED")
                raise
            client.set_terminated(run.info.run_id, end_time=ended)
            return _version(client.get_model_version(slug(build.model), str(number)), {})

    def versions(self, model: str) -> list[ModelVersion]:
        """Return the versions of *model*, oldest first, aliases included; an unknown model has none."""
        if self.is_absent():
            return []
        with door(f"the versions of {model} could not be read"):
            return self._versions(self.opened(), model)

    def fetch(self, model: str, number: int) -> Path:
        """Return a local folder with the artifact, its digest checked; raises `UnknownName`, `RegistryError`."""
        what = f"version {number} of {model}"
        with door(f"{what} could not be fetched"):
            found = self._find(model, number)
            digest = found.tags[DIGEST]
            source = str(found.source)
            url = urlparse(source)
            if url.scheme in ("", "file"):
                folder = Path(unquote(url.path)) / _ARTIFACT
            else:
                folder = self._downloaded(source, digest)
            _check(folder, digest, what)
            return folder

    def point(self, model: str, alias: str, number: int | None, still: Still = always) -> None:
        """Let *alias* name version *number*, or nothing; raises `UnknownName`."""
        if number is None and self.is_absent():
            return
        with door(f"the alias {alias} of {model} could not be set"), self._alone(model):
            client = self.opened()
            there = _aliases(client, model)
            if number is None:
                if alias in there:
                    still()
                    client.delete_registered_model_alias(slug(model), alias)
            elif self._find(model, number) and there.get(alias) != number:
                still()
                client.set_registered_model_alias(slug(model), alias, str(number))

    def is_absent(self) -> bool:
        """Say whether there is no database yet."""
        # Making the database takes MLflow more than a second, and only to find nothing in it.
        return self._uri.startswith("sqlite:///") and not Path(self._uri.removeprefix("sqlite:///")).exists()

    def _alone(self, model: str) -> AbstractContextManager[None]:
        return held(self._folder / f"{slug(model)}.lock", f"the registry of {model}", self._patience, RegistryError)

    def opened(self) -> MlflowClient:
        """Return MLflow's client, its database made where there was none; for use behind the `door`."""
        with self._opening:
            if self._client is None:
                with held(self._folder / ".setup.lock", "the registry", self._patience, RegistryError):
                    if self.is_absent():
                        _make(Path(self._uri.removeprefix("sqlite:///")), self._folder)
                    self._client = _client(self._uri)
            return self._client

    def _experiment(self, client: MlflowClient, model: str) -> str:
        known = client.get_experiment_by_name(model)
        if known is not None and known.lifecycle_stage != "active":
            client.restore_experiment(known.experiment_id)
        if known is not None:
            return str(known.experiment_id)
        own = None if self._uri.startswith("http") else (self._folder / slug(model)).absolute().as_uri()
        return client.create_experiment(model, artifact_location=own)

    def _describe(self, client: MlflowClient, run: str, build: Build) -> None:
        """Put into *run* what people look for on MLflow's pages."""
        from mlflow.entities import Metric, Param

        told = {**build.settings, **build.lineage.parameters}
        params = [Param(name, str(text)[:_LONGEST]) for name, text in _named(told).items()]
        now = int(time.time() * 1000)
        measured = {"training_seconds": build.seconds, "training_rows": float(build.lineage.rows)}
        metrics = [Metric(name, value, now, 0) for name, value in measured.items()]
        client.log_batch(run, metrics=metrics)
        for at in range(0, len(params), _BATCH):
            client.log_batch(run, params=params[at : at + _BATCH])
        client.log_inputs(run, datasets=_data_sets(build))

    def _judged(self, client: MlflowClient, version: ModelVersion, build: Build) -> None:
        """Tell what the gates made of *version*, if they have: metrics, and the run's status and name."""
        if build.failed is None:
            return
        from mlflow.entities import Metric

        found, now = client.get_model_version(slug(version.model), str(version.number)), int(time.time() * 1000)
        run, name = str(found.run_id), f"{version.model} version {version.number}"
        metrics = [Metric(key, value, now, 0) for key, value in _named(build.metrics).items()]
        client.log_batch(run, metrics=metrics[:_PAGE])
        client.update_run(run, status="FAILED" if build.failed else "FINISHED", name=name)

    def _register(self, client: MlflowClient, run: mlflow.entities.Run, build: Build) -> int:
        identity = run.info.run_id
        client.log_artifacts(identity, str(build.artifact), f"{_FOLDER}/{_ARTIFACT}")
        if (build.artifact / MANIFEST).exists():
            for name, text in _mlflow_files(identity, read_manifest(build.artifact)).items():
                client.log_text(identity, text, f"{_FOLDER}/{name}")
        version = client.create_model_version(
            name=slug(build.model),
            source=f"{run.info.artifact_uri}/{_FOLDER}",
            run_id=identity,
            tags={
                MODEL: build.model,
                DIGEST: build.digest,
                **({"modelcd.kind": kind} if (kind := _kind(build)) else {}),
                "modelcd.commit": marked(build.lineage.commit, build.lineage.worktree),
                LINEAGE: json.dumps(asdict(build.lineage), sort_keys=True),
            },
            await_creation_for=0,
        )
        return int(version.version)

    def _versions(self, client: MlflowClient, model: str) -> list[ModelVersion]:
        aliases = _aliases(client, model)
        ours = (_version(each, aliases) for each in kept_versions(client, model))
        return sorted(ours, key=lambda version: version.number)

    def _find(self, model: str, number: int) -> mlflow.entities.model_registry.ModelVersion:
        from mlflow.exceptions import MlflowException

        try:
            found = None if self.is_absent() else self.opened().get_model_version(slug(model), str(number))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            found = None
        if found is None or found.tags.get(MODEL) != model:
            known = [str(version.number) for version in self.versions(model)]
            raise UnknownName(f"version of {model}", str(number), known)
        return found

    def _downloaded(self, source: str, digest: str) -> Path:
        from mlflow.artifacts import download_artifacts

        kept = self._folder / "fetched" / digest.replace(":", "-")
        with held(kept.with_suffix(".lock"), f"the copy {kept}", self._patience, RegistryError):
            if kept.is_dir() and digest_of(kept) == digest:
                return kept
            with tempfile.TemporaryDirectory(dir=kept.parent) as temporary:
                got = download_artifacts(
                    artifact_uri=f"{source}/{_ARTIFACT}", dst_path=temporary, tracking_uri=self._uri
                )
                shutil.rmtree(kept, ignore_errors=True)
                os.replace(got, kept)
        return kept


def kept_versions(client: MlflowClient, model: str) -> list[mlflow.entities.model_registry.ModelVersion]:
    """Return the versions of *model* that are ours, as MLflow has them; for use behind the `door`."""
    found: list[mlflow.entities.model_registry.ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{slug(model)}'", max_results=_PAGE, page_token=token or None)
        found += page
        token = page.token or None
    return [each for each in found if each.tags.get(MODEL) == model]


def _client(uri: str) -> MlflowClient:
    """Return a client of the store at *uri*; its first calls bring a database up to date."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return client


def _make(path: Path, folder: Path) -> None:
    """Make the database at *path*, under another name first: MLflow cannot go on with one that is half made.

    Runs of no experiment go to *folder*.  MLflow by itself would take the folder that it happens to be started in,
    and write the name of that into a statement as it is, quotes and all.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    half = path.with_name(f"{path.name}.making")
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{half.name}*"):
        left.unlink()
    store: Any = SqlAlchemyStore
    store(f"sqlite:///{half}", (folder / "default").absolute().as_uri()).engine.dispose()
    _client(f"sqlite:///{half}")
    os.replace(half, path)


@contextmanager
def door(what: str) -> Iterator[None]:
    """Translate what MLflow raises, and keep it from talking; importing it waits until this is first opened."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RegistryError(
            f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            help="check the address of MLflow, its disk and its permissions, then run again",
        ) from error


_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def _check(folder: Path, digest: str, what: str) -> None:
    if not folder.is_dir():
        raise RegistryError(f"the artifact of {what} is gone: there is no {folder}", help="restore it from a backup")
    found = digest_of(folder)
    if found != digest:
        raise RegistryError(
            f"the artifact of {what} is not the one that was built: {folder} has {found}, not {digest}",
            help="restore it from a backup, or build the version anew; it is not to be used",
        )


def _ensure_model(client: MlflowClient, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        owner = client.get_registered_model(slug(model)).tags.get(MODEL, model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(slug(model), tags={MODEL: model})
        return
    if owner != model:
        raise ConfigurationError(
            f"{model} would have the same name in MLflow as {owner}: {slug(model)}",
            help="rename one of the two models",
        )


def _aliases(client: MlflowClient, model: str) -> dict[str, int]:
    from mlflow.exceptions import MlflowException

    try:
        return {alias: int(number) for alias, number in client.get_registered_model(slug(model)).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _version(found: mlflow.entities.model_registry.ModelVersion, aliases: Mapping[str, int]) -> ModelVersion:
    number = int(found.version)
    try:
        return ModelVersion(
            model=found.tags[MODEL],
            number=number,
            digest=found.tags[DIGEST],
            lineage=Lineage(**json.loads(found.tags[LINEAGE])),
            created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(),
            aliases=tuple(sorted(alias for alias, named in aliases.items() if named == number)),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise RegistryError(
            f"version {number} of {found.name} has tags that cannot be understood: {error!r}",
            help="restore its modelcd.* tags in MLflow, or delete that version there",
        ) from error


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give *values* names that MLflow allows."""
    return {re.sub(r"[^\w\-./: ]", "_", name): value for name, value in values.items()}


def _times(build: Build) -> tuple[int | None, int | None]:
    """Return when training began and ended, in milliseconds; None where that is not known."""
    if not build.began:
        return None, None
    began = datetime.fromisoformat(build.began).timestamp()
    return int(began * 1000), int((began + build.seconds) * 1000)


def _run_tags(build: Build) -> dict[str, str]:
    lineage = build.lineage
    tags = {
        "mlflow.runName": f"{build.model} {build.digest.removeprefix('sha256:')[:12]}",
        "mlflow.user": build.by,
        "mlflow.source.type": "LOCAL" if build.project else "",
        "mlflow.source.name": f"{build.project}/pipeline.py" if build.project else "",
        "mlflow.source.git.commit": lineage.commit,
        "mlflow.source.git.dirty": "" if not lineage.commit else str(lineage.worktree != CLEAN).lower(),
        "mlflow.source.git.branch": lineage.branch,
        "mlflow.source.git.repoURL": lineage.repository,
        "modelcd.commit": marked(lineage.commit, lineage.worktree),
        "modelcd.patch": lineage.patch,
        "modelcd.snapshot": lineage.snapshot,
        MODEL: build.model,
        DIGEST: build.digest,
        "modelcd.training": lineage.training,
        "modelcd.code": lineage.code,
        "modelcd.kind": _kind(build),
        "modelcd.data": lineage.data,
        "modelcd.python": lineage.toolchain.get("python", ""),
    }
    return {name: text for name, text in tags.items() if text}


def _data_sets(build: Build) -> list[mlflow.entities.DatasetInput]:
    """Describe training data and holdout by what is known of them; the rows are not needed and not here."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    lineage = build.lineage
    learned = {"num_rows": lineage.rows, "from": lineage.data_from, "until": lineage.data_until}
    schema = None
    if (build.artifact / MANIFEST).exists():
        schema = json.dumps({"mlflow_colspec": _columns(read_manifest(build.artifact))})
    parts = {"training": ("training data", learned)}
    if build.holdout_rows:
        parts["evaluation"] = ("holdout", {"num_rows": build.holdout_rows})
    # Both are parts of the same files, so they have one source and one digest.
    return [
        DatasetInput(
            Dataset(
                name=f"{build.model} {name}",
                digest=lineage.data.removeprefix("sha256:")[:36],
                source_type="local" if build.source else "modelcd",
                source=json.dumps({"uri": build.source, "digest": lineage.data}),
                schema=schema,
                profile=json.dumps(profile),
            ),
            tags=[InputTag("mlflow.data.context", context)],
        )
        for context, (name, profile) in parts.items()
    ]


def _columns(manifest: Manifest) -> list[dict[str, Any]]:
    # A column of whole numbers with a gap is one of floats in pandas, and MLflow would refuse it as one of longs.
    return [
        {
            "name": column.name,
            **_type(column),
            "required": not column.nullable,
        }
        for column in manifest.inputs
    ]


def _type(column: Column) -> dict[str, Any]:
    if column.kind == "vector":
        return {"type": "array", "items": {"type": "double"}}
    return {"type": "double" if column.kind == "long" and column.nullable else column.kind}


def _kind(build: Build) -> str:
    """Say what kind of model it is, where its scores tell: the chance of one class, of each of several, or a number."""
    if not (build.artifact / MANIFEST).exists():
        return ""
    manifest = read_manifest(build.artifact)
    return _KINDS.get((manifest.method, manifest.output.kind), "")


_KINDS = {
    ("predict_proba", "double"): "binary",
    ("predict_proba", "vector"): "multiclass",
    ("predict", "double"): "regression",
}


def _mlflow_files(run: str, manifest: Manifest) -> dict[str, str]:
    """Return the files by which MLflow knows and can load the version: signature, an example, what it needs."""
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema

    files = {"requirements.txt": "".join(f"{line}\n" for line in _requirements(manifest))}
    signature = None
    if manifest.inputs:
        output = {"type": manifest.output.kind, "required": True}
        if manifest.output.kind == "vector":
            output = {"type": "array", "items": {"type": "double"}, "required": True}
        inputs, outputs = (Schema.from_json(json.dumps(part)) for part in (_columns(manifest), [output]))
        signature = ModelSignature(inputs=inputs, outputs=outputs)
    example = None
    if manifest.warmup:
        columns = [column.name for column in manifest.inputs]
        rows = [[row[name] for name in columns] for row in manifest.warmup]
        files["input_example.json"] = json.dumps({"columns": columns, "data": rows})
        example = {"artifact_path": "input_example.json", "type": "dataframe", "pandas_orient": "split"}
    model = Model(artifact_path=_FOLDER, run_id=run, signature=signature, saved_input_example_info=example)
    python = {"python_version": number} if (number := manifest.toolchain.get("python")) else {}
    model.add_flavor("python_function", loader_module="modelcd.serving.pyfunc", data=_ARTIFACT, **python)
    return {**files, "MLmodel": str(model.to_yaml())}


def _requirements(manifest: Manifest) -> list[str]:
    own = {name: metadata.version(name) for name in ("mlflow", "modelcd")}
    needed = {**manifest.toolchain, **own}
    return [f"{name}=={number}" for name, number in sorted(needed.items()) if name != "python"]
