"""The traffic that the judge and its peers are measured on: counts per tick of two versions, drawn with seeds.

A `Traffic` says what is true of both versions, stretch by stretch; `record` draws one run of it, for each tick the
requests, failures, latencies and labels of both arms.  Everything that decides, ours or a peer's, gets the same
recordings.  Counts of a tick are drawn at once (binomial, multinomial over the latency buckets), which is the same as
request by request and a hundred times faster.

1,000 requests a minute reach both versions together; a tick is 100 requests unless said.  Latencies are lognormal,
with a median of 120 ms, p90 of 228 ms and p99 of 384 ms for a healthy version, so that the peers' 500 ms
lie between a healthy version and one whose p99 is 1.5 times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from modelcd.domain.samples import LATENCY_GRID

PER_MINUTE = 1000
"""Requests a minute, both arms together."""

MEDIAN, DEVIATION = 0.120, 0.5
"""Of the latencies, in seconds and in logarithms."""

P90, P99 = (MEDIAN * float(np.exp(DEVIATION * z)) for z in (1.2815515655446004, 2.3263478740408408))

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """What is true of one version: rates of failures and of wrong answers, and its latencies.

    All latencies are `slow` times the healthy ones.  Two ways to a longer p99 with the same median: all of the
    distribution gets `wide` until p99 is that many times as long, or only what is above p90, the `tail`.
    """

    errors: float = 0.02
    wrong: float = 0.10
    slow: float = 1.0
    wide: float = 1.0
    tail: float = 1.0


class Span(NamedTuple):
    """A stretch of *requests* (both arms) with the challenger at *share* (a fraction)."""

    requests: int
    share: float
    baseline: Arm
    challenger: Arm


@dataclass(frozen=True)
class Labelling:
    """Which part of the answers gets a label, and after how many requests (both arms).

    With `spread`, delays are exponential with that mean instead of all the same.  `wrong_delay` is for wrong answers,
    where that is another one: users complain sooner than they praise.
    """

    part: float = 0.20
    delay: int = 10 * PER_MINUTE
    wrong_delay: int | None = None
    spread: bool = False


@dataclass(frozen=True)
class Traffic:
    """What happens, by stretches; *name* and a seed give the same recording always.

    `about` names what is of interest: errors (always counted), latency, accuracy (counted only then).
    """

    name: str
    spans: tuple[Span, ...]
    tick: int = 100
    about: tuple[str, ...] = ("errors",)
    labels: Labelling = Labelling()
    grid: tuple[float, ...] = LATENCY_GRID

    @property
    def requests(self) -> int:
        """All requests of both arms."""
        return sum(span.requests for span in self.spans)


@dataclass(frozen=True)
class Recording:
    """One run; arrays by tick and arm (0 is the baseline, 1 the challenger).

    `stage` counts the shares there have been; labels are by tick of arrival, stage of serving and arm.
    """

    traffic: Traffic
    seed: int
    share: NDArray[np.float64]
    stage: Counts
    requests: Counts
    failures: Counts
    latencies: Counts | None
    labels: Counts | None
    wrong: Counts | None

    @property
    def ended(self) -> Counts:
        """Requests of both arms up to the end of each tick."""
        return np.cumsum(self.requests.sum(axis=1))


MOST = 100_000
"""Requests of a run, unless said."""


def steady(
    name: str, share: float, challenger: Arm, baseline: Arm | None = None, about: tuple[str, ...] = ("errors",)
) -> Traffic:
    """Return traffic in which nothing changes; without a *baseline* both arms are the same."""
    return Traffic(f"{name}, {100 * share:g} %", (Span(MOST, share, baseline or challenger, challenger),), about=about)


def peeked(traffic: Traffic, tick: int) -> Traffic:
    """Return *traffic* counted, and looked at, every *tick* requests."""
    return replace(traffic, name=f"{traffic.name} every {tick}", tick=tick)


@lru_cache
def buckets(arm: Arm, grid: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the chance of each bucket of *grid* for such a version."""
    edges = np.asarray(grid) / arm.slow
    power = np.log(arm.tail * P99 / P90) / np.log(P99 / P90)
    edges = np.where(edges > P90, P90 * (edges / P90) ** (1 / power), edges)
    deviation = DEVIATION * np.log(arm.wide * P99 / MEDIAN) / np.log(P99 / MEDIAN)
    return np.diff(np.concatenate(([0.0], ndtr(np.log(edges / MEDIAN) / deviation), [1.0])))


@lru_cache(maxsize=2)
def record(traffic: Traffic, seed: int) -> Recording:
    """Draw the run *seed* of *traffic*."""
    chance = np.random.default_rng((crc32(traffic.name.encode()), seed))
    spans = [span for span in traffic.spans for _ in range(span.requests // traffic.tick)]
    share = np.array([span.share for span in spans])
    stage = np.concatenate(([0], np.cumsum(np.diff(share) != 0)))
    challenger = chance.binomial(traffic.tick, share)
    requests = np.stack([traffic.tick - challenger, challenger], axis=1)
    arms = [(span.baseline, span.challenger) for span in spans]
    failures = chance.binomial(requests, [[arm.errors for arm in pair] for pair in arms])
    latencies = None
    if "latency" in traffic.about:
        chances = np.array([[buckets(arm, traffic.grid) for arm in pair] for pair in arms])
        latencies = chance.multinomial(requests, chances)
    labels = wrong = None
    if "accuracy" in traffic.about:
        labels, wrong = _labels(chance, traffic, requests, stage, [[arm.wrong for arm in pair] for pair in arms])
    return Recording(traffic, seed, share, stage, requests, failures, latencies, labels, wrong)


def _labels(
    chance: np.random.Generator, traffic: Traffic, requests: Counts, stage: Counts, rates: Sequence[Sequence[float]]
) -> tuple[Counts, Counts]:
    """Return the labels, and the wrong ones of them, by tick of arrival; what arrives after the end is not there."""
    labelling = traffic.labels
    labelled = chance.binomial(requests, labelling.part)
    wrong = chance.binomial(labelled, rates)
    sooner = labelling.delay if labelling.wrong_delay is None else labelling.wrong_delay
    right_at = _arrived(chance, labelled - wrong, stage, labelling.delay / traffic.tick, labelling.spread)
    wrong_at = _arrived(chance, wrong, stage, sooner / traffic.tick, labelling.spread)
    return right_at + wrong_at, wrong_at


def _arrived(chance: np.random.Generator, served: Counts, stage: Counts, delay: float, spread: bool) -> Counts:
    ticks, stages = len(served), int(stage[-1]) + 1
    when = np.repeat(np.arange(ticks), served.sum(axis=1))
    arm = np.concatenate([np.repeat((0, 1), pair) for pair in served])
    lags = chance.exponential(delay, len(when)).astype(int) if spread else np.full(len(when), round(delay))
    here = when + lags < ticks
    at = np.zeros((ticks, stages, 2), dtype=np.int64)
    np.add.at(at, ((when + lags)[here], stage[when[here]], arm[here]), 1)
    return at
