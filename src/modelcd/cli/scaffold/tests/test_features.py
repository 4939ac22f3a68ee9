"""Run before every training, by `modelcd deliver` and by `pytest`."""

import numpy as np
from features import scaled


def test_gaps_are_filled():
    out = scaled().fit_transform(np.array([[1.0, 2.0], [np.nan, 4.0], [3.0, 6.0]]))

    assert np.isfinite(out).all()
