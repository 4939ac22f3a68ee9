"""Play the people who hand a model over: write `model.joblib`, and data that it has not seen to check it with."""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(strength: float) -> None:
    """Fit with regularization *strength*; another strength is another model."""
    found = load_breast_cancer(as_frame=True)
    rows = found.data.rename(columns=lambda name: name.replace(" ", "_"))
    theirs, ours, truth, kept = train_test_split(rows, found.target == 1, test_size=0.5, random_state=7)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(theirs, truth)
    here = Path(__file__).parent
    joblib.dump(model, here / "model.joblib")
    (here / "data").mkdir(exist_ok=True)
    ours.assign(benign=kept).to_csv(here / "data" / "checked.csv", index=False)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
