"""What `benchmarks/judge.py` measures with: its traffic, the rules of others, and what it says of a number of runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import exp, inf, log
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import norm, rankdata

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from goals import Case, Ending, Goal, Judged, errors, fixed_n, middle, part  # noqa: E402
from judge import TABLES, endings_of, written  # noqa: E402
from peers import Kayenta, Peeked, Window, high, quantile, worse  # noqa: E402
from streams import Arm, Labelling, Recording, Span, Traffic, record, steady  # noqa: E402

from modelcd.domain.samples import BUCKETS, LATENCY_GRID  # noqa: E402
from modelcd.domain.verdict import Verdict  # noqa: E402


def endings(*requests: float) -> list[Ending]:
    """Rollbacks after so many requests, half of them the challenger's."""
    return [Ending(Verdict.FAIL if n < inf else Verdict.INCONCLUSIVE, n, n / 2) for n in requests]


# -- numbers of runs ---------------------------------------------------------------------------------------------------


def test_a_test_that_looks_once_needs_what_the_textbook_says() -> None:
    assert fixed_n(0.04, 0.02, 0.25) == pytest.approx(3573, rel=1e-3)
    assert fixed_n(0.30, 0.02, 0.05) == pytest.approx(171, rel=1e-2)


def test_a_hundred_runs_without_a_mistake_leave_room_for_three_and_a_half_in_a_hundred() -> None:
    found = part(endings(*[inf] * 100), Verdict.FAIL)

    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_the_limits_of_a_median_hold_it_in_nineteen_of_twenty_samples() -> None:
    chance, held = np.random.default_rng(1), 0
    for _ in range(1000):
        found = middle(endings(*chance.exponential(1000, 41)), Verdict.FAIL)
        held += found.low <= 1000 * log(2) <= found.high

    assert held >= 930


def test_one_run_tells_nothing_of_a_median() -> None:
    found = middle(endings(500), Verdict.FAIL)

    assert found == (500, 0, inf)


@pytest.mark.parametrize(
    ("requests", "said"),
    [((100,) * 40, "ok"), ((900,) * 40, "missed"), ((100, 900) * 20, "open"), ((100, inf) * 20, "open")],
)
def test_a_goal_is_kept_or_missed_only_when_the_runs_can_tell(requests: tuple[float, ...], said: str) -> None:
    goal = Goal(4, "", Case(steady("", 0.5, Arm()), Judged((errors(1),))), Verdict.FAIL, 500)

    assert goal.said(goal.measured(endings(*requests)), goal.goal) == said


# -- traffic -----------------------------------------------------------------------------------------------------------


def test_the_same_name_and_seed_draw_the_same_traffic() -> None:
    traffic = steady("drawn", 0.25, Arm(), about=("errors", "latency", "accuracy"))
    one, same, other = (record.__wrapped__(traffic, seed) for seed in (1, 1, 2))

    for name in ("requests", "failures", "latencies", "labels", "wrong"):
        assert (getattr(one, name) == getattr(same, name)).all()
        assert (getattr(one, name) != getattr(other, name)).any()


def test_what_is_drawn_is_what_was_said() -> None:
    traffic = steady("true", 0.25, Arm(0.04, slow=1.5), Arm(), about=("errors", "latency"))
    drawn = record(traffic, 0)
    assert drawn.latencies is not None
    baseline, challenger = drawn.failures.sum(axis=0) / drawn.requests.sum(axis=0)
    medians = quantile(drawn.latencies.sum(axis=0), 0.5)

    assert drawn.requests.sum(axis=0) == pytest.approx([75_000, 25_000], rel=0.02)
    assert (baseline, challenger) == pytest.approx((0.02, 0.04), rel=0.1)
    assert medians == pytest.approx([0.120, 0.180], rel=0.02)


@pytest.mark.parametrize("arm", [Arm(wide=1.5), Arm(tail=1.5)])
def test_a_longer_p99_leaves_the_median_alone(arm: Arm) -> None:
    drawn = record(steady(f"{arm}", 0.5, arm, Arm(), about=("latency",)), 0)
    assert drawn.latencies is not None
    both = drawn.latencies.sum(axis=0)

    assert quantile(both, 0.5) == pytest.approx([0.120, 0.120], rel=0.02)
    assert quantile(both, 0.99) == pytest.approx([0.384, 0.576], rel=0.05)


def test_labels_come_late_and_under_the_share_their_requests_were_served_at() -> None:
    spans = tuple(Span(1000, share, Arm(), Arm()) for share in (0.05, 0.5))
    drawn = record(Traffic("late labels", spans, about=("accuracy",), labels=Labelling(delay=500)), 0)
    assert drawn.labels is not None

    assert not drawn.labels[:5].any()
    assert drawn.labels[5:15, 0].any(axis=1).all() and not drawn.labels[5:15, 1].any()
    assert drawn.labels[15:, 1].any(axis=1).all() and not drawn.labels[15:, 0].any()


def test_complaints_come_before_praise() -> None:
    labels = Labelling(delay=2000, wrong_delay=200, spread=True)
    drawn = record(replace(steady("sooner", 0.5, Arm(), about=("accuracy",)), labels=labels), 0)
    assert drawn.labels is not None and drawn.wrong is not None

    early, late = (drawn.wrong[ticks].sum() / drawn.labels[ticks].sum() for ticks in (slice(0, 5), slice(500, None)))
    assert early > 0.2
    assert late == pytest.approx(0.10, abs=0.01)


# -- the rules of others -----------------------------------------------------------------------------------------------


