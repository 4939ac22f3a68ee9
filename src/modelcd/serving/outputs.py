"""What a model may give for a row: a number, true or false, a text, or a list of numbers of one length for all rows.

`domain/scores.py` says the same of scores in JSON, whoever gave them.  Here they are arrays still, so that a number,
which is what most models give, costs no loop over rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelcd.artifact import Output
from modelcd.domain.scores import wrong_with

Array = NDArray[Any]

_KINDS = {"f": "double", "i": "long", "u": "long", "b": "boolean", "U": "string", "T": "string"}
_LETTERS = {"double": "fiuO", "long": "fiuO", "boolean": "bO", "string": "UTO", "vector": ""}
"""Types of arrays by what a score is: a model may give whole numbers for some rows and fractions for others.

Of an array of objects each is looked at by itself.
"""


_LISTS = (list, tuple, np.ndarray)


class NoScore(Exception):
    """What a model gave is no score; the message follows the name of what gave it."""


def array_of(answer: Any, rows: int, *, chances: bool) -> Array:
    """Return what a model answered for *rows* rows as an array: one value a row, or one row of numbers.

    With *chances*, two columns are the chances of two classes, and the second is the score; of more classes all are.
    Raises `NoScore`.
    """
    if isinstance(answer, dict):
        raise NoScore("gave a mapping: give an array with one row a row, and a column for each output")
    try:
        array = np.asarray(answer)
        if array.dtype.kind == "O" and array.ndim == 1 and len(array) and isinstance(array[0], _LISTS):
            array = np.array([list(one) for one in array])
    except (ValueError, TypeError) as error:
        raise NoScore("gave lists of different lengths: all rows get as many numbers") from error
    if array.ndim not in (1, 2) or len(array) != rows or not array.size:
        raise NoScore(f"gave scores of shape {array.shape} for {rows} rows")
    if chances and (array.ndim == 1 or array.shape[1] < 2):
        raise NoScore(f"gave shape {array.shape}: it needs the chances of two classes or more")
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    return array[:, 1] if chances and array.shape[1] == 2 else array


def plain(array: Array) -> list[Any]:
    """Return the scores in *array* as JSON values; raises `NoScore` for what is none."""
    scores: list[Any] = array.tolist()
    kind, numbers = array.dtype.kind, array.ndim == 2
    if kind == "f" and np.isfinite(array).all():
        return scores
    if kind in ("iu" if numbers else "iubU"):
        return scores
    if wrong := wrong_with(scores):
        raise NoScore(wrong)
    return scores


def output_of(scores: list[Any], names: tuple[Any, ...] = ()) -> Output:
    """Return what *scores*, good ones, are; *names* are those of the numbers in a list, kept when there are as many."""
    first = scores[0]
    if isinstance(first, list):
        return Output("vector", len(first), names if len(names) == len(first) else ())
    kind = "double" if any(type(score) is float for score in scores) else _BY_TYPE[type(first)]
    return Output(kind)


_BY_TYPE = {int: "long", float: "double", bool: "boolean", str: "string"}


def kept(array: Array, output: Output) -> None:
    """Raise `NoScore` unless *array* is what the version was built to give."""
    if array.ndim == 2:
        if output.length != array.shape[1]:
            raise NoScore(f"gave lists of {array.shape[1]} numbers, and was built to give {said(output)}")
    elif (letter := array.dtype.kind) not in _LETTERS[output.kind]:
        given = _KINDS.get(letter) or array.dtype.name  # the name of a type costs more than a small model
        raise NoScore(f"gave {said(Output(given))}, and was built to give {said(output)}")
    elif letter == "O" and (given := said(output_of(plain(array)))) != said(output):
        raise NoScore(f"gave {given}, and was built to give {said(output)}")


def said(output: Output) -> str:
    """Say in words what a score is."""
    words = {"double": "numbers", "long": "numbers", "boolean": "truth values", "string": "texts"}
    return f"lists of {output.length} numbers" if output.length else words.get(output.kind, f"values of {output.kind}")
