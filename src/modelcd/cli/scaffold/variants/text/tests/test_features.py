"""Run before every training, by `modelcd deliver` and by `pytest`."""

import pandas as pd
from features import preprocessor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

ROWS = pd.DataFrame({TEXT_COLUMN: ["a good day", "a bad day", "good", "bad"]})


def test_words_never_seen_and_empty_texts_are_answered():
    model = make_pipeline(preprocessor(), LogisticRegression()).fit(ROWS, [1, 0, 1, 0])

    assert len(model.predict(ROWS.assign(**{TEXT_COLUMN: ["new words", "", "good", "?"]}))) == len(ROWS)
