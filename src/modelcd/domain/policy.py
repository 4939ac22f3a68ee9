"""How carefully a version is let in: gates before it serves, guards and a ladder of shares while it does.

These are plain values.  A user writes them in `pipeline.py`; they travel as JSON and are recorded with each release,
so that a verdict can be recomputed long after the file has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any

from modelcd.domain.routing import Unit


class Bound(StrEnum):
    """What a gate compares with."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    CHAMPION = "no_worse_than_champion"
    SLICES = "per_slice"


@dataclass(frozen=True)
class Gate:
    """A check on the holdout, scored through the server that will serve.

    `Gate("roc_auc").at_least(0.8)`, `.at_most(0.2)`, `.no_worse_than_champion(margin=0.01)`,
    `.per_slice("carrier", min_rows=100)`.  Metrics have the names of `sklearn.metrics`, with or without `_score` (see
    `modelcd.domain.metrics.METRICS`), or are a function of your own `(truth, scores) -> float`, with
    `higher_is_better`.  Whatever is claimed is claimed with `confidence`.
    """

    metric: str
    bound: Bound | None = None
    limit: float = 0.0
    margin: float = 0.0
    column: str = ""
    min_rows: int = 100
    confidence: float = 0.95
    higher_is_better: bool = True
    function: Callable[[Any, Any], float] | None = field(default=None, compare=False, repr=False)

    def at_least(self, limit: float) -> Gate:
        """The metric must be *limit* or more, with confidence: a value that reaches it by luck is inconclusive."""
        return replace(self, bound=Bound.AT_LEAST, limit=_number(f"gate {self.metric!r}", limit))

    def at_most(self, limit: float) -> Gate:
        """The metric must be *limit* or less, with confidence: a value that keeps it by luck is inconclusive."""
        return replace(self, bound=Bound.AT_MOST, limit=_number(f"gate {self.metric!r}", limit))

    def no_worse_than_champion(self, margin: float = 0.0) -> Gate:
        """On the same rows, worse than the champion by less than *margin*, with confidence."""
        return replace(self, bound=Bound.CHAMPION, margin=_number(f"gate {self.metric!r}", margin))

    def per_slice(self, column: str, *, margin: float = 0.05, min_rows: int = 100) -> Gate:
        """No value of *column* where it is certainly worse by *margin*, and most rows where it certainly is not.

        A value with fewer than *min_rows* rows is not judged.
        """
        tolerated = _number(f"gate {self.metric!r}", margin)
        return replace(self, bound=Bound.SLICES, column=column, margin=tolerated, min_rows=min_rows)


class GuardKind(StrEnum):
    """Which live outcome a guard watches."""

    ERRORS = "errors"
    LATENCY = "latency"
    SUCCESS = "success"
    """Any yes/no outcome of an answer whose truth is known."""
    METRIC = "metric"
    """A bounded number of an answer whose truth is known."""


FROM_LABELS = frozenset({GuardKind.SUCCESS, GuardKind.METRIC})
"""Kinds of guards that are fed by labels, which may come long after the requests they belong to."""


