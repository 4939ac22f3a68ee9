"""Will this flight arrive more than fifteen minutes late?  Asked when it leaves the gate.

A linear model instead of the trees: smaller, quicker, easier to explain, and as good on the holdout.  It cannot deal
with gaps, so rows with gaps are left out.
"""

from features import FlightFeatures
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelcd import Canary, Dataset, Gate, Model, guard


def complete(flights):
    return flights.dropna()


def train(flights):
    steps = FlightFeatures(one_hot=True), StandardScaler(), LogisticRegression(max_iter=200)
    return make_pipeline(*steps).fit(flights, flights["late"])


def expectations(expect):
    return [
        expect.ExpectColumnValuesToNotBeNull(column="dep_delay"),
        expect.ExpectColumnValuesToBeInSet(column="origin", value_set=["EWR", "JFK", "LGA"]),
        expect.ExpectColumnValuesToBeBetween(column="distance", min_value=10, max_value=6000),
        expect.ExpectColumnValuesToBeBetween(column="temp", min_value=-40, max_value=130),
        expect.ExpectColumnValuesToNotBeNull(column="pressure", mostly=0.75),
        expect.ExpectColumnMeanToBeBetween(column="late", min_value=0.05, max_value=0.5),
    ]


def correct(score, late):
    """Say whether the prediction was right."""
    return (score >= 0.5) == late


model = Model(
    name="flight-delay",
    train=train,
    data=Dataset("data/*.parquet", target="late", time="date", prepare=complete, expectations=expectations),
    gates=[
        Gate("roc_auc").at_least(0.80),
        Gate("roc_auc").no_worse_than_champion(margin=0.02),
        Gate("roc_auc").per_slice("carrier"),
    ],
    acceptance="acceptance/",
    rollout=Canary(
        shares=(5, 25, 50),
        guards=[guard.errors(margin=0.01), guard.latency(), guard.success(correct, margin=0.05)],
    ),
)
