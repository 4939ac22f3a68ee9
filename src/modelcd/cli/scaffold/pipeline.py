"""What is delivered, and how.  Change `train` and the data first, then the numbers below."""

from features import scaled
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modelcd import Canary, Dataset, Gate, Model, guard


def train(rows):
    """Learn from *rows*, a DataFrame with the target in it; return something with predict_proba or predict."""
    inputs = rows.drop(columns=["benign"])
    return make_pipeline(scaled(), LogisticRegression(max_iter=1000)).fit(inputs, rows["benign"])


def expectations(expect):
    """What must hold of the data as they arrive (Great Expectations)."""
    return [expect.ExpectColumnValuesToNotBeNull(column="mean_radius")]


def correct(score, label):
    """Say whether an answer was right, once the truth is known."""
    return (score >= 0.5) == bool(label)


model = Model(
    name="MODEL_NAME",
    train=train,
    data=Dataset("data/*.csv", target="benign", expectations=expectations, holdout=0.25),
    gates=[Gate("roc_auc").at_least(0.95), Gate("roc_auc").no_worse_than_champion(margin=0.05)],
    acceptance="acceptance/",
    rollout=Canary(
        shares=(5, 25, 50),
        guards=[guard.errors(margin=0.01), guard.latency(), guard.success(correct, margin=0.03)],
    ),
)