def minutes(*failing: float) -> Recording:
    """Minutes in which this part of both arms' requests fails, for certain."""
    requests = np.full((10 * len(failing), 2), 50)
    failures = np.repeat([[round(50 * part)] * 2 for part in failing], 10, axis=0)
    traffic = steady("minutes", 0.5, Arm())
    share, stage = np.full(len(requests), 0.5), np.zeros(len(requests), dtype=int)
    return Recording(traffic, 0, share, stage, requests, failures, None, None, None)


def test_flagger_never_forgives_a_failed_check() -> None:
    flagger = Window(1, 3, errors=0.01, good=4)

    assert flagger(minutes(0, 0.1, 0, 0.1, 0, 0.1, 0)) == (Verdict.FAIL, 6000, 3000)
    assert flagger(minutes(0, 0.1, 0, 0.1, 0, 0, 0.1)) == (Verdict.PASS, 6000, 3000)


def test_argo_promotes_what_has_not_failed_too_often_when_its_time_is_up() -> None:
    argo = Window(1, 2, errors=0.05, checks=4)

    assert argo(minutes(0.1, 0, 0, 0, 0.1)).verdict is Verdict.PASS
    assert argo(minutes(0.1, 0, 0, 0.1, 0)) == (Verdict.FAIL, 4000, 2000)
    assert argo(minutes(0.1, 0, 0)).verdict is Verdict.INCONCLUSIVE


def test_kayenta_calls_high_what_its_own_search_for_the_lower_limit_does() -> None:
    chance, seen = np.random.default_rng(3), set()

    def z(shift: float, x: np.ndarray, y: np.ndarray) -> float:
        """What Kayenta finds the roots of, less the quantile."""
        ranks = rankdata(np.concatenate((x - shift, y)))
        off = ranks[: len(x)].sum() - len(x) * (len(x) + 1) / 2 - len(x) * len(y) / 2
        n = len(x) + len(y)
        ties = sum(float(k) ** 3 - k for k in np.unique(ranks, return_counts=True)[1])
        return float((off - np.sign(off) * 0.5) / np.sqrt(len(x) * len(y) / 12 * (n + 1 - ties / (n * (n - 1)))))

    for worse_by in np.repeat((0.0, 0.5, 1.0, 1.5), 25):
        x, y = chance.normal(worse_by, 1, 20), chance.normal(0, 1, 20)
        least, most = x.min() - y.max(), x.max() - y.min()
        lower = brentq(lambda s, x=x, y=y: z(s, x, y) - norm.ppf(0.99), least, most)
        expected = lower > 0.25 * abs(np.median(x[:, None] - y))
        assert high(x, y) == expected
        seen.add(bool(expected))

    assert seen == {True, False}


def test_the_posterior_is_that_of_two_betas() -> None:
    def exceeds(a: int, b: int, c: int, d: int) -> float:
        """The chance that a Beta(a, b) exceeds a Beta(c, d), a sum in closed form for whole numbers."""
        logs = (betaln(c + i, d + b) - log(b + i) - betaln(1 + i, b) - betaln(c, d) for i in range(a))
        return sum(map(exp, logs))

    n, k = np.array([[900.0, 300.0], [95.0, 5.0]]), np.array([[20.0, 12.0], [1.0, 0.0]])

    assert worse(n, k) == pytest.approx([exceeds(13, 289, 21, 881), exceeds(1, 6, 2, 95)], abs=1e-4)


def test_a_peeked_test_alarms_at_a_plain_regression_and_waits_for_ten_failures() -> None:
    drawn = record(steady("plain", 0.5, Arm(0.5), Arm(0.02)), 0)

    for rule in (Peeked(), Peeked(posterior=True)):
        assert rule(drawn).verdict is Verdict.FAIL
        assert drawn.failures.sum(axis=1)[0] >= 10 or rule(drawn).requests > 100
        assert rule(minutes(*[0.0] * 20)).verdict is Verdict.INCONCLUSIVE


def test_a_quantile_lies_inside_its_bucket() -> None:
    counts = np.zeros((1, BUCKETS), dtype=int)
    counts[0, 10] = 100

    assert LATENCY_GRID[9] < quantile(counts, 0.01)[0] < quantile(counts, 0.99)[0] < LATENCY_GRID[10]


@pytest.mark.parametrize("rule", [Window(1, 4, tuned=True), Kayenta(), Peeked(), Peeked(posterior=True)])
def test_every_rule_finds_a_challenger_that_is_much_worse(rule: Window | Kayenta | Peeked) -> None:
    drawn = record(steady("much worse", 0.25, Arm(0.3, 0.4), Arm(), about=("errors", "accuracy")), 0)

    assert rule(drawn).verdict is Verdict.FAIL


# -- what is told ------------------------------------------------------------------------------------------------------


def test_workers_find_what_one_process_finds() -> None:
    cases = [Case(steady("shared", 0.5, Arm(0.3), Arm()), rule) for rule in (Judged((errors(1),)), Peeked())]

    assert endings_of(cases, 12, 2) == endings_of(cases, 12, 1)


def test_a_table_replaces_what_was_between_its_lines_and_nothing_else() -> None:
    document = "before\n<!-- table: one -->\nold\n<!-- end -->\nafter\n<!-- table: two -->\n<!-- end -->\n"

    assert written(document, {"one": "new"}) == document.replace("old", "\nnew\n")
    assert written(written(document, {"one": "a"}), {"one": "b"}) == written(document, {"one": "b"})


def test_a_table_without_a_place_is_said() -> None:
    with pytest.raises(SystemExit, match="no place for 'three'"):
        written("nothing", {"three": "new"})


def test_every_table_has_its_place_in_the_document() -> None:
    document = (BENCHMARKS / "judge.md").read_text(encoding="utf-8")

    assert written(document, dict.fromkeys(TABLES, "filled")).count("filled") == len(TABLES)
