"""Evidence about the mean of bounded values of one and the same request, that may be looked at after every batch.

What two versions answer to the same request makes one value: who of them was right (-1, 0, 1), whether they decided
differently (0, 1), how far apart their scores are.  A player bets against "the mean is at most m": he puts a part f of
his money on an asset worth (x - low) / (m - low), whose expectation is at most 1 as long as that is true, and keeps the
rest (Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*, arXiv 2010.09686).  No other
bet against a mean does better than some bet of this form.  For x of -1, 0, 1 and m = 0 it is McNemar's test as a
sequential likelihood ratio: values of 0 change nothing.

The trade-off: f is not learned; many of them play and their money is averaged.  Then all evidence, for every null and
both directions, is a function of three sums, so the state is three numbers, cost does not grow with the requests seen,
and neither the order of values nor their division into batches matters.  For values of -1, 0 and 1 the sums say all
there is.  For others they give a lower bound of the money (Fan, Grama and Liu, *Exponential inequalities for
martingales with applications*, EJP 2015), which is as valid and, for small bets, hardly less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, log, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelcd.domain.eprocess import log_sum

Floats = NDArray[np.float64]

BETS: Floats = ((np.arange(16) + 0.5) / 16) ** 2
"""The parts of their money that the players bet: from 0.1 % to 94 %, denser where effects are small."""

AT_ONCE = 2 / 3
"""The part of the money that plays from the first value on; the rest enters at the late starts."""

PACE = 500
"""A late start opens with each so many values."""

REGRET = 1.5
"""How far, in nats, the average of the bets is usually behind the best of them."""


class Sums(NamedTuple):
    """How many values there were, their sum, and the sum of their squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Add the values of *other*."""
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def minus(self, earlier: Sums) -> Sums:
        """Take away the values of *earlier*."""
        return Sums(self.n - earlier.n, self.total - earlier.total, self.squares - earlier.squares)

    @property
    def mean(self) -> float:
        """The mean; 0 of nothing."""
        return self.total / self.n if self.n else 0.0


NOTHING = Sums()


class Span(NamedTuple):
    """Where values lie: from `low` to `high`, and whether all of them are -1, 0 or 1 (`whole`)."""

    low: float
    high: float
    whole: bool = False


SIGNED = Span(-1.0, 1.0, True)
RATE = Span(0.0, 1.0, True)
BOUNDED = Span(-1.0, 1.0)


def summed(values: Floats) -> Sums:
    """Return the sums of *values*."""
    return Sums(len(values), float(values.sum()), float((values * values).sum()))


def log_wealths(sums: Sums, span: Span, mean: float, *, above: bool) -> Floats:
    """Return the logarithm of what each of `BETS` has made of 1 against "the true mean is at most *mean*".

    With *above* false it is against "at least *mean*".  Under the null the exponential of each has an expectation of
    at most 1 (exact for whole values, a lower bound otherwise).  *mean* lies strictly inside *span*.
    """
    seen, where, edge = (sums, span, mean) if above else (_turned(sums), _mirrored(span), -mean)
    return np.asarray(_wealths(np.array([seen]), where, np.array([edge]))[0])


def log_odds(sums: Sums, span: Span, mean: float, *, above: bool) -> float:
    """Return the evidence against "the true mean is at most *mean*" (*above* false: at least), all bets averaged."""
    return float(_averaged(log_wealths(sums, span, mean, above=above)))


def _wealths(rows: Floats, span: Span, means: Floats) -> Floats:
    """Return the wealth of each bet (columns) for each row of sums against each mean: one of them, or one per row."""
    n, total, squares = rows.T[:, :, np.newaxis]
    mean = means[:, np.newaxis]
    room = mean - span.low
    if span.whole:
        up, down = (squares + total) / 2, (squares - total) / 2
        # Where -1 cannot be (a rate) its asset is worth nothing; it is never drawn.
        worst = np.maximum(-1 - mean, -room) / room
        return np.asarray(
            up * np.log1p(BETS * ((1 - mean) / room))
            + (n - up - down) * np.log1p(BETS * (-mean / room))
            + down * np.log1p(BETS * worst)
        )
    drift, spread = (total - n * mean) / room, (squares - 2 * mean * total + n * mean * mean) / room**2
    return np.asarray(BETS * drift + (np.log1p(-BETS) + BETS) * np.maximum(spread, 0.0))


def _averaged(wealths: Floats) -> Floats:
    top = wealths.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(wealths - top).mean(axis=-1)))


def _turned(sums: Sums) -> Sums:
    return Sums(sums.n, -sums.total, sums.squares)


def _mirrored(span: Span) -> Span:
    return Span(-span.high, -span.low, span.whole)


def needs(sums: Sums, span: Span, mean: float, bar: float, *, above: bool, usual: Sums) -> int | None:
    """Return about how many more values bring the evidence to *bar* (a logarithm) if they go on like *sums*.

    *usual* is added to what was seen, so that a forecast is possible before any data and does not jump.  A median;
    None when values like these never would.
    """
    if log_odds(sums, span, mean, above=above) >= bar:
        return 0
    likely = sums.plus(usual)
    pace = float(log_wealths(likely, span, mean, above=above).max()) / likely.n
    ahead = float(log_wealths(sums, span, mean, above=above).max())
    return max(1, ceil((bar + REGRET - ahead) / pace)) if pace > 1e-9 else None


def interval(sums: Sums, span: Span, level: float) -> tuple[float, float]:
    """Return limits for the true mean that hold at all times together with confidence 1 - *level*.

    They are the means that the bets have not refuted, half of *level* on each side: exact, not asymptotic.
    """
    bar = log(2 / level)
    return _limit(sums, span, bar), -_limit(_turned(sums), _mirrored(span), bar)


def _limit(sums: Sums, span: Span, bar: float) -> float:
    """Return the highest mean below the estimate that is refuted; what is below it, the true wealth refutes, too."""
    room = sums.mean - span.low
    steps = 2.0 ** -np.arange(24, 0, -1)
    distances = room * np.concatenate([steps, 1 - steps[-2::-1]])
    near, far = 0.0, 0.0
    for _ in range(4):
        means = sums.mean - distances
        inside = (means > span.low) & (means < span.high)
        refuted = _averaged(_wealths(np.array([sums]), span, means[inside])) >= bar
        if not refuted.any():
            break
        first = int(refuted.argmax())
        near, far = float(distances[inside][first - 1]) if first else near, float(distances[inside][first])
        distances = np.linspace(near, far, 64)[1:]
    return sums.mean - far if far else span.low


@dataclass(frozen=True, slots=True)
class Tally:
    """What was seen of one value: everything (`seen`), and how much of it lay before each late start (`starts`).

    A late start is a player who begins with a part of the money when others have long been playing: what was good for
    long and then breaks is not protected by what the early bets lost.  Of the older ones ever fewer are kept (one per
    doubling of age); who is sent off leaves his money behind, which can only make the evidence smaller.
    """

    seen: Sums = NOTHING
    starts: tuple[Sums, ...] = ()

    def after(self, sums: Sums, *, late: bool) -> Tally:
        """Add one batch, after opening the late start that is due (none without *late*)."""
        now, starts = _number(self.seen), self.starts
        if late and now > (_number(starts[-1]) if starts else 0):
            # The start of number k stays for twice as long as the largest power of two that divides k.
            kept = (start for start in starts if now - _number(start) <= 2 * (_number(start) & -_number(start)))
            starts = (*kept, self.seen)
        return Tally(self.seen.plus(sums), starts)

    def evidence(self, span: Span, mean: float, *, above: bool) -> tuple[float, Sums]:
        """Return the evidence (a logarithm) against "at most *mean*", and what was seen since the leading start.

        Money of starts that are still to come lies idle and counts as it is.
        """
        numbers = [_number(start) for start in self.starts]
        stakes = [AT_ONCE, *(_idle(number - 1) - _idle(number) for number in numbers)]
        since = [self.seen, *(self.seen.minus(start) for start in self.starts)]
        where, edge = (span, mean) if above else (_mirrored(span), -mean)
        rows = np.array(since if above else [_turned(sums) for sums in since])
        odds = np.log(stakes) + _averaged(_wealths(rows, where, np.array([edge])))
        idle = log(_idle(numbers[-1] if numbers else 0))
        return log_sum([*map(float, odds), idle]), since[int(odds.argmax())]

    def to_plain(self) -> list[Any]:
        """Return JSON values."""
        return [list(self.seen), *(list(start) for start in self.starts)]

    @classmethod
    def from_plain(cls, plain: Sequence[Sequence[Any]]) -> Tally:
        """Read what `to_plain` wrote."""
        return cls(Sums(*plain[0]), tuple(Sums(*start) for start in plain[1:]))


def _number(seen: Sums) -> int:
    """Return the number of the late start that is due when so much was seen; 0 before the first."""
    return seen.n // PACE


def _idle(number: int) -> float:
    """Return the money that is left for the starts after *number*; what it falls by is the stake of a start."""
    return (1 - AT_ONCE) / sqrt(1 + number)


def log_mean(logs: Sequence[float]) -> float:
    """Return the logarithm of the mean of exponentials; of nothing it is minus infinity."""
    return log_sum(logs) - log(len(logs)) if logs else -inf
