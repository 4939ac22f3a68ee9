"""The `Scoring` port over HTTP, with one connection pool per instance.

Proxy settings of the environment are ignored: a model's address is inside a machine or a cluster, and a probe that a
proxy answered would prove nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import httpx

from modelcd.domain.scores import wrong_with
from modelcd.errors import CannotTell, NotReady, RowsRefused
from modelcd.ports import Scores
from modelcd.serving.wire import encode_rows, said_in


class HttpScoring:
    """Talks the model contract to an address such as `http://127.0.0.1:8000`; safe to use from several threads."""

    def ready(self, address: str, timeout: float = 2.0) -> Mapping[str, Any]:
        """Return what the readiness probe answered; raises `NotReady` with the reason."""
        with _translated(NotReady, address, timeout):
            response = self._client.get(f"{address}/readyz", timeout=timeout)
        said = said_in(response.content)
        if response.status_code != 200:
            raise NotReady(f"{address} is not ready: {_reason(response)}")
        if not all(isinstance(said.get(name), str) and said[name] for name in ("model", "version")):
            raise NotReady(
                f"{address}/readyz answered 200 without saying which model and version it is",
                help="a model answers with the MODELCD_MODEL and MODELCD_VERSION it was given",
            )
        return said

    def predict(self, address: str, rows: Sequence[Mapping[str, Any]], timeout: float = 30.0) -> Scores:
        """Score *rows*; raises `RowsRefused` for a 4xx, `CannotTell` otherwise, with the model's own message."""
        body = encode_rows(rows)
        with _translated(CannotTell, address, timeout):
            response = self._client.post(
                f"{address}/predict", content=body, headers={"content-type": "application/json"}, timeout=timeout
            )
        if response.status_code != 200:
            # 403 and 404 are the gateway's: it does not let somebody in, or knows no such endpoint.
            refused = response.status_code in range(400, 500) and response.status_code not in (401, 403, 404)
            refused = refused and "error" in said_in(response.content)
            kind = RowsRefused if refused else CannotTell
            raise kind(f"{address} gave no scores: {_reason(response)}")
        said = said_in(response.content)
        scores = said.get("scores")
        if not isinstance(scores, list) or len(scores) != len(rows):
            got = f"{len(scores)} scores" if isinstance(scores, list) else "no list of scores"
            raise CannotTell(f"{address} answered {got} for {len(rows)} rows", help="a model gives one score per row")
        if wrong := wrong_with(scores):
            raise CannotTell(f"{address} {wrong}", help="see docs/serving.md: what a score may be")
        if not all(isinstance(said.get(name), str) for name in ("model", "version")):
            raise CannotTell(f"{address} gave scores without saying of which model and version")
        names = said.get("names")
        return Scores(
            tuple(scores),
            said["model"],
            said["version"],
            prediction_id=response.headers.get("x-prediction-id", ""),
            names=tuple(names) if isinstance(names, list) else (),
        )

    @cached_property
    def _client(self) -> httpx.Client:
        client = httpx.Client(trust_env=False, limits=httpx.Limits(max_connections=64, keepalive_expiry=30.0))
        weakref.finalize(self, client.close)
        return client


def _reason(response: httpx.Response) -> str:
    error = said_in(response.content).get("error")
    return f"{error} (HTTP {response.status_code})" if error else f"HTTP {response.status_code} without an 'error'"


@contextmanager
def _translated(kind: type[CannotTell], address: str, timeout: float) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise kind(f"{address} did not answer within {timeout:g} s", help="see the model's log") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise kind(f"{address} does not answer: {error}", help="see whether its process runs, and its log") from error
