"""Write the data that this project begins with: scikit-learn's diabetes patients, and how their disease went on.  Replace them by yours."""

from pathlib import Path

from sklearn.datasets import load_diabetes

if __name__ == "__main__":
    found = load_diabetes(as_frame=True)
    rows = found.data.rename(columns=lambda name: name.replace(" ", "_")).assign(progression=found.target)
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    rows.sample(frac=1.0, random_state=7).to_csv(folder / "patients.csv", index=False)
