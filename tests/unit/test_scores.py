"""Scores are the same, or they are not, whatever they are."""

from __future__ import annotations

from typing import Any

import pytest

from modelcd.domain.scores import BATCHED, same, wrong_with


@pytest.mark.parametrize(
    ("left", "right"),
    [(0.5, 0.5), (0.5, 0.5 + 1e-12), (1, 1.0), ("late", "late"), ([0.1, 0.9], (0.1, 0.9)), (0.0, 1e-13), (True, True)],
)
def test_what_is_the_same_is_so_both_ways(left: Any, right: Any) -> None:
    assert same(left, right)
    assert same(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (0.5, 0.501),
        (0.5, "0.5"),
        (0.5, None),
        ("late", "early"),
        ([0.1], [0.1, 0.9]),
        (0.5, [0.5]),
        (float("nan"), 0.5),
    ],
)
def test_what_is_another_is_so_both_ways(left: Any, right: Any) -> None:
    assert not same(left, right)
    assert not same(right, left)


def test_another_batch_may_round_differently() -> None:
    assert same([0.5], [0.500001], BATCHED)
    assert not same([0.5], [0.500001])


@pytest.mark.parametrize("scores", [[0.5, 1], [True], ["late"], [[0.1, 2], [0.3, 4.0]], []])
def test_numbers_truth_values_texts_and_lists_of_numbers_are_scores(scores: list[Any]) -> None:
    assert wrong_with(scores) == ""


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5, None], "gave null for row 1"),
        ([float("nan")], "gave NaN or infinity for row 0"),
        ([{"cat": 0.9}], "gave a mapping for row 0"),
        ([[]], "gave an empty list for row 0"),
        ([[0.5, "x"]], "gave a list with a text in it for row 0"),
        ([[0.5, None]], "gave a list with null in it for row 0"),
        ([[[0.5]]], "gave a list with a list of 1 in it for row 0"),
        ([[0.5, 0.5], [0.5]], "gave a list of 2 for row 0 and a list of 1 for row 1"),
        ([0.5, "late"], "gave a number for row 0 and a text for row 1"),
        ([0.5, True], "gave a number for row 0 and a truth value for row 1"),
    ],
)
def test_anything_else_is_none_and_is_named(scores: list[Any], message: str) -> None:
    assert wrong_with(scores).startswith(message)
