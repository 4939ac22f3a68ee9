"""How carefully a version is let in: gates before it serves, guards and a ladder of shares while it does.

These are plain values.  A user writes them in `pipeline.py`; they travel as JSON and are recorded with each release,
so that a verdict can be recomputed long after the file has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from math import isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from modelcd.domain.routing import Unit

T = TypeVar("T")


class Bound(StrEnum):
    """What a gate compares with."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    CHAMPION = "no_worse_than_champion"
    SLICES = "per_slice"


@dataclass(frozen=True)
class Gate:
    """A check on the holdout before a version serves anybody, scored through the server that will serve it.

    A gate needs one bound: `at_least`, `at_most`, `no_worse_than_champion` or `per_slice`.  They are judged by
    confidence bounds, not by the value alone; which statistics each metric gets is in `docs/gates.md`.

    Args:
        metric: A name of `sklearn.metrics`, with or without `_score`; or any name, with a *function* of your own.
        bound: Set by the methods below, as are *limit*, *margin*, *column* and *min_rows*.
        limit: In the metric's own unit.
        margin: In the metric's own unit.
        column: A column of the holdout.
        min_rows: A number of rows.
        confidence: With what confidence a claim is made, above 0.5 and below 1.
        higher_is_better: The direction of a *function* of your own; scikit-learn's metrics know theirs.
        function: `(truth, scores) -> float`, called with two numpy arrays, one entry per row of the holdout.

    Examples:
        >>> from modelcd import Gate
        >>> gates = [
        ...     Gate("roc_auc").at_least(0.8),
        ...     Gate("roc_auc").no_worse_than_champion(margin=0.01),
        ...     Gate("roc_auc", confidence=0.99).per_slice("carrier"),
        ... ]

        A metric of your own:

        >>> def cost(truth, scores):
        ...     return float((5.0 * truth * (scores < 0.5) + (1 - truth) * (scores >= 0.5)).mean())
        >>> Gate("cost", function=cost, higher_is_better=False).at_most(0.4).limit
        0.4
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

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise ValueError(
                f"Gate(metric=…): a name is needed, got {self.metric!r}; one of your own: Gate(name, function=f)"
            )

    def at_least(self, limit: float) -> Gate:
        """Require *limit* or more, with confidence: a value that may have reached it by luck is inconclusive.

        Args:
            limit: In the metric's own unit.

        Raises:
            ValueError: *limit* is not a finite number.

        Examples:
            >>> Gate("accuracy").at_least(0.9).limit
            0.9
        """
        return replace(self, bound=Bound.AT_LEAST, limit=_number(f"gate {self.metric!r}", limit))

    def at_most(self, limit: float) -> Gate:
        """Require *limit* or less, with confidence: a value that may have kept it by luck is inconclusive.

        Args:
            limit: In the metric's own unit.

        Raises:
            ValueError: *limit* is not a finite number.

        Examples:
            >>> Gate("mean_absolute_error").at_most(12.5).limit
            12.5
        """
        return replace(self, bound=Bound.AT_MOST, limit=_number(f"gate {self.metric!r}", limit))

    def no_worse_than_champion(self, margin: float = 0.0) -> Gate:
        """Require that it is worse than the champion, on the same rows, by less than *margin*, with confidence.

        Without a champion, the best prediction that does not look at the rows takes its place.

        Args:
            margin: In the metric's own unit.

        Raises:
            ValueError: *margin* is not a finite number.

        Examples:
            >>> Gate("roc_auc").no_worse_than_champion(margin=0.01).margin
            0.01
        """
        return replace(self, bound=Bound.CHAMPION, margin=_number(f"gate {self.metric!r}", margin))

    def per_slice(self, column: str, *, margin: float = 0.05, min_rows: int = 100) -> Gate:
        """Compare with the champion for each value of *column*.

        It passes when no value is shown to be worse by *margin* and at least half of the rows have a value that is
        shown not to be.  Both claims are corrected for the number of values (Holm, 1979).

        Args:
            column: A column of the holdout.
            margin: In the metric's own unit.
            min_rows: A value of *column* with fewer rows than this is not judged.

        Raises:
            ValueError: *margin* is not a finite number.

        Examples:
            >>> Gate("roc_auc").per_slice("carrier", margin=0.03, min_rows=200).column
            'carrier'
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
    """A live metric, challenger against champion at the same time, with a tolerance; or against a limit of its own.

    What the functions of `guard` return.  With a *limit* (an SLO) nothing is compared.

    Args:
        name: What it is called in `status` and `explain`; unique within a rollout.
        kind: What it watches: errors, latency, success (yes or no, by labels) or metric (a number, by labels).
        margin: The tolerated difference: a fraction for errors and success (0.01 is one percentage point), in the
            metric's own unit for a number between *low* and *high*.
        ratios: Of latency, pairs of a quantile and its tolerated ratio to the champion's.
        grace: Of latency, how many seconds slower is tolerated whatever the ratio: a version with a small share has
            colder caches, and that is a large part of a few milliseconds.
        function: `(score, label) -> bool`, or `-> float` for a metric.
        higher_is_better: The direction of success and metric.
        low: The least value of a metric.
        high: The greatest value of a metric.
        limit: A rate, a mean, or for latency the seconds that *quantile* may reach.
        quantile: The quantile of latency that a *limit* is about, between 0 and 1.
        label: The kind of label that *function* takes, as in `"bool"` or `"list[float]"`.
        classes: The labels that there are, where these are classes.
        on_holdout: Whether *function* is tried on the holdout before anything is served; see `live_only`.

    Raises:
        ValueError: A margin, ratio or limit lies where it cannot be meant.

    Examples:
        >>> from modelcd import guard
        >>> guard.latency().name, guard.latency(p99=1.2).ratios
        ('latency', ((0.99, 1.2),))
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
    on_holdout: bool = True

    def __post_init__(self) -> None:
        check_kinds("guard", self)
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
        """Return an absolute guard: at most *limit*, whatever the champion does.

        When the champion breaks it too, the environment is to blame and not the challenger: the release holds.

        Args:
            limit: A fraction for errors, seconds for latency, the metric's own unit for a metric.
            quantile: The quantile of latency that the limit is about, between 0 and 1.

        Raises:
            ValueError: *limit* cannot be reached, or more is better for this guard.

        Examples:
            >>> guard.latency().at_most(0.3, quantile=0.99).name
            'latency at most 0.3'
        """
        if self.kind in FROM_LABELS and self.higher_is_better:
            raise ValueError(f"guard {self.name}: more is better, so a limit is .at_least({limit:g})")
        return self._limited(limit, "at most", quantile)

    def at_least(self, limit: float) -> Guard:
        """Return an absolute guard: at least *limit*, whatever the champion does.

        Args:
            limit: A fraction for success, the metric's own unit for a metric.

        Raises:
            ValueError: *limit* cannot be reached, or less is better for this guard.

        Examples:
            >>> guard.success(lambda score, label: score == label).at_least(0.8).name
            'success at least 0.8'
        """
        if self.kind not in FROM_LABELS or not self.higher_is_better:
            raise ValueError(f"guard {self.name}: less is better, so a limit is .at_most({limit:g})")
        return self._limited(limit, "at least", 0.99)

    def live_only(self) -> Guard:
        """Return a guard whose function is not tried on the holdout, because its labels are not the target.

        A refund or a complaint is known live only.  That its function is true at any score, nobody notices before.

        Raises:
            ValueError: It is a guard without labels, so nothing of it is tried.

        Examples:
            >>> guard.outcome(lambda score, label: label, name="refunds", higher_is_better=False).live_only().on_holdout
            False
        """
        if self.kind not in FROM_LABELS:
            raise ValueError(f"guard {self.name}: it needs no labels, so there is nothing to try on the holdout")
        return replace(self, on_holdout=False)

    def _limited(self, limit: float, bound: str, quantile: float) -> Guard:
        limit = _number(f"guard {self.name}: a limit", limit)
        name = f"{self.name} {bound} {limit:g}"
        return replace(self, name=name, limit=limit, quantile=quantile, margin=0.0, ratios=(), grace=0.0)

    @property
    def width(self) -> float:
        """How wide the scale of its outcomes is: 1 for rates.

        Examples:
            >>> guard.metric(max, 1.0, name="worth", low=-10, high=10).width
            20.0
        """
        return self.high - self.low if self.kind is GuardKind.METRIC else 1.0

    def badness(self, value: float) -> float:
        """Return a value of a metric on the scale from 0 (best) to 1 (worst).

        Args:
            value: In the metric's own unit.

        Examples:
            >>> guard.metric(max, 1.0, name="worth", low=0, high=10).badness(2.5)
            0.75
        """
        return (self.high - value if self.higher_is_better else value - self.low) / self.width


class OnDoubt(StrEnum):
    """What happens to a release that has found no answer when its time is up.

    Attributes:
        HOLD: It stays at its share and asks a person.
        EXTEND: Another `step_budget`, and another, until the release's `budget` is used up; then it holds.
        ROLL_BACK: All traffic goes back to the champion.

    Examples:
        >>> from modelcd import Canary, OnDoubt, guard
        >>> Canary(guards=[guard.errors()], on_doubt=OnDoubt.EXTEND).on_doubt
        <OnDoubt.EXTEND: 'extend'>
        >>> Canary(guards=[guard.errors()], on_doubt="extend").on_doubt is OnDoubt.EXTEND
        True
    """

    HOLD = "hold"
    EXTEND = "extend"
    ROLL_BACK = "roll_back"


LADDER_TOLERANCE = (5.0, 2.0, 1.0)
"""Tolerances are 5 times, 2 times, once the margin at the third-last, second-last and last step (judge, 4.5)."""


@dataclass(frozen=True)
class Canary:
    """How a version gets to production: step by step under guards, or all at once.

    All times are in seconds.  Budgets count watched time only: a night in which the machine slept uses up none.
    How guards decide is in `docs/judge.md`, what a release will need in `docs/planning.md`.

    Args:
        shares: The ladder: per cent of the traffic, rising, below 100; 100 is added by itself.  `()` is blue/green:
            everything at once, and at once back.
        guards: What is watched on each step, at least one unless *shares* is empty.
        bake: How long each step is watched at least.
        step_budget: How long one step may take; then *on_doubt* applies.
        budget: How long the whole release may take; then *on_doubt* applies.
        start_budget: How long a version may take from its start until it is ready.
        ready_budget: How long a version may be unready once it serves.
        warm_up: How many requests a version is sent before its first share.
        warm_up_budget: How long these may take.
        on_doubt: What happens when time is up and the guards have no answer: `"hold"`, `"extend"` or `"roll_back"`.
        alpha: The chance, at most, that a version which is no worse on any guard is ever rolled back.
        beta: The chance, at most, that a version beyond a tolerance is ever promoted.
        fallback: Whether the champion answers when the challenger fails; the failure counts against the challenger
            all the same.
        keep_warm: How long the old version keeps running after a promotion.
        watch: How long after a promotion late labels, of requests served on the ladder, are still judged; they can
            bring the version before back.  0 is not at all.
        unit: What is assigned to a version and counted, `"request"` or `"user"`; the gateway of a laptop can do
            requests only.

    Raises:
        ValueError: The ladder does not rise, has no guards, or a number lies where it cannot be meant.

    Examples:
        >>> from modelcd import Canary, guard
        >>> Canary(shares=(5, 25, 50), guards=[guard.errors(margin=0.01), guard.latency()], bake=600).shares
        (5.0, 25.0, 50.0)
        >>> Canary(shares=(5, 50, 25), guards=[guard.errors()])
        Traceback (most recent call last):
        ValueError: rollout shares must rise and stay below 100, got (5, 50, 25); ...

        Blue/green:

        >>> Canary(shares=()).shares
        ()
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
            on_doubt: OnDoubt | str = ...,
            alpha: float = ...,
            beta: float = ...,
            fallback: bool = ...,
            keep_warm: float = ...,
            watch: float = ...,
            unit: Unit | str = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        check_kinds("Canary", self)
        object.__setattr__(self, "shares", _shares(self.shares))
        object.__setattr__(self, "guards", members("Canary", "guards", self.guards, "guards=[guard.errors(), …]"))
        for each in self.guards:
            if not isinstance(each, Guard):
                raise ValueError(f"Canary(guards=…) holds {each!r}, which is no guard; guards=[guard.errors(), …]")
        object.__setattr__(self, "unit", _word("unit", Unit, self.unit))
        object.__setattr__(self, "on_doubt", _word("on_doubt", OnDoubt, self.on_doubt))
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
        for name, what in (("watch", "in seconds"), ("keep_warm", "in seconds"), ("warm_up", "a number of requests")):
            if getattr(self, name) < 0:
                raise ValueError(f"Canary({name}=…) is {what}, 0 for none, got {getattr(self, name):g}")

    @property
    def judged_by_labels(self) -> bool:
        """Say whether a guard is fed by labels.

        Examples:
            >>> Canary(guards=[guard.errors()]).judged_by_labels
            False
        """
        return any(guard.kind in FROM_LABELS for guard in self.guards)

    def tolerance_factor(self, step: int) -> float:
        """Return how many times the margin is tolerated at a step: few requests cannot show small differences.

        Args:
            step: Its place on the ladder, from 0.

        Examples:
            >>> rollout = Canary(shares=(5, 25, 50), guards=[guard.errors()])
            >>> [rollout.tolerance_factor(step) for step in range(3)]
            [5.0, 2.0, 1.0]
        """
        from_end = len(self.shares) - 1 - step
        return LADDER_TOLERANCE[max(0, len(LADDER_TOLERANCE) - 1 - from_end)] if from_end >= 0 else 1.0


