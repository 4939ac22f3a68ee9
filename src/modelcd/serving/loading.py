"""A version's folder, loaded: from a frame to one score per row.

What comes out of a model is checked before it leaves: a score that is no number, or one score too few, is a failure
of the model and is counted as one, not passed on for somebody else to trip over.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelcd.artifact import Manifest, read_manifest
from modelcd.errors import ConfigurationError
from modelcd.serving.inputs import Inputs

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
        return scores_of(answer, len(frame), chances=self._chances)


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


def scores_of(answer: Any, rows: int, *, chances: bool) -> list[Any]:
    """Return what a model answered for *rows* rows as one JSON value per row; raises `ModelFailed`.

    With *chances*, two columns are the chances of two classes, and the second is the score.
    """
    array = np.asarray(answer)
    if array.ndim not in (1, 2) or len(array) != rows:
        raise ModelFailed(f"ScoreError: the model gave scores of shape {array.shape} for {rows} rows")
    if chances and (array.ndim == 1 or array.shape[1] < 2):
        raise ModelFailed(f"ScoreError: predict_proba gave shape {array.shape}: it needs the chances of two classes")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    elif chances and array.shape[1] == 2:
        array = array[:, 1]
    scores: list[Any] = array.tolist()
    if array.dtype.kind == "f":
        _check(bool(np.isfinite(array).all()), scores, _finite)
    elif array.dtype.kind not in "iubU":
        _check(False, scores, _plain)
    return scores


def _check(known: bool, scores: list[Any], good: Callable[[Any], bool]) -> None:
    if known:
        return
    for k, score in enumerate(scores):
        if not all(map(good, score if isinstance(score, list) else [score])):
            raise ModelFailed(f"ScoreError: the score of row {k} is no finite number, string or boolean")


def _finite(value: Any) -> bool:
    return math.isfinite(value)


def _plain(value: Any) -> bool:
    return type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value))
