"""A version's folder, loaded: from a frame to one score per row.

What comes out of a model is checked before it leaves: a score that is no number, or one score too few, is a failure
of the model and is counted as one, not passed on for somebody else to trip over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelcd.artifact import Manifest, read_manifest
from modelcd.errors import ConfigurationError
from modelcd.serving.inputs import Inputs
from modelcd.serving.outputs import NoScore, array_of, kept, plain

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("predict", "predict_proba")


class ModelFailed(Exception):
    """The model raised, or gave scores that are none; the message begins with the kind of error."""


class Model:
    """A loaded version: its inputs, and what turns a frame into scores."""

    def __init__(self, manifest: Manifest, predict: Callable[[Any], Any]) -> None:
        self.manifest = manifest
        self.inputs = Inputs(manifest.inputs)
        self._predict = predict
        self._chances = manifest.method == "predict_proba"

    def score(self, frame: pd.DataFrame) -> list[Any]:
        """Return one score per row of *frame*, as JSON values, in order; raises `ModelFailed`."""
        try:
            answer = self._predict(frame)
        except (Exception, SystemExit) as error:
            raise ModelFailed(f"{type(error).__name__}: {error}") from error
        try:
            array = array_of(answer, len(frame), chances=self._chances)
            kept(array, self.manifest.output)
            return plain(array)
        except NoScore as error:
            raise ModelFailed(f"ScoreError: the model {error}") from error


def load_model(folder: Path) -> Model:
    """Load the version in *folder*, its `code/` first on the import path; raises what its own code raises."""
    manifest = read_manifest(folder)
    if manifest.method not in METHODS:
        raise ConfigurationError(f"the manifest's method is {manifest.method!r}, known: {', '.join(METHODS)}")
    if (folder / "code").is_dir():
        sys.path.insert(0, str(folder / "code"))
    loaded = _load(manifest, folder / manifest.file)
    predict = getattr(loaded, manifest.method, None)
    if not callable(predict):
        raise ConfigurationError(f"{manifest.file} holds a {type(loaded).__name__} without {manifest.method}()")
    return Model(manifest, predict)


def _load(manifest: Manifest, path: Path) -> Any:
    match manifest.flavor:
        case "object":
            import joblib

            return joblib.load(path)
        case "pyfunc":
            import mlflow.pyfunc

            return mlflow.pyfunc.load_model(str(path))
        case other:
            raise ConfigurationError(f"the manifest's flavor is {other!r}, known: object, pyfunc")