def _shares(given: Any) -> tuple[float, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ValueError(f"rollout shares are per cents in a row, got {given!r}; shares=(5, 25, 50)")
    return tuple(_number("rollout shares", share) for share in given)


def _word(name: str, words: type[StrEnum], given: Any) -> StrEnum:
    """Return the one of *words* that is *given*; raises `ValueError` naming all of them."""
    try:
        return words(given)
    except ValueError as error:
        known = ", ".join(map(repr, map(str, words)))
        raise ValueError(f"Canary({name}=…) is one of {known}, got {given!r}") from error


def check_kinds(owner: str, value: Any) -> None:
    """Raise `ValueError` for a field of *value* that is none of what its annotation says: number, text, yes or no."""
    for each in fields(value):
        given, kind, what = getattr(value, each.name), str(each.type), f"{owner}({each.name}=…)"
        if kind.endswith(" | None"):
            if given is None:
                continue
            kind = kind.removesuffix(" | None")
        if kind in ("float", "int"):
            _number(what, given)
        if kind == "int" and not isinstance(given, Integral):
            raise ValueError(f"{what}: a whole number is needed, got {given!r}")
        if kind == "bool" and not isinstance(given, bool):
            raise ValueError(f"{what}: yes or no is needed, got {given!r}; write True or False")
        if kind == "str" and not isinstance(given, str):
            raise ValueError(f"{what}: a text is needed, got {given!r}; write it in quotes")


def members(owner: str, name: str, given: Any, example: str) -> tuple[Any, ...]:
    """Return what *given* holds; raises `ValueError` with an *example* for what is no list, a text in particular."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ValueError(f"{owner}({name}=…): a list is needed, got {given!r}; {example}")
    return tuple(given)


def _number(what: str, given: Any) -> float:
    """Return *given* as a float; raises `ValueError` for what is no number that can be compared with."""
    if not isinstance(given, Real) or isinstance(given, bool) or not isfinite(given):
        raise ValueError(f"{what}: a number is needed, got {given!r}; write it without quotes, like 0.5 or 60")
    return float(given)


@dataclass(frozen=True)
class Acceptance:
    """What a version must do in staging: contract, golden requests, the project's tests, a short load smoke.

    Args:
        tests: A folder of pytest tests that get the staging address in `MODELCD_URL`; none when empty.
        golden: How many rows must get the scores that they got at the gates.
        load_requests: How many requests the load smoke sends.
        load_connections: How many it sends at a time.
        p99: The 99th percentile of its latency must be below this, in seconds.
        budget: How long all of it may take, in seconds.

    Raises:
        ValueError: A number is not above 0.

    Examples:
        >>> from modelcd import Acceptance
        >>> Acceptance("acceptance/", p99=0.2).tests
        'acceptance/'
    """

    tests: str = ""
    golden: int = 200
    load_requests: int = 300
    load_connections: int = 4
    p99: float = 1.0
    budget: float = 300.0

    def __post_init__(self) -> None:
        check_kinds("Acceptance", self)
        _positive("Acceptance", self, "golden", "load_requests", "load_connections", "p99", "budget")


@dataclass(frozen=True)
class Budgets:
    """The most time, in seconds, that each part of a delivery may take; and memory for user code, in MB.

    Args:
        data: Reading the rows, `prepare` and the expectations.
        tests: The project's own tests.
        train: Training.
        start: From the start of a model's process at the gates until it is ready.
        memory: Address space of a child process, in MB; 0 is no limit.

    Raises:
        ValueError: A number is not above 0 (for *memory*, is negative).

    Examples:
        >>> from modelcd import Budgets
        >>> Budgets(train=4 * 3600, memory=8_000).train
        14400
    """

    data: float = 600.0
    tests: float = 600.0
    train: float = 3600.0
    start: float = 120.0
    memory: int = 0

    def __post_init__(self) -> None:
        check_kinds("Budgets", self)
        _positive("Budgets", self, "data", "tests", "train", "start")
        if self.memory != 0:
            _positive("Budgets", self, "memory")


def _positive(what: str, value: object, *names: str) -> None:
    for name in names:
        if _number(f"{what}({name}=…)", getattr(value, name)) <= 0:
            raise ValueError(f"{what}({name}=…) must be above 0, got {getattr(value, name):g}")


READING = 60.0
"""Seconds that reading `pipeline.py` may take: what is written there cannot say so."""

ANY_OTHER = "*"
"""In a rollout by environment, what stands for every environment that it does not name."""


def by_environment(rollout: Canary | Mapping[str, Canary]) -> dict[str, Canary]:
    """Return *rollout* by the names of environments; one for all is that of `ANY_OTHER`.

    Examples:
        >>> list(by_environment(Canary()))
        ['*']
    """
    return dict(rollout) if isinstance(rollout, Mapping) else {ANY_OTHER: rollout}


def for_environment(name: str, rollouts: Mapping[str, T]) -> T | None:
    """Return that of *rollouts*, by the names of environments, which holds in the environment *name*, if there is one.

    Examples:
        >>> for_environment("us", {"eu": "slowly", "*": "at once"}), for_environment("us", {"eu": "slowly"})
        ('at once', None)
    """
    return rollouts.get(name, rollouts.get(ANY_OTHER))


AT_ONCE = Canary(shares=(), keep_warm=0.0, warm_up=0)
"""The policy of a way back, and of a place without live traffic: everything at once."""
