"""From the body of a request to the body of its answer, and how long that takes.

Quick models answer in the event loop: handing a request to a thread and back costs more than a small model does.
Slow ones would keep the readiness probe waiting, so whatever is expected to take more than `INLINE` seconds, from
what warm-up showed, goes to a thread.  There is one such thread, and it loads the model as well: no model has to be
safe to call from two threads at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from time import perf_counter, time
from typing import Any

import orjson

from modelcd.errors import ConfigurationError
from modelcd.serving.dialects import Answer, Ask, Dialect, Written, rows_asked
from modelcd.serving.inputs import BadInput
from modelcd.serving.loading import Model, ModelFailed

INLINE = 0.02
"""Seconds that the event loop may be held by one request."""

WARM_ROWS = 100


@dataclass(frozen=True)
class Pace:
    """The seconds a request takes: `seconds` up to `size` bytes, and `per_byte` for each byte above."""

    seconds: float
    size: int
    per_byte: float

    def expected(self, size: int) -> float:
        """Return the seconds that a request of *size* bytes is expected to take."""
        return self.seconds + self.per_byte * max(0, size - self.size)


UNKNOWN_PACE = Pace(seconds=float("inf"), size=0, per_byte=0.0)


class Engine:
    """A loaded model under the name and version it is served as."""

    def __init__(self, model: Model, name: str, version: str) -> None:
        self.model = model
        self.name = name
        self.version = version
        self.pace = UNKNOWN_PACE

    def answer(self, dialect: Dialect, ask: Ask) -> tuple[Written, Answer]:
        """Return the answer to *ask*, written and as a value; raises `BadInput`, `ModelFailed`."""
        frame, write = dialect(ask, self.model.inputs)
        scores, names = self.model.score(frame), self.model.manifest.output.names
        answer = Answer(scores, self.name, self.version, _new_id(), names)
        return write(answer), answer

    def warm_up(self) -> None:
        """Send the manifest's rows through the model, alone and together, and learn its pace.

        A version that cannot score its own rows is refused (`ConfigurationError`); without such rows the pace stays
        unknown, and every request goes to the thread.
        """
        rows = self.model.manifest.warmup
        if not rows:
            return
        try:
            single, size = max((self._timed([row]) for row in rows[:5]), key=lambda timed: timed[0])
            self.pace = Pace(single, size, 0.0)
            many = list(rows) if single > INLINE else list(islice(cycle(rows), max(WARM_ROWS, len(rows))))
            seconds, larger = self._timed(many)
        except BadInput as error:
            raise ConfigurationError(f"the manifest's warm-up rows do not fit its inputs: {error}") from error
        except ModelFailed as error:
            raise ConfigurationError(f"the model cannot score its own warm-up rows: {error}") from error
        if larger > size:
            self.pace = Pace(single, size, max(0.0, seconds - single) / (larger - size))

    def _timed(self, rows: Sequence[Mapping[str, Any]]) -> tuple[float, int]:
        """Score *rows* up to three times; return the shortest time in seconds and the size of the body."""
        ask = Ask(orjson.dumps({"rows": [dict(row) for row in rows]}), {})
        times: list[float] = []
        while len(times) < 3 and sum(times) < 1.0:
            begin = perf_counter()
            self.answer(rows_asked, ask)
            times.append(perf_counter() - begin)
        return min(times), len(ask.body)


def _new_id() -> str:
    """Return 32 hexadecimal digits that sort by time: milliseconds first, then 80 bits of chance."""
    return f"{int(time() * 1000):012x}{secrets.token_hex(10)}"
