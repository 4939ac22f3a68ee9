"""A guard's function that certifies anything is found on the holdout; one that judges is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from modelcd import Canary, Dataset, Model, guard
from modelcd.domain.permutation import Unusable, check_guard
from modelcd.domain.policy import Guard
from modelcd.domain.verdict import Finding, Verdict
from modelcd.project.checks import guard_findings

Pairs = tuple[list[Any], list[Any]]


def tried(made: Guard, pairs: Pairs, *, trained: bool = True) -> Finding:
    assert made.function is not None
    return check_guard(made, *pairs, lambda score, truth: float(made.function(score, truth)), trained=trained)  # type: ignore[misc]


def chances(rows: int, rate: float, skill: float, seed: int = 1) -> Pairs:
    """Return scores from 0 to 1 and truths, of which *rate* are true and the part *skill* is known to the model."""
    random = np.random.default_rng(seed)
    truths = random.random(rows) < rate
    believed = np.where(random.random(rows) < skill, truths, random.permutation(truths))
    return (np.where(believed, 0.6, 0.1) + 0.3 * random.random(rows)).tolist(), truths.tolist()


def numbers(rows: int = 200, noise: float = 10.0) -> Pairs:
    """Return predictions of a regression, and truths from 25 to 346."""
    random = np.random.default_rng(2)
    truths = random.uniform(25, 346, rows)
    return (truths + noise * random.standard_normal(rows)).tolist(), truths.tolist()


def of(classes: Sequence[Any], rows: int = 200) -> Pairs:
    truths = [classes[place] for place in np.random.default_rng(4).integers(len(classes), size=rows)]
    return truths, truths


def cut(score: Any, label: Any) -> bool:
    return bool((score >= 0.5) == bool(label))


def same(score: Any, label: Any) -> bool:
    return bool(score == label)


def near(score: float, label: float) -> bool:
    return abs(score - label) <= 12


def off(score: float, label: float) -> float:
    return min(abs(score - label), 100.0)


def metric(function: Callable[[Any, Any], float]) -> Guard:
    return guard.metric(function, 5.0, name="off", high=100.0, higher_is_better=False)


def test_the_guard_of_a_classifier_is_stopped_on_the_diabetes_data() -> None:
    rows, truths = load_diabetes(return_X_y=True)
    scores = LinearRegression().fit(rows, truths).predict(rows)

    found = tried(guard.success(cut), (scores.tolist(), truths.tolist()))

    assert found.verdict is Verdict.FAIL
    assert found.name == "success on the holdout"
    assert found.reason.startswith("guard success is true for 442 of 442 rows, at any score; compare the two")
    assert "abs(score - label) <= " in found.reason


def test_the_guard_of_two_classes_is_stopped_on_the_three_of_the_wine_data() -> None:
    rows, truths = load_wine(return_X_y=True)
    scores = GaussianNB().fit(rows, truths).predict(rows)

    found = tried(guard.success(cut), (scores.tolist(), truths.tolist()))

    assert found.verdict is Verdict.FAIL
    assert "does not tell the classes 1 and 2 apart (119 of 178 rows); compare the two, for example score == label" in (
        found.reason
    )


@pytest.mark.parametrize(
    ("made", "pairs", "says"),
    [
        (guard.success(lambda s, t: True), chances(300, 0.4, 0.9), "true for 300 of 300 rows, at any score"),
        (guard.success(lambda s, t: False), chances(300, 0.4, 0.9), "false for 300 of 300 rows, at any score"),
        (guard.success(lambda s, t: t), chances(300, 0.4, 0.9), "does not look at the score: it is true for "),
        (guard.success(lambda s, t: s > 0.5), chances(300, 0.4, 0.9), "does not look at the truth: it is true for "),
        (guard.success(same), chances(300, 0.4, 0.9), "false for 300 of 300 rows, at each score of this version"),
        (guard.success(lambda s, t: (s < 0.5) == t), chances(300, 0.4, 0.9), "is it the wrong way round?"),
        (guard.success(cut), chances(4000, 0.4, 0.0), "with shuffled scores: shuffled scores satisfy it as well"),
        (
            guard.success(near),
            (numbers()[0], [t / 1000 for t in numbers()[1]]),
            "look at the truth: it is true for 0 of",
        ),
        (guard.success(lambda s, t: abs(s - t) < 500), numbers(), "true for 200 of 200 rows, at any score"),
        (guard.success(lambda s, t: abs(s - t) < 170), numbers(), "is content with the score"),
        (guard.success(lambda s, t: (s == "a") == (t == "a")), of("abc"), "the classes 'b' and 'c' apart"),
        (metric(lambda s, t: min(t, 100.0)), numbers(), "does not look at the score: it is 9"),
        (metric(lambda s, t: 7.0), numbers(), "guard off is 7 for 200 of 200 rows, at any score"),
        (metric(lambda s, t: 100 - off(s, t)), numbers(), "is it the wrong way round?"),
    ],
)
def test_a_guard_that_certifies_anything_is_stopped_with_what_it_does(made: Guard, pairs: Pairs, says: str) -> None:
    found = tried(made, pairs)

    assert found.verdict is Verdict.FAIL
    assert says in found.reason
    assert found.reason.startswith(f"guard {made.name} ")


@pytest.mark.parametrize(
    ("made", "pairs"),
    [
        (guard.success(cut), chances(40, 0.5, 1.0)),
        (guard.success(cut), chances(20_000, 0.01, 0.5)),
        (guard.success(lambda s, t: (t == "yes" and s >= 0.5) or (t == "no" and s < 0.5)), None),
        (guard.success(same), of("abc")),
        (guard.success(same), of([0, 1, 2])),
        (guard.success(lambda s, t: abs(s - t) <= 1), of([1, 2, 3, 4, 5])),
        (guard.success(near), numbers()),
        (guard.success(near).at_least(0.5), numbers()),
        (guard.success(near), numbers(30)),
        (metric(off), numbers()),
        (guard.outcome(lambda s, t: not cut(s, t), name="wrong", higher_is_better=False), chances(300, 0.4, 0.9)),
        (
            guard.metric(lambda s, t: s[t], 0.1, name="chance of the truth"),
            ([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]] * 20, [0, 1, 2] * 20),
        ),
    ],
)
def test_a_guard_that_judges_is_left_alone_however_good_the_version_or_rare_the_class(
    made: Guard, pairs: Pairs | None
) -> None:
    if pairs is None:
        scores, truths = chances(300, 0.4, 0.9)
        pairs = scores, ["yes" if truth else "no" for truth in truths]

    found = tried(made, pairs)

    assert found.verdict is Verdict.PASS, found.reason
    assert "with shuffled scores" in found.reason
    assert found.evidence["p"] <= found.evidence["level"]


def test_a_perfect_version_of_a_rare_class_is_seen_to_be_no_shuffled_one() -> None:
    found = tried(guard.success(cut), ([0.9] * 3 + [0.1] * 297, [True] * 3 + [False] * 297))

    assert found.verdict is Verdict.PASS
    assert found.reason == "guard success is true for 100.0 % of 300 rows, 98.0 % with shuffled scores"


def test_where_the_rows_cannot_show_it_that_is_said_and_stops_nothing() -> None:
    found = tried(guard.success(cut), ([0.1, 0.3] * 150, [True] * 3 + [False] * 297))

    assert found.verdict is Verdict.PASS
    assert "these rows cannot show that it sees more than chance" in found.reason


def test_a_cut_that_no_score_of_the_version_reaches_is_told_with_where_they_lie() -> None:
    found = tried(guard.success(cut), ([0.1, 0.25, 0.3] * 1000, [True] * 100 + [False] * 2900))

    assert found.verdict is Verdict.FAIL
    assert "any score from 0.1 to 0.3 gets the same answer; cut where" in found.reason


def test_a_guard_that_judges_is_hardly_ever_stopped() -> None:
    verdicts = [
        tried(guard.success(cut), chances(rows, rate, skill, seed)).verdict
        for rows, rate in ((60, 0.5), (300, 0.03), (300, 0.5), (1000, 0.01))
        for skill in (0.15, 0.5, 1.0)
        for seed in range(25)
    ]

    assert verdicts.count(Verdict.PASS) >= 0.99 * len(verdicts)


def test_a_version_that_guesses_hardly_ever_looks_better_than_shuffled() -> None:
    found = [tried(guard.success(cut), chances(4000, 0.4, 0.0, seed)) for seed in range(60)]

    assert sum(each.verdict is Verdict.FAIL for each in found) >= 50, "the others cannot show it"
    assert sum(each.evidence["p"] <= 0.01 for each in found) <= 2


def test_without_training_a_function_is_tried_with_scores_that_no_model_gave() -> None:
    scores, truths = chances(100, 0.4, 0.0)

    assert tried(guard.success(cut), (scores, truths), trained=False).verdict is Verdict.PASS
    assert tried(guard.success(lambda s, t: t), (scores, truths), trained=False).verdict is Verdict.FAIL


def test_a_function_that_cannot_answer_is_an_error_with_the_pair_it_was_asked_about() -> None:
    def ask(score: Any, label: Any) -> float:
        raise Unusable(f"raised KeyError for the score {score!r} and the truth {label!r}")

    found = check_guard(guard.success(cut), [0.5, 0.7], [True, False], ask)

    assert (found.verdict, found.reason) == (
        Verdict.ERROR,
        "guard success raised KeyError for the score 0.5 and the truth True",
    )


def never(score: Any, label: Any) -> bool:
    raise KeyError(label)


def nothing(score: Any, label: Any) -> Any:
    return None


def one(score: Any, label: Any) -> Any:
    return 1


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (guard.success(never), ") for the score 0.5 and the truth 'yes'; raise KeyError(label)"),
        (
            guard.success(nothing),
            "guard success returned None for the score 0.5 and the truth 'yes'; its fun",
        ),
        (guard.success(one), "guard success returned 1 for the score"),
        (guard.metric(lambda s, t: 3.0, 0.1, name="off"), "returned 3.0 for the score 0.5 and the truth 'yes'; its"),
        (guard.metric(lambda s, t: float("nan"), 0.1, name="off"), "guard off returned nan for the score 0.5"),
        (guard.metric(lambda s, t: True, 0.1, name="off"), "guard off returned True for the score 0.5"),
    ],
)
def test_a_function_that_raises_or_returns_something_else_is_told_with_the_pair(made: Guard, says: str) -> None:
    model = Model("m", train=never, data=Dataset("*.csv", target="y"), rollout=Canary(guards=[made]))

    (found,) = guard_findings(Path(__file__).parent, model, [0.5, 0.7], ["yes", "no"])

    assert found.verdict is Verdict.ERROR
    assert says in found.reason


@pytest.mark.parametrize("whole", [True, False])
def test_numbers_that_are_near_each_other_are_no_classes_that_are_confused(whole: bool) -> None:
    truths = [10 * k + near for k in range(25) for near in (0, 1)]
    truths = truths if whole else [truth + 0.5 for truth in truths]
    shuffled = np.random.default_rng(1).permutation(truths).tolist()

    found = tried(guard.success(lambda s, t: abs(s - t) <= 35), (shuffled, truths), trained=False)

    assert found.verdict is Verdict.PASS, found.reason


def test_truths_are_given_to_a_guard_as_the_labels_that_it_declares() -> None:
    scores, truths = chances(100, 0.4, 0.9)
    made = guard.success(lambda score, label: (score >= 0.5) is label, label=bool)

    found = tried(made, (scores, [int(truth) for truth in truths]))

    assert found.verdict is Verdict.PASS


def test_truths_that_are_no_label_of_the_guard_are_an_error() -> None:
    found = tried(guard.success(cut, label=bool), ([0.1, 0.9], ["no", "yes"]))

    assert found.verdict is Verdict.ERROR
    assert "takes other labels than the target: a truth of the holdout is " in found.reason
    assert "takes true or false" in found.reason


def test_a_guard_of_live_labels_only_is_not_tried() -> None:
    made = [guard.success(never).live_only(), guard.errors()]
    model = Model("m", train=never, data=Dataset("*.csv", target="y"), rollout=Canary(guards=made))

    assert guard_findings(Path(__file__).parent, model, [0.5, 0.7], ["yes", "no"]) == []


def test_rows_of_one_truth_show_nothing() -> None:
    found = tried(guard.success(cut), ([0.1, 0.9], [True, True]))

    assert found.verdict is Verdict.INCONCLUSIVE
    assert "which all have the truth True" in found.reason


def test_a_large_holdout_is_tried_in_part() -> None:
    asked: list[float] = []

    def ask(score: float, label: float) -> float:
        asked.append(score)
        return float(near(score, label))

    found = check_guard(guard.success(near), *numbers(5_000), ask)

    assert found.verdict is Verdict.PASS
    assert len(asked) <= 250_000


def test_only_a_guard_of_labels_can_be_live_only() -> None:
    assert not guard.success(cut).live_only().on_holdout
    with pytest.raises(ValueError, match="guard errors: it needs no labels"):
        guard.errors().live_only()
