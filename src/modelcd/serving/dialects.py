"""What every way to ask for scores shares: a request, an answer, and how JSON is read; and modelcd's own way.

A dialect is one function: from a request to a frame, and to the function that will write the answer in the same
dialect.  So all of them share the checks, the model and the bookkeeping.  The Open Inference Protocol is in
`tensors.py`, MLflow's scoring protocol in `invocations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from modelcd.serving.inputs import BadInput, Inputs

if TYPE_CHECKING:
    import pandas as pd

JSON = ("content-type", "application/json")


class Headers(Protocol):
    """Request headers, by their names in lower case."""

    def get(self, name: str, /) -> str | None:
        """Return the header *name*."""
        ...


class Ask(NamedTuple):
    """A request for scores: its body, unpacked, and its headers."""

    body: bytes
    headers: Headers


class Answer(NamedTuple):
    """One score per row, and what they are the scores of; where a score is a list, its numbers may have *names*."""

    scores: list[Any]
    model: str
    version: str
    prediction: str
    names: Sequence[Any] = ()


class Written(NamedTuple):
    """The body of an answer, and the headers that say what it is."""

    body: bytes
    headers: Sequence[tuple[str, str]] = (JSON,)


Write = Callable[[Answer], Written]
Dialect = Callable[[Ask, Inputs], "tuple[pd.DataFrame, Write]"]


def takes(ask: Ask, *media: str) -> str:
    """Return which of *media* the body is, the first when nothing is said; raises `BadInput` (415) for another one.

    A web page can send other types to any address without asking first; JSON it cannot.
    """
    said = ask.headers.get("content-type")
    if said is None or said == media[0]:
        return media[0]
    kind = said.partition(";")[0].strip().lower()
    if kind not in media:
        raise BadInput(f"Content-Type {said!r} is not read here: send {' or '.join(media)}", 415)
    return kind


def parse(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in *body*; raises `BadInput` (400)."""
    try:
        plain = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not JSON: {_why(body, error)}", 400) from None
    if type(plain) is not dict:
        raise BadInput("the body must be a JSON object", 400)
    return plain


def _why(body: bytes, error: orjson.JSONDecodeError) -> str:
    """Say what is wrong with *body* and, where people often mean something that JSON lacks, what to send instead."""
    try:
        rest = body.decode()[max(0, error.pos - 1) : error.pos + 8]
    except UnicodeDecodeError as undecoded:
        return f"byte {undecoded.start} is not UTF-8"
    for word in ("NaN", "Infinity"):
        if word in (rest[: len(word)], rest[1 : len(word) + 1]):
            return f"{word} at character {error.pos}: send null for a value that is missing"
    if "infinity" in error.msg:
        return f"the number at character {error.pos} is too large for 64 bits: send null for a value that is missing"
    return f"{error.msg} at character {error.pos}"


def rows_asked(ask: Ask, inputs: Inputs) -> tuple[pd.DataFrame, Write]:
    """Read modelcd's own request, `{"rows": [{column: value}]}`."""
    takes(ask, "application/json")
    plain = parse(ask.body)
    if "rows" not in plain:
        raise BadInput("the body has no 'rows': send {\"rows\": [{column: value, ...}, ...]}")
    return inputs.of_rows(plain["rows"]), _write_scores


def _write_scores(answer: Answer) -> Written:
    body = {"scores": answer.scores, "model": answer.model, "version": answer.version}
    if answer.names:
        body["names"] = answer.names
    return Written(orjson.dumps(body))
