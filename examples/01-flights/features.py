"""What the model looks at: raw rows in, numbers out.

One array operation per column and nothing else: a live request has one row, and there the machinery of a
`ColumnTransformer` would cost more than the model.
"""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["dep_delay", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
CLOCKS = ["sched_dep_time", "sched_arr_time"]


def minutes(clock: np.ndarray) -> np.ndarray:
    """Turn a clock time written as a number (1745 is a quarter to six) into minutes since midnight."""
    return clock // 100 * 60 + clock % 100


class FlightFeatures(TransformerMixin, BaseEstimator):
    """Numbers from raw rows: categories as their code or one-hot, clocks in minutes, gaps kept as NaN.

    A category that was not there to be learned has the code -1, or no bit set.
    """

    def __init__(self, one_hot: bool = False) -> None:
        self.one_hot = one_hot

    def fit(self, frame: pd.DataFrame, late: object = None) -> "FlightFeatures":  # noqa: ARG002 - scikit-learn passes it
        """Learn the categories of *frame*."""
        self.codes_ = {name: {value: k for k, value in enumerate(sorted(set(frame[name])))} for name in CATEGORIES}
        self.feature_names_in_ = np.array([*CATEGORIES, *CLOCKS, *NUMBERS], dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        return self

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Return one row of numbers per row of *frame*."""
        columns = [self._category(name, frame[name].tolist()) for name in CATEGORIES]
        columns += [minutes(frame[name].to_numpy(dtype=float)) for name in CLOCKS]
        columns += [frame[name].to_numpy(dtype=float) for name in NUMBERS]
        return np.column_stack(columns)

    def _category(self, name: str, values: list) -> np.ndarray:
        codes = np.array([self.codes_[name].get(value, -1) for value in values], dtype=float)
        return (codes[:, None] == np.arange(len(self.codes_[name]))).astype(float) if self.one_hot else codes
