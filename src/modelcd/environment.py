"""A place that models are released into: ports bound together under a name.

Composition roots (`modelcd.environments`) build these; everything above works with whatever they bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelcd.ports import (
    Clock,
    Journal,
    Metrics,
    Predictions,
    Registry,
    Router,
    Runtime,
    Scoring,
    Successes,
)


@dataclass(frozen=True)
class Environment:
    """The ports of one environment; `name` is also the alias of its champion in the registry.

    `make_room` gives up what is kept on the disk for a way back, when it is full, and says whether there was any.
    """

    name: str
    journal: Journal
    registry: Registry
    runtime: Runtime
    scoring: Scoring
    router: Router
    metrics: Metrics
    predictions: Predictions
    successes: Successes
    clock: Clock
    make_room: Callable[[], bool] = lambda: False

    def stream(self, model: str) -> str:
        """Name the endpoint of *model* here; its journal stream has the same name."""
        return f"{self.name}/{model}"
