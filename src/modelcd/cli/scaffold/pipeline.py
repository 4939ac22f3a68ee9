# What is delivered, and how.  Change `train` and the data first, then the numbers below.  A docstring here, what the
# model is for, is shown on MLflow's page of it.

from features import preprocessor
from sklearn.linear_model import ESTIMATOR
from sklearn.pipeline import make_pipeline

from modelcd import Canary, Dataset, Gate, Model, guard

PREPARE
def train(rows):
    """Learn from *rows*, a DataFrame with the target in it; return something with predict_proba or predict."""
    inputs = INPUT_COLUMNS
    return make_pipeline(preprocessor(), ESTIMATOR(SETTINGS)).fit(inputs, rows[TARGET_COLUMN])


def expectations(expect):
    """What must hold of the data as they arrive (Great Expectations)."""
    return [EXPECTATIONS
    ]


def correct(score, label):
    """Say whether an answer was right, once the truth is known."""
    return IS_CORRECT


model = Model(
    name="MODEL_NAME",
    train=train,
    data=DATASET,
    gates=[GATES
    ],
    acceptance="acceptance/",
    rollout=Canary(
        shares=(5, 25, 50),
        guards=[
            guard.errors(margin=0.01),
            guard.latency(),
            guard.success(correct, margin=0.03, label=LABEL_TYPE),
        ],
    ),
)
