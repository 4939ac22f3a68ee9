"""How many labelled pairs a shadow's verdict takes, and how often it is wrong.

Run as a script; `--runs 1000` for less noise.  Every line is simulated with seeds and looked at after every 50 pairs:
how often it ended so, and after how many labels (median and nine of ten).  What breaks late was alike for 10,000 pairs
before, and only those after are counted.  The bets are the product's; the columns of pairs are left out, for speed.
"""

from __future__ import annotations

import argparse
import time
from math import log
from typing import NamedTuple

import numpy as np

from modelcd.domain.shadow.judge import parts
from modelcd.domain.shadow.means import Sums, Tally
from modelcd.domain.shadow.pairs import Pairing

LOOK, ALIKE, LIMIT = 50, 10_000, 20_000


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
    Scenario("alike, 7 % differ: false alarms", 0.035, 0.035, 0.005, "alarm", most=10_000),
    Scenario("alike, 2 % differ: false alarms", 0.01, 0.01, 0.005, "alarm", most=10_000),
    Scenario("on the margin of 2 points, 7 % differ: false passes", 0.045, 0.025, 0.02, "pass", most=10_000),
    Scenario("on the margin of 2 points, 2 % differ: false passes", 0.02, 0.0, 0.02, "pass", most=10_000),
    Scenario("half the margin of 2 points, 7 % differ", 0.04, 0.03, 0.02, "fail", most=10_000),
)


def pairs(chance: np.random.Generator, lost: float, won: float) -> Sums:
    """Return the sums of a look's pairs."""
    few, others, _ = chance.multinomial(LOOK, [lost, won, 1 - lost - won])
    return Sums(LOOK, float(few - others), float(few + others))


def run(scenario: Scenario, seed: int) -> int | None:
    """Return how many labels it took; None if it never ended so."""
    chance, policy = np.random.default_rng(seed), Pairing(1, 2, success=scenario.margin)
    part, tally, alike = parts(policy)[0], Tally(), (scenario.lost + scenario.won) / 2
    for _ in range(ALIKE // LOOK if scenario.late else 0):
        tally = tally.after(pairs(chance, alike, alike), late=True)
    for n in range(LOOK, scenario.most + 1, LOOK):
        tally = tally.after(pairs(chance, scenario.lost, scenario.won), late=True)
        if scenario.counts == "pass":
            ended = part.certificates(tally)[0] >= log(1 / policy.beta)
        else:
            odds, since = part.against(tally)
            beyond = scenario.counts == "alarm" or since.mean >= scenario.margin
            ended = odds >= log(scenario.checks / policy.alpha) and beyond
        if ended:
            return n
    return None


def main() -> None:
    """Print one line per scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
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
