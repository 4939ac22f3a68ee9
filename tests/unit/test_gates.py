"""The gates: metrics as scikit-learn's, and a pass only on what the rows can show."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from modelcd.domain.gates import Holdout, check
from modelcd.domain.metrics import METRICS, roc_auc
from modelcd.domain.policy import Gate
from modelcd.domain.verdict import Verdict

CLASSES = ("accuracy", "balanced_accuracy", "f1", "precision", "recall", "matthews_corrcoef")
CLASSIFIERS = ("roc_auc", "average_precision", "brier_score_loss", "log_loss")
REGRESSORS = (
    "r2",
    "mean_absolute_error",
    "mean_squared_error",
    "root_mean_squared_error",
    "mean_absolute_percentage_error",
    "median_absolute_error",
)
OF_ONE_NUMBER = [name for name in METRICS if name != "roc_auc_ovr"]
"""Metrics of scores that are lists are in `test_vectors.py`."""


def scored(rows: int, strength: float, seed: int = 0, noise: float = 1.0) -> tuple[Any, Any]:
    """Return truth (30 % ones) and probabilities that know the truth with *strength*."""
    chance = np.random.default_rng(seed)
    truth = (chance.random(rows) < 0.3).astype(int)
    return truth, 1 / (1 + np.exp(-(strength * (truth - 0.5) + noise * chance.normal(size=rows))))


def cost(truth: Any, scores: Any) -> float:
    """Return what is lost per row when late flights are missed ten times as dearly."""
    return float(np.mean(np.where(truth == 1, 10.0 * (scores < 0.5), scores >= 0.5)))


def holdout(rows: int = 4000, challenger: float = 2.0, champion: float | None = 2.0, **columns: Any) -> Holdout:
    """Return versions of the given strengths that see the same rows and share most of their noise."""
    chance = np.random.default_rng(7)
    truth = (chance.random(rows) < 0.3).astype(int)
    shared = chance.normal(size=rows)

    def score(strength: float) -> Any:
        return 1 / (1 + np.exp(-(strength * (truth - 0.5) + shared + 0.1 * chance.normal(size=rows))))

    return Holdout(truth, score(challenger), None if champion is None else score(champion), columns)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("digits", [1, 12], ids=["ties", "no ties"])
def test_a_metric_of_probabilities_is_the_one_of_scikit_learn(name: str, digits: int) -> None:
    for seed in range(20):
        truth, scores = scored(137, 1.5, seed)
        scores = scores.round(digits)
        reference = getattr(sklearn_metrics, f"{name}_score" if not name.endswith("loss") else name)

        assert METRICS[name].function(truth, scores) == pytest.approx(reference(truth, scores), abs=1e-12)


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_metric_of_numbers_is_the_one_of_scikit_learn(name: str) -> None:
    chance = np.random.default_rng(1)
    truth = chance.normal(size=99)
    scores = truth + chance.normal(size=99).round(1)
    reference = getattr(sklearn_metrics, "r2_score" if name == "r2" else name)

    assert METRICS[name].function(truth, scores) == pytest.approx(reference(truth, scores), abs=1e-12)


@pytest.mark.parametrize("name", CLASSES)
def test_probabilities_are_cut_at_a_half(name: str) -> None:
    truth, scores = scored(201, 1.0)

    reference = getattr(sklearn_metrics, name if name == "matthews_corrcoef" else f"{name}_score")
    expected = reference(truth, scores >= 0.5)
    assert METRICS[name].function(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_classes_are_compared_as_they_are() -> None:
    truth = np.array(["late", "early", "late", "late"])

    assert METRICS["accuracy"].function(truth, np.array(["late", "late", "late", "early"])) == 0.5


def test_numbered_classes_that_are_not_probabilities_are_compared_as_they_are() -> None:
    assert METRICS["accuracy"].function(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1])) == 0.75


@pytest.mark.parametrize("words", [True, False])
def test_metrics_of_several_classes_are_those_of_scikit_learn(words: bool) -> None:
    chance = np.random.default_rng(4)
    truth = chance.integers(0, 4, 120)
    guess = np.where(chance.random(120) < 0.6, truth, chance.integers(0, 4, 120))
    if words:
        truth, guess = np.array(list("abcd"))[truth], np.array(list("abcd"))[guess]
    of = {name: METRICS[name].function(truth, guess) for name in ("balanced_accuracy", "matthews_corrcoef", "f1_macro")}

    assert of["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, guess), abs=1e-12)
    assert of["matthews_corrcoef"] == pytest.approx(sklearn_metrics.matthews_corrcoef(truth, guess), abs=1e-12)
    assert of["f1_macro"] == pytest.approx(sklearn_metrics.f1_score(truth, guess, average="macro"), abs=1e-12)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "accuracy", "f1", "precision", "recall", "r2"])
def test_a_metric_may_be_called_as_the_function_of_scikit_learn(name: str) -> None:
    given = holdout()

    assert check(Gate(f"{name}_score").at_least(0.1), given).verdict is check(Gate(name).at_least(0.1), given).verdict
    assert hasattr(sklearn_metrics, f"{name}_score")


def test_a_truth_with_zeros_has_no_error_in_per_cent() -> None:
    finding = check(Gate("mean_absolute_percentage_error").at_most(1), Holdout(np.arange(50.0), np.arange(50.0) + 1))

    assert finding.verdict is Verdict.ERROR
    assert "zeros" in finding.reason


def test_truth_of_booleans_kept_as_objects_is_understood() -> None:
    truth = np.array([True, False, True], dtype=object)

    assert METRICS["accuracy"].function(truth, np.array([0.9, 0.1, 0.2])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("limit", "verdict"), [(0.85, Verdict.PASS), (0.95, Verdict.FAIL)])
def test_a_value_is_held_against_a_limit_from_below(limit: float, verdict: Verdict) -> None:
    assert check(Gate("roc_auc").at_least(limit), holdout()).verdict is verdict


@pytest.mark.parametrize(("limit", "verdict"), [(0.25, Verdict.PASS), (0.05, Verdict.FAIL)])
def test_a_value_is_held_against_a_limit_from_above(limit: float, verdict: Verdict) -> None:
    assert check(Gate("brier_score_loss").at_most(limit), holdout()).verdict is verdict


def test_a_value_that_reaches_its_limit_by_luck_is_inconclusive_and_says_what_would_do() -> None:
    finding = check(Gate("roc_auc").at_least(0.92), holdout(rows=1000))

    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.reason == (
        "roc_auc 0.926 (95 %: 0.905 to 0.942) on 1,000 rows: at least 0.92, but not for certain; "
        f"about {finding.evidence['rows_needed']:,} rows would do; a limit of 0.907 is certain"
    )
    assert check(Gate("roc_auc").at_least(0.907), holdout(rows=1000)).verdict is Verdict.PASS


def test_a_value_that_misses_its_limit_by_bad_luck_is_inconclusive_too() -> None:
    finding = check(Gate("roc_auc").at_least(0.93), holdout(rows=1000))

    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "not at least 0.93, but not for certain" in finding.reason


def test_thirty_right_answers_do_not_show_that_all_are_right() -> None:
    truth = np.array([0, 1] * 20)

    finding = check(Gate("accuracy").at_least(1.0), Holdout(truth, truth.astype(float)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.reason.endswith(
        "at least 1, but not for certain; no number of rows in sight would do; a limit of 0.925 is certain"
    )


def test_a_version_on_its_limit_rarely_passes() -> None:
    truths = roc_auc(*scored(200_000, 1.5))
    passed = sum(
        check(Gate("roc_auc").at_least(truths), Holdout(*scored(300, 1.5, seed + 1))).verdict is Verdict.PASS
        for seed in range(400)
    )

    assert passed / 400 < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


def test_the_interval_of_a_value_covers_the_truth_at_least_as_often_as_it_says() -> None:
    truths, hits = roc_auc(*scored(200_000, 1.5)), 0
    for seed in range(400):
        evidence = check(Gate("roc_auc").at_least(0.5), Holdout(*scored(300, 1.5, seed + 1))).evidence
        hits += evidence["interval"][0] <= truths <= evidence["interval"][1]

    assert 0.93 < hits / 400 < 0.995


def test_an_equal_version_is_no_worse_than_the_champion() -> None:
    finding = check(Gate("roc_auc").no_worse_than_champion(margin=0.01), holdout())

    assert finding.verdict is Verdict.PASS, finding.reason


def test_the_reason_gives_both_values_and_the_rows() -> None:
    finding = check(Gate("roc_auc").no_worse_than_champion(margin=0.01), holdout())

    assert finding.reason == "roc_auc 0.923 against 0.923 on the same 4,000 rows: no worse by 0.010 (95 %)"


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "accuracy", "f1", "brier_score_loss", "log_loss"])
def test_a_clearly_weaker_version_fails(name: str) -> None:
    finding = check(Gate(name).no_worse_than_champion(margin=0.01), holdout(challenger=0.5, champion=3.0))

    assert finding.verdict is Verdict.FAIL, finding.reason


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "accuracy", "f1", "brier_score_loss", "log_loss"])
def test_a_clearly_better_version_passes_without_a_margin(name: str) -> None:
    finding = check(Gate(name).no_worse_than_champion(), holdout(challenger=3.0, champion=1.0))

    assert finding.verdict is Verdict.PASS, finding.reason


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressions_are_compared_in_the_right_direction(name: str) -> None:
    chance = np.random.default_rng(3)
    truth = chance.normal(size=500)
    near, far = truth + 0.1 * chance.normal(size=500), truth + chance.normal(size=500)

    gate = Gate(name).no_worse_than_champion(margin=0.01)
    verdicts = check(gate, Holdout(truth, near, far)).verdict, check(gate, Holdout(truth, far, near)).verdict
    assert verdicts == (Verdict.PASS, Verdict.FAIL)


def test_a_small_holdout_says_how_many_rows_would_do() -> None:
    finding = check(Gate("roc_auc").no_worse_than_champion(margin=0.01), holdout(rows=150))

    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "this holdout cannot see a difference of 0.01" in finding.reason
    assert finding.evidence["rows_needed"] > 150


def test_a_dozen_rows_on_which_both_are_right_show_nothing() -> None:
    truth = np.array([0, 1] * 6)
    finding = check(Gate("accuracy").no_worse_than_champion(margin=0.01), Holdout(truth, truth * 0.9, truth * 0.8))

    assert finding.verdict is Verdict.INCONCLUSIVE


def test_the_same_classes_are_no_proof_that_two_versions_are_one() -> None:
    truth = np.array([0, 1] * 20)
    guess = np.where(np.arange(40) % 7 == 0, 1 - truth, truth)

    gate = Gate("accuracy").no_worse_than_champion(margin=0.02)
    assert check(gate, Holdout(truth, guess, guess)).verdict is Verdict.INCONCLUSIVE
    assert check(gate, Holdout(np.tile(truth, 10), np.tile(guess, 10), np.tile(guess, 10))).verdict is Verdict.PASS


@pytest.mark.parametrize("gate", [Gate("accuracy").no_worse_than_champion(), Gate("accuracy").per_slice("carrier")])
def test_the_champion_itself_is_no_worse_than_itself(gate: Gate) -> None:
    given = holdout(rows=200, carrier=["AA"] * 200)
    finding = check(gate, replace(given, challenger=given.champion, itself=True))

    assert finding.verdict is Verdict.PASS
    assert finding.reason.endswith("it is the champion itself")


def test_the_same_scores_pass_on_any_number_of_rows() -> None:
    truth, scores = scored(12, 1.0)

    assert check(Gate("roc_auc").no_worse_than_champion(), Holdout(truth, scores, scores)).verdict is Verdict.PASS


def test_a_version_on_the_margin_rarely_passes() -> None:
    passed, margin = 0, 0.05
    for seed in range(300):
        chance = np.random.default_rng(seed)
        truth = np.ones(600, dtype=int)
        right = chance.random(600)
        challenger, champion = (right < 0.85).astype(int), (chance.random(600) < 0.9).astype(int)
        gate = Gate("accuracy").no_worse_than_champion(margin=margin)
        passed += check(gate, Holdout(truth, challenger, champion)).verdict is Verdict.PASS

    assert passed / 300 < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


def test_without_a_champion_a_constant_prediction_takes_its_place() -> None:
    finding = check(Gate("roc_auc").no_worse_than_champion(margin=0.01), holdout(champion=None))

    assert finding.verdict is Verdict.PASS
    assert "against 0.500 of a constant prediction (there is no champion)" in finding.reason


@pytest.mark.parametrize("name", OF_ONE_NUMBER)
def test_noise_is_never_shown_better_than_a_constant(name: str) -> None:
    chance = np.random.default_rng(2)
    truth = chance.integers(0, 2, 800) if name != "mean_absolute_percentage_error" else chance.random(800) + 1
    finding = check(Gate(name).no_worse_than_champion(), Holdout(truth, chance.random(800)))

    assert finding.verdict in (Verdict.INCONCLUSIVE, Verdict.FAIL), finding.reason


def test_a_slice_that_fell_is_named() -> None:
    given = holdout(carrier=["AA", "BB", "CC", "DD"] * 1000)
    hurt = given.challenger.copy()
    hurt[1::4] = 1 - hurt[1::4]
    finding = check(Gate("roc_auc").per_slice("carrier"), Holdout(given.truth, hurt, given.champion, given.columns))

    assert finding.verdict is Verdict.FAIL
    assert finding.evidence["worse"] == ["BB"]
    assert "BB (0.0" in finding.reason


def test_a_slice_in_which_the_margin_cannot_be_seen_is_no_silent_pass() -> None:
    given = holdout(rows=4000, carrier=["AA"] * 3800 + ["BB"] * 200)
    finding = check(Gate("f1").per_slice("carrier"), given)

    says = {entry["value"]: entry["says"] for entry in finding.evidence["slices"]}
    assert says == {"AA": "no worse", "BB": "cannot see"}
    assert finding.reason.startswith("f1 per carrier: 1 of 2 judged, 1 cannot see a difference of 0.05; none")
    assert finding.verdict is Verdict.PASS


def test_slices_of_which_most_cannot_be_judged_prove_nothing() -> None:
    given = holdout(rows=4000, carrier=[f"C{row % 20}" for row in range(4000)])
    finding = check(Gate("f1").per_slice("carrier"), given)

    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "only 5 % of the rows are shown to be no worse; a slice needs about" in finding.reason
    assert finding.evidence["cannot_see"] == 19


def test_slices_that_are_too_small_are_counted() -> None:
    finding = check(Gate("roc_auc").per_slice("carrier"), holdout(carrier=["AA"] * 3950 + ["ZZ"] * 50))

    assert finding.verdict is Verdict.PASS
    assert finding.reason.startswith("roc_auc per carrier: 1 of 2 judged, 1 too small to judge")


def test_rows_without_a_value_are_no_slice() -> None:
    finding = check(
        Gate("roc_auc").per_slice("carrier"), holdout(carrier=["AA"] * 2000 + [None] * 1000 + [float("nan")] * 1000)
    )

    assert [entry["value"] for entry in finding.evidence["slices"]] == ["AA"]
    assert finding.verdict is Verdict.PASS


def test_a_slice_of_one_class_is_not_judged_by_a_ranking() -> None:
    given = holdout()
    finding = check(
        Gate("roc_auc").per_slice("group"),
        Holdout(given.truth, given.challenger, given.champion, {"group": given.truth.tolist()}),
    )

    assert finding.verdict is Verdict.ERROR


def test_many_equal_slices_rarely_fail() -> None:
    failed = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        truth = chance.integers(0, 2, 4000)
        right, other = (chance.random(4000) < 0.8, chance.random(4000) < 0.8)
        challenger, champion = np.where(right, truth, 1 - truth), np.where(other, truth, 1 - truth)
        columns = {"group": (np.arange(4000) % 20).tolist()}
        gate = Gate("accuracy").per_slice("group", margin=0.0)
        failed += check(gate, Holdout(truth, challenger, champion, columns)).verdict is Verdict.FAIL

    assert failed / 60 < 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


@pytest.mark.parametrize("column", [[None] * 4000, [""] * 4000, ["a"] * 3999, [str(n) for n in range(4000)]])
def test_a_column_in_which_nothing_can_be_judged_is_an_error(column: list[Any]) -> None:
    assert check(Gate("roc_auc").per_slice("carrier"), holdout(carrier=column)).verdict is Verdict.ERROR


def test_an_unknown_column_is_an_error() -> None:
    assert check(Gate("roc_auc").per_slice("carier"), holdout(carrier=["AA"] * 4000)).verdict is Verdict.ERROR


ALL_BOUNDS = [
    Gate("roc_auc").at_least(0.0),
    Gate("brier_score_loss").at_most(1.0),
    Gate("roc_auc").no_worse_than_champion(margin=0.9),
    Gate("roc_auc").per_slice("carrier", margin=0.9, min_rows=1),
]


@pytest.mark.parametrize("gate", ALL_BOUNDS, ids=lambda gate: gate.bound.value)
@pytest.mark.parametrize(
    "broken",
    [
        Holdout(np.array([]), np.array([]), np.array([]), {"carrier": []}),
        Holdout(np.array([0, 1, 0, 1]), np.array([0.1, np.nan, 0.2, 0.3]), None, {"carrier": ["a"] * 4}),
        Holdout(np.array([0, 1, 0, np.nan]), np.array([0.1, 0.5, 0.2, 0.3]), None, {"carrier": ["a"] * 4}),
        Holdout(np.array([0, 1, 0, 1]), np.array([0.1, np.inf, 0.2, 0.3]), None, {"carrier": ["a"] * 4}),
        Holdout(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3]), None, {"carrier": ["a"] * 4}),
        Holdout(np.array([0, 1, 0, 1]), np.zeros((4, 2)), None, {"carrier": ["a"] * 4}),
        Holdout(np.array(["a", "b", "a", "b"]), np.array([0.1, 0.2, 0.3, 0.4]), None, {"carrier": ["a"] * 4}),
        Holdout(np.array([0, 1, None, 1], dtype=object), np.full(4, 0.5), None, {"carrier": ["a"] * 4}),
    ],
    ids=["empty", "score nan", "truth nan", "score infinite", "lengths", "two columns", "truth of words", "truth none"],
)
def test_what_cannot_be_judged_is_an_error(gate: Gate, broken: Holdout) -> None:
    assert check(gate, broken).verdict is Verdict.ERROR


def test_a_champion_without_scores_for_some_rows_is_an_error() -> None:
    given = holdout()
    champion = given.champion.copy() if given.champion is not None else np.array([])
    champion[5] = np.nan
    finding = check(
        Gate("roc_auc").no_worse_than_champion(margin=0.5), Holdout(given.truth, given.challenger, champion)
    )

    assert finding.verdict is Verdict.ERROR


def test_a_metric_that_is_not_a_number_is_an_error() -> None:
    assert check(Gate("roc_auc").at_least(0.0), Holdout(np.ones(50), np.full(50, 0.5))).verdict is Verdict.ERROR


def test_an_unknown_metric_is_an_error() -> None:
    assert check(Gate("auc").at_least(0.0), holdout()).verdict is Verdict.ERROR


def test_a_gate_without_a_bound_is_an_error() -> None:
    assert check(Gate("roc_auc"), holdout()).verdict is Verdict.ERROR


@pytest.mark.parametrize("gate", [*ALL_BOUNDS, Gate("accuracy").at_least(0.0), Gate("cost", function=cost).at_least(0)])
@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_a_version_that_does_not_look_at_the_rows_never_passes(gate: Gate, score: float) -> None:
    given = holdout(carrier=["AA"] * 4000)

    assert check(gate, replace(given, challenger=np.full(4000, score))).verdict is Verdict.ERROR
    assert check(gate, Holdout(given.truth, np.full(4000, score), None, given.columns)).verdict is Verdict.ERROR


@pytest.mark.parametrize("name", [name for name in OF_ONE_NUMBER if name not in (*REGRESSORS, "accuracy")])
def test_rows_of_one_class_never_pass(name: str) -> None:
    chance, metric = np.random.default_rng(5), METRICS[name]
    gate = Gate(name).at_least(metric.least) if metric.higher_is_better else Gate(name).at_most(1.0)
    for truth in (np.ones(500, dtype=int), np.zeros(500, dtype=int)):
        given = Holdout(truth, chance.random(500), chance.random(500))

        assert check(gate, given).verdict is not Verdict.PASS
        assert check(Gate(name).no_worse_than_champion(margin=0.9), given).verdict is not Verdict.PASS


@pytest.mark.parametrize("name", OF_ONE_NUMBER)
@drawn(data=st.data())
@settings(max_examples=20, deadline=None)
def test_few_rows_of_anything_give_the_same_proper_finding_twice_and_never_a_pass(name: str, data: Any) -> None:
    rows = data.draw(st.integers(0, 29))
    odd = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 2.0, -1.0, float("nan"), float("inf"), 1e308])
    column = st.lists(odd, min_size=rows, max_size=rows)
    truth = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=rows, max_size=rows) | column), float)
    given = Holdout(truth, np.array(data.draw(column), float), np.array(data.draw(column), float), {"of": ["a"] * rows})
    for gate in (
        Gate(name).at_least(METRICS[name].least if np.isfinite(METRICS[name].least) else -1e9),
        Gate(name).no_worse_than_champion(margin=0.5),
        Gate(name).per_slice("of", margin=0.5, min_rows=1),
    ):
        finding = check(gate, given)

        assert finding == check(gate, given)
        assert json.dumps(dict(finding.evidence), allow_nan=False)
        assert finding.verdict is not Verdict.PASS or finding.reason.endswith("the scores are the same")


def test_a_million_rows_are_judged_within_seconds() -> None:
    given = holdout(rows=1_000_000)
    for name in ("roc_auc", "average_precision", "accuracy", "f1"):
        assert check(Gate(name).no_worse_than_champion(margin=0.002), given).verdict is Verdict.PASS


@pytest.mark.parametrize(("metric", "limit"), [("roc_auc", 1.5), ("roc_auc", -0.1), ("log_loss", -1), ("r2", 2)])
def test_a_limit_that_no_value_can_reach_is_an_error(metric: str, limit: float) -> None:
    assert check(Gate(metric).at_least(limit), holdout()).verdict is Verdict.ERROR
    assert check(Gate(metric).at_most(limit), holdout()).verdict is Verdict.ERROR


@pytest.mark.parametrize("gate", [Gate(name).no_worse_than_champion(margin=0.05) for name in OF_ONE_NUMBER])
def test_every_comparison_tells_the_same_things(gate: Gate) -> None:
    truth, scores = scored(600, 2.0)
    given = Holdout(truth, scores, scored(600, 2.0, 0, 0.9)[1])
    if gate.metric == "mean_absolute_percentage_error":
        given = replace(given, truth=truth + 1)
    evidence = check(gate, given).evidence

    assert {"rows", "margin", "method", "interval", "detectable", "rows_needed", "rows_unlucky"} <= set(evidence)
    assert evidence["interval"][0] <= evidence["loss"] <= evidence["interval"][1]
    assert evidence["detectable"] > 0


def test_a_negative_margin_is_an_error() -> None:
    assert check(Gate("roc_auc").no_worse_than_champion(margin=-0.1), holdout()).verdict is Verdict.ERROR


def test_a_margin_that_is_no_number_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="a number is needed"):
        Gate("roc_auc").no_worse_than_champion(margin=float("nan"))


def test_a_limit_that_came_in_another_way_and_is_no_number_is_an_error() -> None:
    gate = replace(Gate("roc_auc").at_least(0.5), limit=float("nan"))

    assert check(gate, holdout()).verdict is Verdict.ERROR


@pytest.mark.parametrize(("challenger", "verdict"), [(3.0, Verdict.PASS), (1.0, Verdict.FAIL)])
def test_a_metric_of_ones_own_is_compared_with_the_champion(challenger: float, verdict: Verdict) -> None:
    gate = Gate("cost", function=cost, higher_is_better=False).no_worse_than_champion(margin=0.1)

    assert check(gate, holdout(challenger=challenger, champion=3.0)).verdict is verdict


def test_a_metric_of_ones_own_gives_the_same_finding_twice() -> None:
    gate = Gate("cost", function=cost, higher_is_better=False).at_most(5.0)

    assert check(gate, holdout()) == check(gate, holdout())


def failing(truth: Any, scores: Any) -> float:
    """Raise, as user code may."""
    raise KeyError("late")


@pytest.mark.parametrize("function", [failing, lambda *_: float("nan"), lambda *_: None, lambda *_: "0.9"])
def test_a_metric_of_ones_own_that_gives_no_number_is_an_error(function: Any) -> None:
    assert check(Gate("cost", function=function).at_least(0.0), holdout()).verdict is Verdict.ERROR


def test_findings_are_plain_values() -> None:
    findings = [check(gate, holdout(carrier=["AA", "BB"] * 2000)) for gate in ALL_BOUNDS]

    assert all(json.dumps(dict(finding.evidence), allow_nan=False) for finding in findings)


def test_judging_ten_thousand_rows_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        finding = check(Gate("roc_auc").per_slice("carrier"), holdout(rows=10_000, carrier=["AA", "BB"] * 5000))

    assert finding.verdict is Verdict.PASS


def test_an_interval_does_not_reach_beyond_what_the_metric_can_be() -> None:
    truth = np.array([0, 1] * 60)
    scores = np.where(truth == 1, 0.9, 0.1) + np.linspace(0, 0.05, len(truth))
    scores[:3] = 0.5

    finding = check(Gate("roc_auc").at_least(0.9), Holdout(truth, scores))

    low, high = finding.evidence["interval"]
    assert low < finding.evidence["value"] <= high == 1.0
