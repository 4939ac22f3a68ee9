"""How fast each comparison of a policy is likely to gain evidence: a test per certificate chain of the judge.

The judge's own arithmetic on what is known of the champion, instead of on counts: a challenger is thought of as the
champion made worse by a size, and the pace is the growth of a bet on exactly that.  What nobody knows is not guessed;
only the shape of latencies is assumed where none were recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from math import inf, isfinite, log
from statistics import NormalDist

from modelcd.domain import means
from modelcd.domain.eprocess import Rates, clip, growth
from modelcd.domain.games import MeanLimit, RateLimit, game
from modelcd.domain.means import Guess
from modelcd.domain.policy import FROM_LABELS, Canary, Guard, GuardKind
from modelcd.domain.samples import BUCKETS
from modelcd.domain.series import GRID_RATIO, Series, begin, factors, position_of, slower

DEVIATION = 0.5
"""The deviation of the logarithm of latencies where none were recorded."""

RAREST = 1e-4
"""The least rate of bad outcomes that is planned with: nobody knows that there are none."""

FOLLOWING = 0.75
"""What is left of the pace of a latency certificate because its threshold follows the champion; by simulation."""

SLOWEST = 64.0
"""The largest ratio of latencies that is thought of as a regression."""

RATE, RATIO, NUMBER = "rate", "ratio", "number"
"""How a regression is measured: a fraction more bad outcomes, a ratio of latencies, a metric's own unit."""


@dataclass(frozen=True)
class Traffic:
    """What comes in and what the champion does with it; None, and what is left out, is unknown.

    `per_minute` counts requests of both arms, `errors` is the champion's rate of failed requests, `wrong` its rate of
    bad outcomes among labels by guard, `numbers` mean and variance of its metrics by guard.  `labelled` is the part of
    the requests that get a label, `label_delay` how many seconds later.  `latencies` are the champion's bucket counts
    (`LATENCY_GRID`); without any they are taken as lognormal with `DEVIATION`.
    """

    per_minute: float | None = None
    errors: float | None = None
    wrong: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    labelled: float | None = None
    label_delay: float | None = None
    latencies: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, value, most in (
            ("per_minute", self.per_minute, inf),
            ("errors", self.errors, 1.0),
            ("labelled", self.labelled, 1.0),
            ("label_delay", self.label_delay, inf),
            *((f"wrong of {guard}", rate, 1.0) for guard, rate in self.wrong.items()),
            *((f"variance of {guard}", variance, inf) for guard, (_, variance) in self.numbers.items()),
        ):
            if value is not None and not (isfinite(value) and 0 <= value <= most):
                raise ValueError(f"{name} cannot be {value:g}")
        if self.per_minute == 0 or self.labelled == 0:
            raise ValueError("without requests, or without labels, nothing can be planned")
        if self.latencies and len(self.latencies) != BUCKETS:
            raise ValueError(f"{len(self.latencies)} latency buckets, the grid has {BUCKETS}")


@dataclass(frozen=True)
class Comparison:
    """A comparison that the judge will make, with `per_second` outcomes of both arms that come `delay` seconds late.

    `tolerated` says, by view, what size of regression is tolerated; `most` is the largest there is.  `fine` gives the
    nats per outcome for "not worse than that" of a challenger worse by a size at a share (0 to 1), `worse` those for
    "worse".
    """

    guard: Guard
    measure: str
    per_second: float
    delay: float
    tolerated: tuple[float, ...]
    most: float
    fine: Callable[[float, int, float], float]
    worse: Callable[[float, float], float]

    @property
    def identical(self) -> float:
        """The size of no regression."""
        return 1.0 if self.measure == RATIO else 0.0

    def times(self, multiple: float, view: int) -> float:
        """Return the regression that is *multiple* times what is tolerated."""
        size = self.identical + multiple * (self.tolerated[view] - self.identical)
        return min(size, self.most)

    def certifies(self, size: float, view: int, share: float) -> float:
        """Return the evidence a second, in nats, that a challenger worse by *size* is within the tolerance."""
        return self.per_second * self.fine(size, view, share / 100)

    def condemns(self, size: float, share: float) -> float:
        """Return the evidence a second, in nats, that a challenger worse by *size* is worse."""
        return self.per_second * self.worse(size, share / 100)


def missing(policy: Canary, traffic: Traffic) -> tuple[str, ...]:
    """Name what *policy* cannot be planned without: fields of `Traffic`, and `wrong NAME` for a guard of labels."""
    kinds = {guard.kind for guard in policy.guards}
    judged = [guard.name for guard in policy.guards if guard.kind is GuardKind.SUCCESS]
    needed = {
        "per_minute": traffic.per_minute is None,
        "errors": GuardKind.ERRORS in kinds and traffic.errors is None,
        **{f"wrong {name}": name not in traffic.wrong for name in judged},
        "labelled": not kinds.isdisjoint(FROM_LABELS) and traffic.labelled is None,
        "label_delay": not kinds.isdisjoint(FROM_LABELS) and traffic.label_delay is None,
    }
    return tuple(name for name, lacks in needed.items() if lacks)


def plannable(guard: Guard, traffic: Traffic) -> bool:
    """Say whether *guard* can be planned; no number that a person could give says how a metric or seconds vary."""
    if guard.kind is GuardKind.METRIC:
        return guard.name in traffic.numbers
    if guard.kind is GuardKind.LATENCY and guard.limit is not None:
        return any(traffic.latencies)
    return guard.kind in (GuardKind.ERRORS, GuardKind.SUCCESS, GuardKind.LATENCY)


