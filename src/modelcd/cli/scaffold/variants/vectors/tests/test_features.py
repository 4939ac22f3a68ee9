"""Run before every training, by `modelcd deliver` and by `pytest`."""

import numpy as np
import pandas as pd
from features import VECTORS, preprocessor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

ROWS = pd.DataFrame({"number": [1.0, None, 3.0, 4.0], "word": ["a", "b", None, "b"]})
ROWS = ROWS.assign(**{name: list(np.eye(4)) for name in VECTORS})


def test_rows_with_gaps_and_with_words_never_seen_are_answered():
    model = make_pipeline(preprocessor(), LogisticRegression()).fit(ROWS, [0, 1, 0, 1])

    assert len(model.predict(ROWS.assign(word="new"))) == len(ROWS)
