"""Scores are the same, or they are not, whatever they are."""

from __future__ import annotations

from typing import Any

import pytest

from modelcd.domain.scores import BATCHED, same


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
