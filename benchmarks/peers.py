"""How others decide about a canary, written anew from their documentation and code, for the same recordings as ours.

- Argo Rollouts (9f8d111d, August 2026): `docs/features/analysis.md` measures the canary's success rate every 5 minutes,
  asks for at least 95 %, and fails when more than `failureLimit: 3` measurements did; its steps take 40 minutes.
- Flagger (15bd6ad5, July 2026): `docs/gitbook/usage/how-it-works.md` and `metrics.md` ask for 99 % success and a p99
  of at most 500 ms in each minute; a failed check is never forgiven, `threshold` of them (10 there, 5 in most
  tutorials) roll back, and 10 good ones (`maxWeight: 50`, `stepWeight: 5`) promote.
- Kayenta (a69573be, April 2025): `MannWhitneyClassifier.scala` with `tolerance = 0.25, confLevel = 0.98` and its
  `MannWhitney.scala`, one critical metric whose rise is bad, on values per minute, judged every minute from the tenth
  on (the window grows, as by default).  Its baseline is as big as the canary, as its best practices ask.
- A z-test of two proportions (one-sided, 1 %) and a posterior (uniform priors, P(worse) > 99 %), each looked at after
  every tick: not a product's rule, but what teams write themselves.  Both wait for ten bad outcomes.

"Tuned" rules know the baseline's true rates and allow just the tolerance more, which is more than any user knows.  A
window without data is left out here, though the originals count it as failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv
from scipy.stats import norm
from streams import P99, PER_MINUTE, Arm, Counts, Recording

from modelcd.domain.samples import LATENCY_GRID
from modelcd.domain.verdict import Verdict

Floats = NDArray[np.float64]


class Ending(NamedTuple):
    """How a run ended: the verdict, requests of both arms until then, and those of the challenger."""

    verdict: Verdict
    requests: float
    exposed: float


UNDECIDED = Ending(Verdict.INCONCLUSIVE, inf, inf)


def ended(verdict: Verdict, recording: Recording, tick: int) -> Ending:
    """Return the ending of a run at the end of *tick*."""
    baseline, challenger = recording.requests[: tick + 1].sum(axis=0).tolist()
    return Ending(verdict, baseline + challenger, challenger)


def tolerated(truth: Arm) -> tuple[float, float, float]:
    """Return the most failures, wrong answers (fractions) and seconds of p99 that a tuned rule allows."""
    more = 0.005 if truth.errors < 0.01 else 0.01 if truth.errors < 0.10 else 0.02
    return truth.errors + more, truth.wrong + 0.02, 1.25 * P99


@dataclass(frozen=True)
class Window:
    """A constant against which each window of the challenger alone is held: Argo Rollouts, Flagger.

    `limit` failed checks roll back.  `good` good checks promote, or `checks` checks of any kind; with neither the run
    is watched to its end.  A metric whose constant is None is not looked at.
    """

    minutes: int
    limit: int
    errors: float | None = None
    p99: float | None = None
    tuned: bool = False
    good: float = inf
    checks: float = inf

    def watches(self, about: tuple[str, ...]) -> bool:
        """Say whether this rule sees anything of such traffic."""
        seen = {"errors": self.errors, "latency": self.p99}
        return self.tuned or any(seen.get(metric) is not None for metric in about)

    def __call__(self, recording: Recording) -> Ending:
        """Judge one run."""
        about, truth = recording.traffic.about, recording.traffic.spans[0].baseline
        errors, wrong, p99 = self.errors, None, self.p99
        if self.tuned:
            errors, wrong, p99 = tolerated(truth)
        step = self.minutes * PER_MINUTE // recording.traffic.tick
        failed = np.zeros(len(recording.requests) // step, dtype=bool)
        with np.errstate(invalid="ignore"):
            if "errors" in about and errors is not None:
                failed |= summed(recording.failures, step)[:, 1] / summed(recording.requests, step)[:, 1] > errors
            if recording.latencies is not None and "latency" in about and p99 is not None:
                failed |= quantile(summed(recording.latencies, step)[:, 1], 0.99) > p99
            if recording.labels is not None and recording.wrong is not None and "accuracy" in about and wrong:
                labels, bad = summed(recording.labels.sum(axis=1), step), summed(recording.wrong.sum(axis=1), step)
                failed |= bad[:, 1] / labels[:, 1] > wrong
        back, good = first(np.cumsum(failed) >= self.limit), first(np.cumsum(~failed) >= self.good)
        on = min(good, self.checks - 1)
        if back <= on and back < inf:
            return ended(Verdict.FAIL, recording, int(back + 1) * step - 1)
        return ended(Verdict.PASS, recording, int(on + 1) * step - 1) if on < len(failed) else UNDECIDED


@dataclass(frozen=True)
class Kayenta:
    """Mann and Whitney's test on values per minute, repeated as they grow; `until` so many minutes, then promoted."""

    begin: int = 10
    until: float = inf

    def watches(self, about: tuple[str, ...]) -> bool:
        """Say whether this rule sees anything of such traffic."""
        return bool(about)

    def __call__(self, recording: Recording) -> Ending:
        """Judge one run."""
        step = PER_MINUTE // recording.traffic.tick
        series = self._series(recording, step)
        most = min(len(recording.requests) // step, self.until)
        for minute in range(self.begin, int(most) + 1):
            for baseline, challenger in series:
                base, new = (values[:minute][~np.isnan(values[:minute])] for values in (baseline, challenger))
                if high(new, base):
                    return ended(Verdict.FAIL, recording, minute * step - 1)
        return UNDECIDED if self.until == inf else ended(Verdict.PASS, recording, int(most) * step - 1)

    def _series(self, recording: Recording, step: int) -> list[tuple[Floats, Floats]]:
        chance, about, series = np.random.default_rng(recording.seed), recording.traffic.about, []
        if "errors" in about:
            series.append(matched(chance, summed(recording.requests, step), summed(recording.failures, step)))
        if recording.labels is not None and recording.wrong is not None and "accuracy" in about:
            labels, wrong = (summed(a.sum(axis=1), step) for a in (recording.labels, recording.wrong))
            series.append(matched(chance, labels, wrong))
        if recording.latencies is not None and "latency" in about:
            counts = summed(recording.latencies, step)
            pairs = [(old, min(int(new.sum()), int(old.sum()))) for old, new in counts]
            thinned = np.array([chance.multivariate_hypergeometric(old, size) for old, size in pairs])
            series.append((quantile(thinned, 0.99), quantile(counts[:, 1], 0.99)))
        return series


@dataclass(frozen=True)
class Peeked:
    """A test of two proportions that is made for one look, made after every tick: by `posterior`, else by z."""

    posterior: bool = False
    level: float = 0.01

    def watches(self, about: tuple[str, ...]) -> bool:
        """Say whether this rule sees anything of such traffic."""
        return "errors" in about or "accuracy" in about

    def __call__(self, recording: Recording) -> Ending:
        """Judge one run."""
        about, alarms = recording.traffic.about, [inf]
        if "errors" in about:
            alarms.append(self._alarm(recording.requests, recording.failures))
        if recording.labels is not None and recording.wrong is not None and "accuracy" in about:
            alarms.append(self._alarm(recording.labels.sum(axis=1), recording.wrong.sum(axis=1)))
        back = min(alarms)
        return ended(Verdict.FAIL, recording, int(back)) if back < inf else UNDECIDED

    def _alarm(self, counts: Counts, bad: Counts) -> float:
        """Return the first tick at which the challenger looks worse."""
        n, k = np.cumsum(counts, axis=0).astype(float), np.cumsum(bad, axis=0).astype(float)
        ready = (k.sum(axis=1) >= 10) & (n.min(axis=1) > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            rate, pooled = k / n, k.sum(axis=1) / n.sum(axis=1)
            z = (rate[:, 1] - rate[:, 0]) / np.sqrt(pooled * (1 - pooled) * (1 / n).sum(axis=1))
        if not self.posterior:
            return first(ready & (z > norm.isf(self.level)))
        # The posterior is worth its time only where it can matter.
        near = np.flatnonzero(ready & (z > 1.5))
        for some in np.array_split(near, len(near) // 50 + 1):
            found = first(worse(n[some], k[some]) > 1 - self.level)
            if found < inf:
                return float(some[int(found)])
        return inf


NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


def worse(n: Floats, k: Floats) -> Floats:
    """Return the posterior chance that the challenger's rate is the higher one, by quadrature over the baseline's."""
    rates = betaincinv(k[:, :1] + 1, n[:, :1] - k[:, :1] + 1, (NODES + 1) / 2)
    above = 1 - betainc(k[:, 1:] + 1, n[:, 1:] - k[:, 1:] + 1, rates)
    return np.asarray(above @ WEIGHTS / 2)


def first(hits: NDArray[np.bool_]) -> float:
    """Return the index of the first hit, or infinity."""
    return float(np.argmax(hits)) if hits.any() else inf


def summed(values: Counts, step: int) -> Counts:
    """Return the sums over each *step* ticks."""
    whole = len(values) // step
    return np.asarray(values[: whole * step].reshape(whole, step, *values.shape[1:]).sum(axis=1))


def quantile(counts: Counts, q: float) -> Floats:
    """Return a quantile per row of bucket counts, linear inside a bucket, as Prometheus' histogram_quantile has it."""
    edges = np.concatenate(([0.0], LATENCY_GRID, [LATENCY_GRID[-1]]))
    upto = np.cumsum(counts, axis=1)
    rank = q * upto[:, -1]
    bucket = (upto < rank[:, None]).sum(axis=1)
    rows = np.arange(len(counts))
    inside = counts[rows, bucket]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (rank - (upto[rows, bucket] - inside)) / inside
    return np.asarray(edges[bucket] + part * (edges[bucket + 1] - edges[bucket]))


def matched(chance: np.random.Generator, n: Counts, bad: Counts) -> tuple[Floats, Floats]:
    """Return rates per minute of a baseline as big as the challenger, and of the challenger; NaN without data."""
    size = np.minimum(n[:, 0], n[:, 1])
    with np.errstate(invalid="ignore"):
        thinned = chance.hypergeometric(bad[:, 0], n[:, 0] - bad[:, 0], size) / size
        return thinned, bad[:, 1] / n[:, 1]


def high(challenger: Floats, baseline: Floats, tolerance: float = 0.25, confidence: float = 0.98) -> bool:
    """Say whether Kayenta calls the challenger "High".

    That is when the lower limit of the shift exceeds a quarter of the estimated shift (Hodges and Lehmann); the limit
    falls as the shift grows, so it is enough to test at that quarter.
    """
    if len(challenger) < 2 or len(baseline) < 2:
        return False
    differences = challenger[:, None] - baseline[None, :]
    at = tolerance * abs(float(np.median(differences)))
    nc, nb = differences.shape
    off = (differences > at).sum() + 0.5 * (differences == at).sum() - nc * nb / 2
    if off <= 0.5:
        return False
    _, ties = np.unique(np.concatenate((challenger - at, baseline)), return_counts=True)
    n = nc + nb
    variance = nc * nb / 12 * (n + 1 - float((ties.astype(float) ** 3 - ties).sum()) / (n * (n - 1)))
    return bool(variance > 0 and (off - 0.5) / np.sqrt(variance) > norm.ppf((1 + confidence) / 2))
