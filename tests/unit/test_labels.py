"""What a label may be: declared kinds and classes, what no label can be, and how each refusal reads."""

from __future__ import annotations

from typing import Any

import pytest

from modelcd import guard
from modelcd.domain.labels import DEEPEST, ID_LIMIT, SIZE_LIMIT, declared, instead, nameless, same, unfit
from modelcd.domain.plain import from_plain, to_plain
from modelcd.domain.policy import Guard
from modelcd.errors import ProjectError

DEEP: list[Any] = []
for _ in range(DEEPEST):
    DEEP = [DEEP]


def judged(label: Any = None) -> Guard:
    return guard.success(lambda score, label: score == label, label=label)


@pytest.mark.parametrize(
    ("declaration", "good", "bad"),
    [
        (bool, [True, False], [0, 1, "true", [True], {"a": [1]}]),
        (int, [0, -3], [True, 1.5, "1"]),
        (float, [0, 1.5], [False, "1.5", [1.5]]),
        (str, ["late", ""], [1, True, ["late"]]),
        (list, [[], [1, "a"]], [1, {"a": 1}]),
        (list[float], [[1, 2.5], []], [["a"], [True], 1.0]),
        (dict, [{"a": [1]}], [1, [1]]),
        (("cat", "dog"), ["cat", "dog"], ["Cat", "bird", 0, ["cat"]]),
        ({0, 1, 2}, [0, 2, 1.0], [3, True, "0"]),
        (None, [True, 0, 1.5, "late"], [[1], {"a": [1]}]),
    ],
)
def test_a_label_is_what_its_guard_declares(declaration: Any, good: list[Any], bad: list[Any]) -> None:
    assert [unfit(value, [judged(declaration)]) for value in good] == [""] * len(good)
    assert all(unfit(value, [judged(declaration)]) for value in bad)


@pytest.mark.parametrize(
    "value", [None, float("nan"), float("inf"), object(), "x" * SIZE_LIMIT, [[float("nan")]], "\ud800", DEEP]
)
def test_what_is_no_truth_is_refused_whatever_is_declared(value: Any) -> None:
    assert unfit(value, [judged(list)])
    assert unfit(value, [])


@pytest.mark.parametrize(
    ("value", "declaration", "said"),
    [
        ({"a": [1]}, None, 'is {"a": [1]}, and nothing says that labels are mappings'),
        ("bird", ("cat", "dog"), 'is "bird", and guard \'success\' knows the classes "cat", "dog"'),
        (1, bool, "is 1, and guard 'success' takes true or false"),
        (float("nan"), float, "is NaN: NaN and infinity are no truths"),
        ("x" * SIZE_LIMIT, str, f"has {SIZE_LIMIT + 2:,} bytes, and {SIZE_LIMIT:,} is the most"),
        (None, bool, "is null, which says nothing"),
    ],
)
def test_a_refused_label_is_told_what_would_do(value: Any, declaration: Any, said: str) -> None:
    assert unfit(value, [judged(declaration)]).startswith(said)


@pytest.mark.parametrize(
    ("value", "declaration", "help"),
    [
        ("ja", bool, '"ja" means true: send true'),
        ("Нет", bool, '"Нет" means false: send false'),
        ("gut", bool, "prepare in pipeline.py says which word is true"),
        (1, bool, "send true or false, such as true"),
        ("1", int, "send a whole number, such as 3"),
        ([True], list[float], "send a list of numbers, such as [0.5, 0.5]"),
        ("bird", ("cat", "dog"), 'send one of the classes, such as "cat"'),
        ([1], None, "send true, false, a number, a text"),
    ],
)
def test_a_refused_label_s_help_has_an_example(value: Any, declaration: Any, help: str) -> None:
    assert unfit(value, [judged(declaration)])
    assert help in instead(value, [judged(declaration)])


def test_a_label_has_to_fit_every_guard_that_declares_one() -> None:
    guards = [judged(float), guard.metric(lambda score, label: 0.0, 0.1, name="cost", label=int)]

    assert (unfit(3, guards), bool(unfit(3.5, guards))) == ("", True)


@pytest.mark.parametrize("given", [complex, "bool", 3, ("a",), (1.5, 2.5), list[list[int]], list[dict]])
def test_a_declaration_that_says_nothing_is_refused_with_what_would_do(given: Any) -> None:
    with pytest.raises(ProjectError, match="guard 'success'") as refused:
        judged(given)

    assert "label=" in refused.value.help


@pytest.mark.parametrize("given", [bool, list[float], ("cat", "dog"), {0, 1}])
def test_a_declared_label_travels_with_the_policy(given: Any) -> None:
    there = judged(given)

    assert from_plain(Guard, to_plain(there)) == there
    assert (there.label, there.classes) == declared(given)
    assert there.at_least(0.5).classes == there.classes


@pytest.mark.parametrize("id", ["", " ", "a ", "x" * (ID_LIMIT + 1), 7, None, "a\n"])
def test_what_can_be_no_id_is_refused(id: Any) -> None:
    assert nameless(id)


def test_true_is_not_one_but_one_is_one_point_nought() -> None:
    assert (same(True, 1), same(1, 1.0), same("1", 1), same([1], [1])) == (False, True, False, True)
