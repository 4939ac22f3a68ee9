"""Gates on lists: chances of all classes, several targets; the numbers are scikit-learn's."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from modelcd.domain.gates import Holdout, check, value_of
from modelcd.domain.metrics import OF_CHANCES, SEVERAL_CLASSES
from modelcd.domain.policy import Gate
from modelcd.domain.vectors import OF_TARGETS
from modelcd.domain.verdict import Verdict

CLASSES = ("ant", "bee", "cow")
ROWS = 900


def chances(skill: float, seed: int = 0) -> tuple[Any, Any]:
    """Return a truth of three classes, and chances of them that are the better the larger *skill* is."""
    chance = np.random.default_rng(seed)
    number = chance.integers(0, 3, ROWS)
    score = chance.normal(size=(ROWS, 3)) + skill * np.eye(3)[number]
    likely = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    return np.array(CLASSES, dtype=object)[number], likely


def targets(noise: float, seed: int = 0) -> tuple[Any, Any]:
    """Return a truth of two numbers a row, and scores that are off by *noise*."""
    chance = np.random.default_rng(seed)
    truth = chance.normal([5.0, 20.0], [1.0, 4.0], (ROWS, 2))
    return truth, truth + chance.normal(0, noise, (ROWS, 2))


EXPECTED = {
    "accuracy": lambda truth, scores: sk.accuracy_score(truth, np.array(CLASSES)[scores.argmax(axis=1)]),
    "balanced_accuracy": lambda t, s: sk.balanced_accuracy_score(t, np.array(CLASSES)[s.argmax(axis=1)]),
    "f1_macro": lambda t, s: sk.f1_score(t, np.array(CLASSES)[s.argmax(axis=1)], average="macro"),
    "matthews_corrcoef": lambda t, s: sk.matthews_corrcoef(t, np.array(CLASSES)[s.argmax(axis=1)]),
    "log_loss": sk.log_loss,
    "roc_auc_ovr": lambda t, s: sk.roc_auc_score(t, s, multi_class="ovr"),
}


@pytest.mark.parametrize("name", [*SEVERAL_CLASSES, *OF_CHANCES])
def test_a_metric_of_chances_is_what_scikit_learn_says(name: str) -> None:
    truth, scores = chances(1.5)

    value = value_of(Gate(name).at_least(0.5), Holdout(truth, scores, classes=CLASSES))

    assert value == pytest.approx(EXPECTED[name](truth, scores))


@pytest.mark.parametrize("name", OF_TARGETS)
def test_a_metric_of_several_targets_is_what_scikit_learn_says(name: str) -> None:
    truth, scores = targets(0.7)

    value = value_of(Gate(name).at_most(10), Holdout(truth, scores))

    function = getattr(sk, f"{name}_score" if name == "r2" else name)
    assert value == pytest.approx(function(truth, scores))


@pytest.mark.parametrize("name", [*SEVERAL_CLASSES, *OF_CHANCES])
def test_chances_are_judged_against_a_limit_a_constant_and_a_champion(name: str) -> None:
    truth, good = chances(3.0)
    _, poor = chances(0.5)
    limit = Gate(name).at_most(0.6) if name == "log_loss" else Gate(name).at_least(0.7)
    against = Gate(name).no_worse_than_champion(margin=0.05)

    def verdict(gate: Gate, scores: Any, champion: Any = None) -> Verdict:
        return check(gate, Holdout(truth, scores, champion, classes=CLASSES, champion_classes=CLASSES)).verdict

    assert [verdict(limit, good), verdict(limit, poor)] == [Verdict.PASS, Verdict.FAIL]
    assert verdict(against, good) is Verdict.PASS
    assert [verdict(against, good, poor), verdict(against, poor, good)] == [Verdict.PASS, Verdict.FAIL]


@pytest.mark.parametrize("name", OF_TARGETS)
def test_several_targets_are_judged_against_a_constant_and_a_champion(name: str) -> None:
    truth, good = targets(0.1)
    _, poor = targets(2.0)
    gate = Gate(name).no_worse_than_champion(margin=0.01)

    assert check(gate, Holdout(truth, good)).verdict is Verdict.PASS
    assert check(gate, Holdout(truth, good, poor)).verdict is Verdict.PASS
    assert check(gate, Holdout(truth, poor, good)).verdict is Verdict.FAIL


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "roc_auc_ovr"])
def test_chances_are_judged_slice_by_slice(name: str) -> None:
    truth, good = chances(3.0)
    half = ["first"] * (ROWS // 2) + ["second"] * (ROWS // 2)
    worse = good.copy()
    worse[ROWS // 2 :] = worse[ROWS // 2 :, ::-1]

    def slices(scores: Any) -> Any:
        holdout = Holdout(truth, scores, good, {"half": half}, classes=CLASSES, champion_classes=CLASSES)
        return check(Gate(name).per_slice("half", margin=0.1), holdout)

    assert slices(good).verdict is Verdict.PASS
    assert slices(worse).evidence["worse"] == ["second"]


def test_versions_with_their_classes_in_another_order_are_compared_class_by_class() -> None:
    truth, scores = chances(2.0)
    turned = Holdout(truth, scores, scores[:, ::-1], classes=CLASSES, champion_classes=CLASSES[::-1])

    found = check(Gate("log_loss").no_worse_than_champion(margin=0.01), turned)

    assert (found.verdict, found.evidence["loss"]) == (Verdict.PASS, 0.0)


def test_classes_that_are_numbers_are_told_apart_like_words() -> None:
    truth, scores = chances(2.0)
    numbers = np.array([7, 8, 9])[[CLASSES.index(one) for one in truth]]

    value = value_of(Gate("accuracy").at_least(0.5), Holdout(numbers, scores, classes=(7, 8, 9)))

    assert value == pytest.approx(EXPECTED["accuracy"](truth, scores))


def test_a_function_of_the_users_own_gets_the_lists_as_they_are() -> None:
    truth, scores = chances(2.0)
    shapes = []

    def top_two(given: Any, lists: Any) -> float:
        shapes.append((given.shape, lists.shape))
        best = np.array(CLASSES)[np.argsort(lists, axis=1)[:, 1:]]
        return float((best == given[:, None]).any(axis=1).mean())

    found = check(Gate("top 2", function=top_two).at_least(0.7), Holdout(truth, scores, classes=CLASSES))

    assert (found.verdict, shapes[0]) == (Verdict.PASS, ((ROWS,), (ROWS, 3)))


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        (
            "roc_auc",
            "chances",
            "of chances of all classes there are accuracy, .*roc_auc_ovr, of anything else a function",
        ),
        ("mean_absolute_error", "chances", "the scores are lists"),
        ("accuracy", "targets", "there are 2 targets; of several there are r2"),
        ("log_loss", "targets", "there are 2 targets"),
        ("log_loss", "nameless", "nothing says of which classes"),
        ("accuracy", "nameless", "nothing says of which classes"),
        ("roc_auc_ovr", "numbers", "it needs the chances of all classes.*for two classes there is roc_auc"),
        ("log_loss", "strangers", "rows are of classes that the model does not know, such as 'cow'"),
        ("log_loss", "logits", "add up to 1"),
        ("r2", "too few targets", "the truth has the shape"),
    ],
)
def test_what_does_not_fit_a_metric_is_said_with_what_would(name: str, of: str, message: str) -> None:
    truth, scores = chances(2.0)
    holdouts = {
        "chances": Holdout(truth, scores, classes=CLASSES),
        "nameless": Holdout(truth, scores),
        "numbers": Holdout(truth, scores[:, 0]),
        "strangers": Holdout(truth, scores, classes=("ant", "bee", "elk")),
        "logits": Holdout(truth, scores * 3, classes=CLASSES),
        "targets": Holdout(*targets(0.5)),
        "too few targets": Holdout(targets(0.5)[0], targets(0.5)[1][:, :1]),
    }
    bound = Gate(name).at_most(0.5) if name in ("log_loss", "mean_absolute_error") else Gate(name).at_least(0.5)

    found = check(bound, holdouts[of])

    assert found.verdict is Verdict.ERROR
    assert re.search(message, found.reason)


def test_a_champion_that_knows_other_classes_is_no_measure_of_chances() -> None:
    truth, scores = chances(2.0)
    holdout = Holdout(truth, scores, scores, classes=CLASSES, champion_classes=("ant", "bee", "elk"))

    assert "know different classes" in check(Gate("log_loss").no_worse_than_champion(), holdout).reason
    assert check(Gate("log_loss").at_most(1.2), holdout).verdict is Verdict.PASS


def test_the_bound_of_the_area_of_all_classes_is_as_wide_as_resampling_says() -> None:
    truth, scores = chances(1.0)
    chance = np.random.default_rng(1)
    drawn = [chance.integers(0, ROWS, ROWS) for _ in range(200)]
    spread = np.std([sk.roc_auc_score(truth[rows], scores[rows], multi_class="ovr") for rows in drawn])

    found = check(Gate("roc_auc_ovr").at_least(0.5), Holdout(truth, scores, classes=CLASSES))

    assert found.evidence["standard_error"] == pytest.approx(spread, rel=0.15)
