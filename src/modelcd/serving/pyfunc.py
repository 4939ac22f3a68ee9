"""What MLflow calls to load one of our versions: `mlflow.pyfunc.load_model("models:/name/3")`.

The model then runs in the caller's process and environment; it is for notebooks, not for serving.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelcd.serving.loading import Model, load_model

if TYPE_CHECKING:
    import pandas as pd


class Scorer:
    """A version as MLflow wants it: `predict` gives what our server would answer."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002 - MLflow's
        """Return one score per row of *frame*, as an array."""
        return np.asarray(self._model.score(frame))


def _load_pyfunc(path: str) -> Scorer:
    return Scorer(load_model(Path(path)))
