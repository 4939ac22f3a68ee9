"""What a score may be, as JSON, and when two of them count as the same one.

A score is a number, true or false, a text, or a list of numbers; all scores of a model are of one kind, and its lists
of one length.  Nothing else: guards, gates and the prediction log take each of these, and a mapping or a list of texts
would need an order that nobody declared.  `serving/outputs.py` holds our own models to the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

SAME = 1e-9
"""How far apart, relatively, two scores of the same batch may be: nothing but printing and reading lies between."""

BATCHED = 1e-5
"""How far apart scores of one row may be when it was asked for in another batch: arithmetic rounds differently."""


def wrong_with(scores: Sequence[Any]) -> str:
    """Say what is wrong with *scores*, one per row, in words that follow the name of who gave them; empty when nothing.

    >>> wrong_with([{"cat": 0.9}])
    'gave a mapping for row 0: a score is a number, true or false, a text, or a list of numbers'
    """
    first = kind_of(scores[0]) if scores else ""
    for row, score in enumerate(scores):
        kind = kind_of(score)
        if not kind:
            may_be = "a score is a number, true or false, a text, or a list of numbers"
            return f"gave {_unfit(score)} for row {row}: {may_be}"
        if kind != first:
            return f"gave {first} for row 0 and {kind} for row {row}: all rows get the same"
    return ""


def kind_of(score: Any) -> str:
    """Say which kind of score *score* is, with the length of a list; empty for what is no score."""
    match score:
        case bool():
            return "a truth value"
        case int() | float():
            return "a number" if math.isfinite(score) else ""
        case str():
            return "a text"
        case list() | tuple() if score and all(kind_of(value) == "a number" for value in score):
            return f"a list of {len(score)}"
        case _:
            return ""


def _unfit(score: Any) -> str:
    match score:
        case None:
            return "null"
        case float():
            return "NaN or infinity"
        case dict():
            return "a mapping"
        case list() | tuple():
            odd = [value for value in score if kind_of(value) != "a number"]
            return f"a list with {kind_of(odd[0]) or _unfit(odd[0])} in it" if odd else "an empty list"
        case _:
            return f"a {type(score).__name__}"


def same(left: Any, right: Any, relative: float = SAME) -> bool:
    """Say whether two scores agree; floats, also those in lists, up to *relative*."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(same(a, b, relative) for a, b in zip(left, right, strict=True))
    if isinstance(left, float) or isinstance(right, float):
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        return numbers and math.isclose(left, right, rel_tol=relative, abs_tol=relative * 1e-3)
    return bool(left == right)
