"""Live traffic made of recorded rows: sent in time order at a steady rate, each followed by its true label.

An open loop: requests leave on schedule whether or not the ones before were answered, up to as many as there are
connections.  What could not be sent in time is sent late and not dropped.
"""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelcd.domain.telling import counted

if TYPE_CHECKING:
    from pandas import DataFrame

CONNECTIONS = 6
LABELS_EVERY = 0.5
"""Seconds between two batches of labels."""


class Traffic:
    """Sends the rows of *frames* (in time order by the column *time*) to *url*, and their *target* to *door*.

    A password in *door* is the credential that it asks for.
    One of *every* rows is sent; when time is up, the next of every so many, from the beginning: no row comes twice.
    """

    def __init__(
        self, url: str, door: str, frames: Sequence[DataFrame], time: str, target: str, rate: float, every: int = 1
    ) -> None:
        self._url, self._door, self._rate = urlsplit(url), urlsplit(door), rate
        self._rows = (row for k in range(every) for frame in frames for row in _rows(frame, time, target, k, every))
        self._lock = threading.Lock()
        self._after = datetime.min
        self._stop = threading.Event()
        self._labels: list[dict[str, Any]] = []
        self._sent = self._failed = self._labelled = 0
        self._next = 0.0
        self._threads: list[threading.Thread] = []

    def start(self) -> Traffic:
        """Begin to send."""
        self._next = time.monotonic()
        work = [self._send] * CONNECTIONS + [self._tell]
        self._threads = [threading.Thread(target=target, daemon=True) for target in work]
        for thread in self._threads:
            thread.start()
        return self

    def not_before(self, moment: datetime) -> None:
        """Leave out the rows that happened before *moment*: they have become training data."""
        with self._lock:
            self._after = moment

    def stop(self) -> str:
        """End, and say what was sent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10.0)
        followed = f"{counted(self._labelled, 'label')} followed"
        return f"{counted(self._sent, 'request')}, {self._failed:,} failed for users, {followed}"

    def _take(self) -> tuple[bytes, Any, float] | None:
        with self._lock:
            for moment, body, label in self._rows:
                if moment >= self._after:
                    self._next = max(self._next + 1 / self._rate, time.monotonic() - 1.0)
                    return body, label, self._next
        return None

    def _send(self) -> None:
        connection = http.client.HTTPConnection(self._url.netloc, timeout=30)
        while not self._stop.is_set() and (taken := self._take()) is not None:
            body, label, due = taken
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            try:
                connection.request("POST", self._url.path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                good, key = answer.status == 200, answer.headers.get("X-Prediction-Id")
            except (OSError, http.client.HTTPException):
                connection.close()
                good, key = False, None
            with self._lock:
                self._sent += 1
                self._failed += not good
                if key and good:
                    self._labels.append({"id": key, "label": label})

    def _tell(self) -> None:
        while not self._stop.wait(LABELS_EVERY):
            with self._lock:
                batch, self._labels = self._labels, []
            if batch and not self._deliver(batch):
                with self._lock:
                    self._labels = batch + self._labels

    def _deliver(self, batch: list[dict[str, Any]]) -> bool:
        door = self._door
        connection = http.client.HTTPConnection(door.hostname or "", door.port, timeout=30)
        try:
            text = json.dumps({"labels": batch})
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {door.password}"}
            connection.request("POST", door.path, text, headers)
            good = connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if good:
            self._labelled += len(batch)
        return good


def _rows(frame: DataFrame, time: str, target: str, first: int, every: int) -> Iterator[tuple[datetime, bytes, Any]]:
    ordered = frame.sort_values(time, kind="stable").iloc[first::every]
    columns = [name for name in ordered.columns if name != target]
    for moment, label, *values in zip(
        ordered[time], ordered[target], *(ordered[name] for name in columns), strict=True
    ):
        row = {name: _plain(value) for name, value in zip(columns, values, strict=True)}
        yield moment.to_pydatetime(), json.dumps({"rows": [row]}).encode(), _plain(label)


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
