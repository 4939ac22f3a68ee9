"""What every prediction log does to labels before it keeps them: a truth may be told twice, never changed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from modelcd.errors import UsageError
from modelcd.ports import Label


def first_of(label: Label) -> str:
    """Return the id that the first row has when the prediction of *label* answered many."""
    return f"{label.prediction}/0"


def settled(labels: Sequence[Label], known: Mapping[str, Any], many: Collection[str]) -> tuple[dict[str, Any], int]:
    """Return the truths that are new, by prediction, and how many of *labels* were *known* or told twice.

    *many* are the ids of first rows (see `first_of`) that were served.  Raises `UsageError`, naming the prediction,
    for a truth that differs from the one before it, that JSON cannot hold, or that is meant for many rows at once.
    """
    new: dict[str, Any] = {}
    again = 0
    for label in labels:
        if first_of(label) in many:
            raise UsageError(
                f"prediction {label.prediction} answered many rows",
                help=f"label each by its number: {first_of(label)} is the first; nothing of this batch was kept",
            )
        value = _plain(label)
        seen = known if label.prediction in known else new
        if label.prediction not in seen:
            new[label.prediction] = value
        elif seen[label.prediction] == value:
            again += 1
        else:
            raise UsageError(
                f"prediction {label.prediction} is labelled {seen[label.prediction]!r}, and now {value!r}",
                help="a truth cannot change: send each once, when it is final; nothing of this batch was kept",
            )
    return new, again


def _plain(label: Label) -> Any:
    if not label.prediction:
        raise UsageError("a label names no prediction", help="send the id that came with the answer")
    try:
        return json.loads(json.dumps(label.value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the label of prediction {label.prediction} is no JSON value: {error}",
            help="labels are text, finite numbers, booleans, null, or lists and mappings of these",
        ) from error
