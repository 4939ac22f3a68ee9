"""The prediction log: one JSON line per score that was served to users, for labels to be joined to later.

A request only leaves a tuple behind; a thread turns what has gathered in a few milliseconds into lines and appends
them with one write.  So a request never waits for a disk, and a server that is killed outright loses at most the
last moment; one that is asked to end loses nothing.  What cannot be written is kept and tried again.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from modelcd.serving.telemetry import log

GATHER = 0.02
"""Seconds for which rows gather before they are written."""

KEPT = 1_000_000
"""The most requests that wait for a log that cannot be written; beyond it the oldest are lost, and counted."""

_Item = tuple[str, float, str, str, Sequence[Any]]


class PredictionLog:
    """Appends served scores to a file, from a thread of its own; raises `OSError` when it cannot be opened."""

    def __init__(self, path: Path, model: str, version: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._same = {"model": model, "version": int(version) if version.isdecimal() else version}
        self._items: deque[_Item] = deque()
        self._rest = b""
        self._some = threading.Event()
        self._closing = threading.Event()
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, item: _Item) -> None:
        """Log the scores of one request: (prediction id, Unix time, routing revision, leg, scores)."""
        if len(self._items) >= KEPT:
            self._items.popleft()
            self.lost += 1
        self._items.append(item)
        if not self._some.is_set():
            self._some.set()

    def close(self) -> None:
        """Write what is left and end; what cannot be written now is logged as lost."""
        self._closing.set()
        self._some.set()
        self._thread.join(timeout=5)
        if self._items or self._rest:
            self.lost += len(self._items) + self._rest.count(b"\n")
            log("error", "predictions lost", lost=self.lost, help="see the error logged before this one")

    def _run(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(GATHER)
            self._some.clear()
            if not self._write():
                self._closing.wait(1.0)
                self._some.set()
        self._write()

    def _write(self) -> bool:
        lines = [self._rest]
        while self._items:
            lines += self._lines(self._items.popleft())
        data = b"".join(lines)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            log("error", "prediction log cannot be written", error=str(error), help="free its disk; it is tried again")
        self._rest = data
        return not data

    def _lines(self, item: _Item) -> list[bytes]:
        prediction, moment, revision, leg, scores = item
        line = {"id": prediction, "at": datetime.fromtimestamp(moment, UTC).isoformat(), **self._same}
        line.update(revision=revision, leg=leg)
        lines = []
        for k, score in enumerate(scores):
            line["score"] = score
            if len(scores) > 1:
                line["id"] = f"{prediction}/{k}"
            lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        return lines
