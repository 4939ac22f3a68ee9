"""What the server says about itself: counts in OpenMetrics text, and a log of JSON lines on standard output.

The counts are few and written by hand: a metrics library would be one more thing that a model's own environment has
to agree with.  Latencies are counted on the grid that gateway and judge share.  The log shows no request's contents;
the one exception is what a model's own exception says, because that is what its author needs.
"""

from __future__ import annotations

import contextlib
import io
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from modelcd.domain.samples import BUCKETS, LATENCY_GRID

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Telemetry:
    """Counts of one server since it started; only requests for scores are counted, no probes."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.model_errors = 0
        self.rows = 0
        self._latency = [0] * BUCKETS
        self._seconds = 0.0

    def count(self, code: int, seconds: float, rows: int = 0) -> None:
        """Count one answer."""
        self.requests[code] += 1
        self.rows += rows
        self._latency[bisect_left(LATENCY_GRID, seconds)] += 1
        self._seconds += seconds

    def text(self, model: str, version: str, gauges: Mapping[str, int], counters: Mapping[str, int]) -> str:
        """Return everything as OpenMetrics text; *gauges* and *counters* are further ones by name."""
        lines = ["# TYPE modelcd_model info"]
        lines += [f'modelcd_model_info{{model="{_label(model)}",version="{_label(version)}"}} 1']
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value}"]
        lines += ["# TYPE modelcd_requests counter"]
        lines += [f'modelcd_requests_total{{code="{code}"}} {n}' for code, n in sorted(self.requests.items())]
        ours = {"modelcd_rows": self.rows, "modelcd_model_errors": self.model_errors}
        for name, value in {**ours, **counters}.items():
            lines += [f"# TYPE {name} counter", f"{name}_total {value}"]
        lines += ["# TYPE modelcd_request_seconds histogram", "# UNIT modelcd_request_seconds seconds"]
        below = 0
        for edge, n in zip((*map(str, LATENCY_GRID), "+Inf"), self._latency, strict=True):
            below += n
            lines.append(f'modelcd_request_seconds_bucket{{le="{edge}"}} {below}')
        lines += [f"modelcd_request_seconds_count {below}", f"modelcd_request_seconds_sum {self._seconds:.9g}", "# EOF"]
        return "\n".join(lines) + "\n"


def log(level: str, event: str, **fields: Any) -> None:
    """Write one JSON line to standard output; when nobody reads that any more, serving goes on without."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event, **fields}
    with contextlib.suppress(OSError):
        sys.stdout.write(orjson.dumps(line, default=str).decode() + "\n")
        sys.stdout.flush()


class _Tolerant(io.TextIOBase):
    """Writes through to *stream* what it takes; what it does not, on a full disk, is lost and stops nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


def tolerate() -> None:
    """Let nothing fail in this process because a line that is printed cannot be written: models print, too."""
    sys.stdout, sys.stderr = _Tolerant(sys.stdout), _Tolerant(sys.stderr)


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
