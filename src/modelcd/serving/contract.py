"""Does an address keep the model contract?  Point by point, over HTTP, for a server in any language.

Only what can be seen from outside is asked; that SIGTERM drains has to be seen by whoever owns the process.  A
point that could not be tried is an error, never a pass: when nothing answers, nothing else is reported as kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from modelcd.domain.scores import BATCHED, same, wrong_with
from modelcd.domain.verdict import Finding, Verdict
from modelcd.errors import CannotTell, UsageError
from modelcd.serving.wire import encode_rows, said_in

ALONE = 5
"""How many rows are sent one by one, to see whether scores stay with their rows."""

_JSON = {"content-type": "application/json"}
_BAD_BODIES: Mapping[str, bytes] = {
    "a body that is not JSON": b'{"rows": [',
    "a body without rows": b"{}",
    "an empty list of rows": b'{"rows": []}',
    "rows that are no list": b'{"rows": 1}',
    "a row that is no object": b'{"rows": ["a row"]}',
}
_Point = Callable[[httpx.Client, Sequence[Mapping[str, Any]]], Finding]


def check_contract(address: str, rows: Sequence[Mapping[str, Any]], timeout: float = 30.0) -> list[Finding]:
    """Ask the model at *address* for each point of the contract; *rows* are good ones, best two or more.

    *timeout* is in seconds per request.  Raises `UsageError` without rows: a contract that was not tried is not kept.
    """
    if not rows:
        raise UsageError("the contract cannot be checked without rows", help="give a few rows the model can score")
    findings = []
    with httpx.Client(base_url=address, timeout=timeout, trust_env=False) as client:
        for name, point in _POINTS.items():
            try:
                with _translated(address):
                    findings.append(point(client, rows))
            except CannotTell as error:
                findings.append(Finding(name, Verdict.ERROR, error.message))
                break
    return findings


def _ready(client: httpx.Client, _rows: Sequence[Mapping[str, Any]]) -> Finding:
    response = client.get("/readyz")
    said, seen = said_in(response.content), {"status": response.status_code}
    if response.status_code != 200:
        return _failed("ready", f"GET /readyz answered {response.status_code} {said.get('error', '')}".strip(), seen)
    for key in ("model", "version"):
        if not isinstance(said.get(key), str) or not said[key]:
            return _failed("ready", f"GET /readyz answered 200 without the text {key!r}", seen)
    return _kept("ready", "GET /readyz says which model and version is ready", said)


def _scores(client: httpx.Client, rows: Sequence[Mapping[str, Any]]) -> Finding:
    response = client.post("/predict", content=encode_rows(rows), headers=_JSON)
    said, seen = said_in(response.content), {"status": response.status_code, "rows": len(rows)}
    if response.status_code != 200:
        return _failed(
            "scores", f"good rows were answered {response.status_code}: {said.get('error', 'no error')}", seen
        )
    scores = said.get("scores")
    if not isinstance(scores, list) or len(scores) != len(rows):
        got = len(scores) if isinstance(scores, list) else "no list of"
        return _failed("scores", f"{len(rows)} rows were given {got} scores", seen)
    if wrong := wrong_with(scores):
        return _failed("scores", f"POST /predict {wrong}", seen)
    ids = {name: name in response.headers for name in ("x-prediction-id", "x-model-version")}
    return _kept("scores", f"{len(rows)} rows were given {len(rows)} scores", seen | {"optional headers": ids})


def _identity(client: httpx.Client, rows: Sequence[Mapping[str, Any]]) -> Finding:
    ready = said_in(client.get("/readyz").content)
    response = client.post("/predict", content=encode_rows(rows[:1]), headers=_JSON)
    said = said_in(response.content)
    seen = {"ready": _who(ready), "predict": _who(said), "header": response.headers.get("x-model-version")}
    if _who(ready) != _who(said):
        return _failed("identity", f"/readyz says {_who(ready)}, /predict says {_who(said)}", seen)
    if seen["header"] not in (None, said.get("version")):
        return _failed("identity", f"the header X-Model-Version says {seen['header']}, the body {_who(said)}", seen)
    return _kept("identity", f"/readyz and /predict both say {_who(said)}", seen)


def _order(client: httpx.Client, rows: Sequence[Mapping[str, Any]]) -> Finding:
    few = rows[:ALONE]
    together, again = _ask(client, few), _ask(client, few)
    alone = [_ask(client, [row])[0] for row in few]
    backwards = _ask(client, few[::-1])[::-1]
    seen = {"together": together, "alone": alone, "backwards": backwards}
    if not same(together, again, BATCHED):
        return Finding("order", Verdict.INCONCLUSIVE, "the same rows got other scores when asked again", seen)
    if not same(together, alone, BATCHED):
        return _failed("order", "rows get other scores alone than together", seen)
    if not same(together, backwards, BATCHED):
        return _failed("order", "rows get other scores when their order is turned round", seen)
    if same(together, together[:1] * len(together), BATCHED):
        return _kept("order", "all rows got the same score, in whichever order", seen)
    return _kept("order", f"{len(few)} rows get the same scores together, alone and in the other order", seen)


def _bad_input(client: httpx.Client, _rows: Sequence[Mapping[str, Any]]) -> Finding:
    seen = {}
    for what, body in _BAD_BODIES.items():
        response = client.post("/predict", content=body, headers=_JSON)
        seen[what] = response.status_code
        if not 400 <= response.status_code < 500:
            return _failed("bad input", f"{what} was answered {response.status_code}, not 4xx", seen)
        error = said_in(response.content).get("error")
        if not isinstance(error, str) or not error:
            return _failed("bad input", f"{what} was answered {response.status_code} without an 'error' in words", seen)
    return _kept("bad input", "bad input is answered 4xx with an error in words", seen)


def _unknown_path(client: httpx.Client, _rows: Sequence[Mapping[str, Any]]) -> Finding:
    status = client.get("/there-is-nothing-here").status_code
    if status != 404:
        return _failed("unknown path", f"a path that does not exist was answered {status}, not 404", {"status": status})
    return _kept("unknown path", "a path that does not exist is answered 404", {"status": status})


def _still_ready(client: httpx.Client, _rows: Sequence[Mapping[str, Any]]) -> Finding:
    status = client.get("/readyz").status_code
    if status != 200:
        return _failed("still ready", f"after bad input /readyz answers {status}", {"status": status})
    return _kept("still ready", "bad input did not end readiness", {"status": status})


_POINTS: Mapping[str, _Point] = {
    "ready": _ready,
    "scores": _scores,
    "identity": _identity,
    "order": _order,
    "bad input": _bad_input,
    "unknown path": _unknown_path,
    "still ready": _still_ready,
}


def _ask(client: httpx.Client, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    response = client.post("/predict", content=encode_rows(rows), headers=_JSON)
    scores = said_in(response.content).get("scores")
    if response.status_code != 200 or not isinstance(scores, list) or len(scores) != len(rows):
        raise CannotTell(f"{len(rows)} good rows were answered {response.status_code}, so order cannot be seen")
    return scores


def _who(said: Mapping[str, Any]) -> str:
    return f"{said.get('model')} {said.get('version')}"


def _kept(name: str, reason: str, evidence: Mapping[str, Any]) -> Finding:
    return Finding(name, Verdict.PASS, reason, evidence)


def _failed(name: str, reason: str, evidence: Mapping[str, Any]) -> Finding:
    return Finding(name, Verdict.FAIL, reason, evidence)


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CannotTell(f"{address} does not answer: {error or type(error).__name__}") from error
