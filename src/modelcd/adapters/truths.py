"""What every prediction log does to labels before it keeps them: a truth may be told twice, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelcd.errors import UsageError
from modelcd.ports import Label


def settled(labels: Sequence[Label], known: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the truths that are new, by prediction, and how many of *labels* were *known* or told twice.

    Raises `UsageError`, naming the prediction, for a truth that differs from the one before it or that JSON cannot
    hold.
    """
    new: dict[str, Any] = {}
    again = 0
    for label in labels:
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
