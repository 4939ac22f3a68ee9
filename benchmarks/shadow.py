"""How many labelled pairs a shadow's verdict takes, and how often it is wrong.

Run as a script; `--runs 1000` for less noise.  Every line is simulated with a seed and looked at after every 20 pairs:
how often it ended so, and after how many labels (median and nine of ten).  `BROKE` pairs were alike before in the late
ones, and only those after are counted.
"""

from __future__ import annotations

import argparse
import time
from math import log
from typing import NamedTuple

import numpy as np

from modelcd.domain.eprocess import log_sum
from modelcd.domain.shadow.judge import Paired, evidence, start, update
from modelcd.domain.shadow.pairs import Batch, Labelled, Pairing, Served

LOOK, BROKE = 20, 10_000
LIMIT = 20_000


class Scenario(NamedTuple):
    """Which part only the champion (`lost`) or only the challenger (`won`) gets right, and what is counted."""

    name: str
    lost: float
    won: float
    margin: float
    counts: str
    checks: int = 1
    most: int = LIMIT
    late: bool = False


SCENARIOS = (
    Scenario(".90 -> .87, 4 % differ", 0.035, 0.005, 0.02, "fail"),
    Scenario(".90 -> .87, 7 % differ", 0.05, 0.02, 0.02, "fail"),
    Scenario(".90 -> .87, 13 % differ", 0.08, 0.05, 0.02, "fail"),
    Scenario(".90 -> .87, 7 % differ, three checks", 0.05, 0.02, 0.02, "fail", checks=3),
    Scenario(".90 -> .87, 7 % differ, after 10,000 alike", 0.05, 0.02, 0.02, "fail", late=True),
    Scenario("alike, 7 % differ, margin 2 points", 0.035, 0.035, 0.02, "pass"),
    Scenario("alike, 7 % differ, margin 3 points", 0.035, 0.035, 0.03, "pass"),
    Scenario("alike, 2 % differ, margin 2 points", 0.01, 0.01, 0.02, "pass"),
    Scenario("alike, 7 % differ: false alarms", 0.035, 0.035, 0.005, "alarm", most=6_000),
    Scenario("alike, 2 % differ: false alarms", 0.01, 0.01, 0.005, "alarm", most=6_000),
    Scenario("on the margin of 2 points, 7 % differ: false passes", 0.045, 0.025, 0.02, "pass", most=6_000),
    Scenario("on the margin of 2 points, 2 % differ: false passes", 0.02, 0.0, 0.02, "pass", most=6_000),
    Scenario("half the margin of 2 points, 7 % differ", 0.04, 0.03, 0.02, "fail", most=6_000),
)


def pairs(chance: np.random.Generator, lost: float, won: float, n: int) -> Batch:
    """Return *n* labelled pairs whose decisions follow from who is right."""
    kinds = chance.choice([1, -1, 0], n, p=[lost, won, 1 - lost - won])
    right, labels = chance.random(n) < 0.9, chance.random(n) < 0.5
    old = np.where(kinds == 0, right, kinds == 1)
    new = np.where(kinds == 0, right, kinds == -1)
    scores = [np.where(truth == labels, 0.8, 0.2) for truth in (old, new)]
    return Batch((1, 2), Served(*scores), Labelled(*scores, old.astype(float), new.astype(float)))


def reached(state: Paired, counts: str) -> bool:
    """Say whether the outcome that is counted is there."""
    if counts == "pass":
        return all(state.granted[0])
    shares, counted = evidence(state)
    return log_sum(shares if counts == "alarm" else counted) >= log(1 / state.policy.alpha)


def run(scenario: Scenario, seed: int) -> int | None:
    """Return how many labels it took; None if it never ended so."""
    chance, more = np.random.default_rng(seed), {"disagreement": 0.9, "shift": 0.9} if scenario.checks == 3 else {}
    state, alike = start(Pairing(1, 2, success=scenario.margin, **more)), (scenario.lost + scenario.won) / 2
    for _ in range(BROKE // 500 if scenario.late else 0):
        state = update(state, pairs(chance, alike, alike, 500))
    for n in range(LOOK, scenario.most + 1, LOOK):
        state = update(state, pairs(chance, scenario.lost, scenario.won, LOOK))
        if reached(state, scenario.counts):
            return n
    return None


def main() -> None:
    """Print one line per scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    print(f"{'scenario':<55} {'counted':<8} {'share':>7} {'median':>8} {'9 of 10':>8}")
    for scenario in SCENARIOS:
        if args.only not in scenario.name:
            continue
        began = time.perf_counter()
        took = [run(scenario, seed) for seed in range(args.runs)]
        ended = [n for n in took if n is not None]
        low, high = (np.quantile([n or np.inf for n in took], q, method="lower") for q in (0.5, 0.9))
        share = f"{100 * len(ended) / len(took):.1f} %"
        spent = time.perf_counter() - began
        print(
            f"{scenario.name:<55} {scenario.counts:<8} {share:>7} {low:>8.0f} {high:>8.0f}   {spent:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