@dataclass(frozen=True)
class Guard:
    """A live metric, challenger against champion at the same time, with a tolerance; or against a `limit` of its own.

    `margin` is the tolerated excess as a fraction (0.01 is one percentage point) for errors and success, and in the
    metric's own unit for a number between `low` and `high`; `ratios` maps quantile to the tolerated ratio for latency,
    e.g. ((0.5, 1.25), (0.99, 1.5)), and `grace` is how many seconds slower is tolerated whatever the ratio: a version
    with a small share has colder caches, and that is a large part of a few milliseconds.  `higher_is_better` is the
    direction of success and metric.  With a `limit` (an SLO) nothing is compared: a rate, a mean, or for latency the
    seconds that the `quantile` may reach.  `label` is the kind of label that its function takes ("bool",
    "list[float]"), `classes` those that there are; see `modelcd.domain.labels`.
    """

    name: str
    kind: GuardKind
    margin: float = 0.0
    ratios: tuple[tuple[float, float], ...] = ()
    grace: float = 0.0
    function: Callable[[Any, Any], bool | float] | None = field(default=None, compare=False, repr=False)
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    limit: float | None = None
    quantile: float = 0.99
    label: str = ""
    classes: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.limit is not None:
            self._check_limit(_number(f"guard {self.name}: a limit", self.limit))
        elif self.kind is GuardKind.LATENCY:
            if not self.ratios:
                raise ValueError("a latency guard needs at least one quantile, e.g. guard.latency(p99=1.5)")
            ratios = [(q, _number("guard.latency: a ratio", r)) for q, r in self.ratios]
            if any(not 0 < q < 1 or not 1 < r <= 100 for q, r in ratios):
                raise ValueError("a latency guard's ratios are above 1 and at most 100, e.g. guard.latency(p99=1.5)")
            if _number("guard.latency(grace=…)", self.grace) < 0:
                raise ValueError(f"a latency guard's grace is in seconds, 0 or more, got {self.grace:g}")
        elif self.kind is GuardKind.METRIC:
            if not 0 < _number(f"guard {self.name}: margin", self.margin) < self.high - self.low:
                raise ValueError(f"guard {self.name}: margin lies between 0 and high - low, got {self.margin:g}")
        elif not 0 < _number(f"guard {self.name}: margin", self.margin) < 1:
            raise ValueError(f"guard {self.name}: margin is a fraction between 0 and 1, got {self.margin:g}")

    def _check_limit(self, limit: float) -> None:
        if self.kind is GuardKind.LATENCY:
            if not limit > 0 or not 0 < self.quantile < 1:
                raise ValueError(
                    f"guard {self.name}: a latency limit is in seconds, above 0, of a quantile between 0 and 1"
                )
        elif not self.low < limit < self.high:
            raise ValueError(f"guard {self.name}: a limit lies between {self.low:g} and {self.high:g}, got {limit:g}")

    def at_most(self, limit: float, *, quantile: float = 0.99) -> Guard:
        """Return an absolute guard: at most *limit*, whatever the champion does (for latency *quantile*, in seconds).

        A champion that breaks it too blames the environment, not the challenger: the release holds.
        """
        if self.kind in FROM_LABELS and self.higher_is_better:
            raise ValueError(f"guard {self.name}: more is better, so a limit is .at_least({limit:g})")
        return self._limited(limit, "at most", quantile)

    def at_least(self, limit: float) -> Guard:
        """Return an absolute guard: at least *limit*, whatever the champion does."""
        if self.kind not in FROM_LABELS or not self.higher_is_better:
            raise ValueError(f"guard {self.name}: less is better, so a limit is .at_most({limit:g})")
        return self._limited(limit, "at least", 0.99)

    def _limited(self, limit: float, bound: str, quantile: float) -> Guard:
        limit = _number(f"guard {self.name}: a limit", limit)
        name = f"{self.name} {bound} {limit:g}"
        return replace(self, name=name, limit=limit, quantile=quantile, margin=0.0, ratios=(), grace=0.0)

    @property
    def width(self) -> float:
        """How wide the scale of its outcomes is: 1 for rates."""
        return self.high - self.low if self.kind is GuardKind.METRIC else 1.0

    def badness(self, value: float) -> float:
        """Return *value* of a metric on the scale from 0 (best) to 1 (worst)."""
        return (self.high - value if self.higher_is_better else value - self.low) / self.width


class OnDoubt(StrEnum):
    """What happens to a release that has found no answer when its time is up."""

    HOLD = "hold"
    EXTEND = "extend"
    """Another `step_budget`, and another, until the release's `budget` is used up; then it holds."""
    ROLL_BACK = "roll_back"


LADDER_TOLERANCE = (5.0, 2.0, 1.0)
"""Tolerances are 5 times, 2 times, once the margin at the third-last, second-last and last step (judge, 4.5)."""


