from pathlib import Path

import joblib
import pandas as pd

PROJECT = Path(__file__).parents[1]


def test_the_model_knows_a_small_tumour_from_a_large_one():
    model = joblib.load(PROJECT / "model.joblib")
    rows = pd.read_csv(PROJECT / "data" / "checked.csv").drop(columns=["benign"])
    typical = rows.median()
    small, large = typical * 0.6, typical * 1.6

    benign = model.predict_proba(pd.DataFrame([small, large]))[:, 1]

    assert benign[0] > 0.9 > 0.1 > benign[1]
