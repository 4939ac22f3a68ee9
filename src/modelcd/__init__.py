"""modelcd delivers machine-learning models: gates, staging, a canary judged on live metrics, promotion or the way back.

What a `pipeline.py` needs is here.  Importing this package costs milliseconds: whatever is heavy is loaded by the
part that uses it, so `connect` is looked up only when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelcd.domain.policy import Acceptance, Budgets, Canary, Gate, OnDoubt
from modelcd.domain.schedule import Retrain
from modelcd.project.declare import Dataset, Model, guard

if TYPE_CHECKING:
    from modelcd.control import connect

__version__ = "0.1.0"

__all__ = ["Acceptance", "Budgets", "Canary", "Dataset", "Gate", "Model", "OnDoubt", "Retrain", "connect", "guard"]


def __getattr__(name: str) -> Any:
    if name == "connect":
        from modelcd.control import connect

        return connect
    raise AttributeError(f"module 'modelcd' has no attribute {name!r}", name=name)