@dataclass(frozen=True)
class Canary:
    """A ladder of shares (per cent, rising, below 100; 100 is added by itself) under guards.

    `shares=()` is blue/green: everything at once, and at once back.  `bake` is how many seconds each step is watched
    at least.  Budgets are in seconds, and a night in which the machine slept uses up none: `start_budget` from the
    start of a version until it is ready; `warm_up_budget` for its `warm_up` requests, sent to it before its first
    share; `ready_budget` that a version may be unready once it serves; `step_budget` for each step and `budget` for the
    whole release, after which `on_doubt` applies.
    `alpha` bounds the chance that a version no worse on any guard is ever rolled back, `beta` the chance that one
    beyond a tolerance is ever promoted.  `keep_warm` is how many seconds the old version keeps running after
    promotion; `watch` is for how many seconds after it labels that come late, of requests served on the ladder, are
    still judged, with what is left of the same budget: they can take the version out again (0: not at all).  With
    `fallback` the champion answers when the challenger fails, and the failure still counts against the challenger.
    `unit` is what is assigned to a version and counted: requests of one user are not independent, so where users are
    assigned, users are counted.
    """

    shares: tuple[float, ...] = (5, 25, 50)
    guards: tuple[Guard, ...] = ()
    bake: float = 0.0
    step_budget: float = 24 * 3600.0
    budget: float = 30 * 24 * 3600.0
    start_budget: float = 120.0
    ready_budget: float = 15.0
    warm_up: int = 50
    warm_up_budget: float = 60.0
    on_doubt: OnDoubt = OnDoubt.HOLD
    alpha: float = 0.01
    beta: float = 0.05
    fallback: bool = True
    keep_warm: float = 600.0
    watch: float = 7 * 24 * 3600.0
    unit: Unit = Unit.REQUEST

    if TYPE_CHECKING:

        def __init__(
            self,
            shares: Iterable[float] = ...,
            guards: Iterable[Guard] = ...,
            bake: float = ...,
            step_budget: float = ...,
            budget: float = ...,
            start_budget: float = ...,
            ready_budget: float = ...,
            warm_up: int = ...,
            warm_up_budget: float = ...,
            on_doubt: OnDoubt = ...,
            alpha: float = ...,
            beta: float = ...,
            fallback: bool = ...,
            keep_warm: float = ...,
            watch: float = ...,
            unit: Unit = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", _shares(self.shares))
        object.__setattr__(self, "guards", tuple(self.guards))
        object.__setattr__(self, "unit", _unit(self.unit))
        rising = all(a < b for a, b in zip(self.shares, self.shares[1:], strict=False))
        if not rising or any(not 0 < s < 100 for s in self.shares):
            given = ", ".join(f"{s:g}" for s in self.shares)
            good = sorted({s for s in self.shares if 0 < s < 100}) or [5.0, 25.0, 50.0]
            raise ValueError(
                f"rollout shares must rise and stay below 100, got ({given}); "
                f"shares=({', '.join(f'{s:g}' for s in good)}{',' * (len(good) == 1)}); 100 is added by itself"
            )
        if self.shares and not self.guards:
            raise ValueError("a canary without guards proves nothing; give guards=[guard.errors(), …] or shares=()")
        names = [g.name for g in self.guards]
        if len(set(names)) != len(names):
            raise ValueError(f"two guards have the same name: {', '.join(names)}")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ValueError("alpha and beta are chances between 0 and 0.5")
        if not 0 <= self.bake < self.step_budget:
            raise ValueError("step_budget must be longer than bake")
        _positive("Canary", self, "step_budget", "budget", "start_budget", "ready_budget", "warm_up_budget")
        if _number("Canary(watch=…)", self.watch) < 0:
            raise ValueError(f"Canary(watch=…) is in seconds, 0 for not at all, got {self.watch:g}")
        if isinstance(self.warm_up, bool) or not isinstance(self.warm_up, int) or self.warm_up < 0:
            raise ValueError(f"Canary(warm_up=…) is a number of requests, 0 for none, got {self.warm_up!r}")

    @property
    def judged_by_labels(self) -> bool:
        """Say whether a guard is fed by labels."""
        return any(guard.kind in FROM_LABELS for guard in self.guards)

    def tolerance_factor(self, step: int) -> float:
        """How many times the margin is tolerated at *step* (0 is the first)."""
        from_end = len(self.shares) - 1 - step
        return LADDER_TOLERANCE[max(0, len(LADDER_TOLERANCE) - 1 - from_end)] if from_end >= 0 else 1.0


def _shares(given: Any) -> tuple[float, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ValueError(f"rollout shares are per cents in a row, got {given!r}; shares=(5, 25, 50)")
    return tuple(_number("rollout shares", share) for share in given)


def _unit(given: Any) -> Unit:
    try:
        return Unit(given)
    except ValueError as error:
        raise ValueError(f"Canary(unit=…) is one of {', '.join(map(repr, map(str, Unit)))}, got {given!r}") from error


def _number(what: str, given: Any) -> float:
    """Return *given* as a float; raises `ValueError` for what is no number that can be compared with."""
    if not isinstance(given, Real) or isinstance(given, bool) or not isfinite(given):
        raise ValueError(f"{what}: a number is needed, got {given!r}; write it without quotes, like 0.5 or 60")
    return float(given)


@dataclass(frozen=True)
class Acceptance:
    """What a version must do in staging: contract, golden requests, the project's tests, a short load smoke."""

    tests: str = ""
    golden: int = 200
    load_requests: int = 300
    load_connections: int = 4
    p99: float = 1.0
    budget: float = 300.0

    def __post_init__(self) -> None:
        _positive("Acceptance", self, "golden", "load_requests", "load_connections", "p99", "budget")


@dataclass(frozen=True)
class Budgets:
    """The most time, in seconds, that each part of a delivery may take; and memory for user code, in MB."""

    describe: float = 60.0
    data: float = 600.0
    tests: float = 600.0
    train: float = 3600.0
    start: float = 120.0
    memory: int = 0

    def __post_init__(self) -> None:
        _positive("Budgets", self, "describe", "data", "tests", "train", "start")
        if self.memory != 0:
            _positive("Budgets", self, "memory")


def _positive(what: str, value: object, *names: str) -> None:
    for name in names:
        if _number(f"{what}({name}=…)", getattr(value, name)) <= 0:
            raise ValueError(f"{what}({name}=…) must be above 0, got {getattr(value, name):g}")


AT_ONCE = Canary(shares=(), keep_warm=0.0, warm_up=0)
"""The policy of a way back, and of a place without live traffic: everything at once."""
