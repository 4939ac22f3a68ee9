"""Is this tumour benign?  The model came from somewhere else, as a file; here it is only checked and delivered."""

from modelcd import Canary, Dataset, Gate, Model

model = Model(
    name="tumour",
    artifact="model.joblib",
    data=Dataset("data/*.csv", target="benign", holdout=0.5),
    gates=[
        Gate("roc_auc").at_least(0.95),
        Gate("roc_auc").no_worse_than_champion(margin=0.05),
    ],
    rollout=Canary(shares=()),
)
