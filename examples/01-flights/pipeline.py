"""Will this flight arrive more than fifteen minutes late?  Asked when it leaves the gate."""

from features import FlightFeatures
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from modelcd import Canary, Dataset, Gate, Model, guard


def train(flights, parameters):
    trees = HistGradientBoostingClassifier(random_state=1, **parameters)
    return make_pipeline(FlightFeatures(), trees).fit(flights, flights["late"])


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
    parameters={"max_iter": 100, "learning_rate": 0.1},
    data=Dataset("data/*.parquet", target="late", time="date", expectations=expectations),
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
