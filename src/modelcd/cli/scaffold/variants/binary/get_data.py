"""Write the data that this project begins with: scikit-learn's breast cancer measurements.  Replace them by yours."""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

if __name__ == "__main__":
    found = load_breast_cancer(as_frame=True)
    rows = found.data.rename(columns=lambda name: name.replace(" ", "_")).assign(benign=found.target == 1)
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    rows.sample(frac=1.0, random_state=7).to_csv(folder / "measurements.csv", index=False)