def tests_of(policy: Canary, traffic: Traffic) -> Iterator[Comparison]:
    """Give the tests of every guard of *policy* that can be planned; nothing may be `missing`."""
    assert traffic.per_minute is not None, "what is missing was refused"
    for guard in policy.guards:
        if not plannable(guard, traffic):
            continue
        pace, delay = traffic.per_minute / 60, 0.0
        if guard.kind in FROM_LABELS:
            pace, delay = pace * (traffic.labelled or 0.0), traffic.label_delay or 0.0
        for series in begin(guard, policy):
            if guard.limit is not None:
                yield _limit(guard, series, traffic, (pace, delay), len(factors(policy)))
            elif guard.kind is GuardKind.LATENCY:
                yield _latency(guard, series, traffic.latencies, pace)
            elif guard.kind is GuardKind.METRIC:
                yield _mean(guard, series, traffic.numbers[guard.name], (pace, delay))
            else:
                yield _rate(guard, series, _bad(guard, traffic), (pace, delay))


_growth = lru_cache(maxsize=65_536)(growth)


def _fine(rates: Rates, share: float, margin: float) -> float:
    return _growth(rates, share, margin) if rates.challenger < rates.baseline + margin else 0.0


def _worse(rates: Rates, share: float) -> float:
    return _growth(rates, share, 0.0) if rates.challenger > rates.baseline else 0.0


def _bad(guard: Guard, traffic: Traffic) -> float:
    rate = traffic.errors if guard.kind is GuardKind.ERRORS else traffic.wrong[guard.name]
    return max(RAREST, rate or 0.0)


def _rate(guard: Guard, series: Series, rate: float, comes: tuple[float, float]) -> Comparison:
    margins = tuple(held.margin for held in series.certificates)

    def rates(size: float) -> Rates:
        return Rates(clip(rate + size), clip(rate))

    return Comparison(
        guard,
        RATE,
        *comes,
        tolerated=margins,
        most=max(0.0, 0.999 - rate),
        fine=lambda size, view, share: _fine(rates(size), share, margins[view]),
        worse=lambda size, share: _worse(rates(size), share),
    )


def _latency(guard: Guard, series: Series, latencies: tuple[int, ...], per_second: float) -> Comparison:
    known = series.refreshed([*accumulate(latencies)]) if any(latencies) else series
    margins, shifts, z = tuple(h.margin for h in known.certificates), known.shifts, NormalDist().inv_cdf(known.quantile)

    def rates(size: float, shift: float) -> Rates:
        beyond = shift - log(size) / log(GRID_RATIO)
        if known.threshold is not None:
            part = slower(latencies, max(0.0, known.threshold + beyond)) / sum(latencies)
        else:
            part = 1 - NormalDist().cdf(z + beyond * log(GRID_RATIO) / DEVIATION)
        return Rates(clip(part), clip(1 - known.quantile))

    return Comparison(
        guard,
        RATIO,
        per_second,
        0.0,
        tolerated=tuple(float(GRID_RATIO**shift) for shift in shifts),
        most=SLOWEST,
        fine=lambda size, view, share: FOLLOWING * _fine(rates(size, shifts[view]), share, margins[view]),
        worse=lambda size, share: _worse(rates(size, 0.0), share),
    )


def _mean(guard: Guard, series: Series, numbers: tuple[float, float], comes: tuple[float, float]) -> Comparison:
    width, margins = guard.width, tuple(held.margin for held in series.certificates)
    mean, variance = guard.badness(numbers[0]), max(1e-9, numbers[1] / width**2)

    def guess(size: float) -> Guess:
        return Guess(mean, size / width, variance, variance)

    def fine(size: float, view: int, share: float) -> float:
        return means.growth(guess(size), share, margins[view]) if size / width < margins[view] else 0.0

    return Comparison(
        guard,
        NUMBER,
        *comes,
        tolerated=tuple(margin * width for margin in margins),
        most=max(0.0, 0.999 - mean) * width,
        fine=fine,
        worse=lambda size, share: means.growth(guess(size), share, 0.0) if size > 0 else 0.0,
    )


def _limit(guard: Guard, series: Series, traffic: Traffic, comes: tuple[float, float], views: int) -> Comparison:
    """Return the test of an absolute limit: what is tolerated is what the champion leaves of it."""
    rules, width, spread = game(guard, series.quantile), 1.0, 0.0
    assert isinstance(rules, (RateLimit, MeanLimit)), "a guard with a limit is held against it"
    if guard.kind is GuardKind.METRIC:
        width = guard.width
        level, spread = guard.badness(traffic.numbers[guard.name][0]), traffic.numbers[guard.name][1] / width**2
    elif guard.kind is GuardKind.LATENCY:
        assert guard.limit is not None, "it has a limit"
        level = slower(traffic.latencies, position_of(guard.limit)) / sum(traffic.latencies)
    else:
        level = _bad(guard, traffic)
    limit = rules.limit

    def pace(size: float, share: float) -> float:
        at = clip(level + size / width)
        return rules.growth(at, share) if isinstance(rules, RateLimit) else rules.growth(at, spread, share)

    # Where the champion breaks the limit as well, the environment is to blame, and nobody is promoted.
    kept = level < limit
    return Comparison(
        guard,
        NUMBER if guard.kind is GuardKind.METRIC else RATE,
        *comes,
        tolerated=(max(0.0, limit - level) * width,) * views,
        most=max(0.0, 0.999 - level) * width,
        fine=lambda size, _view, share: pace(size, share) if level + size / width < limit else 0.0,
        worse=lambda size, share: pace(size, share) if kept and level + size / width > limit else 0.0,
    )
