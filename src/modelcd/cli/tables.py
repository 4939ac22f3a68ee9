"""Tables and times for people: at most 100 columns, the least important column gives way."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return *rows* under *heads* in columns; the last column is cut where the line would grow too long."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[k]) for line in [list(heads), *cells]) for k in range(len(heads))]
    # Only a screen has an edge: what goes into a file or a pipe is whole.
    room = max(60, min(100, shutil.get_terminal_size((100, 24)).columns)) if sys.stdout.isatty() else sys.maxsize
    lines = []
    for row in [[head.upper() for head in heads], *cells]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        lines.append(line if len(line) <= room else line[: room - 1] + "…")
    return "\n".join(lines)


def ago(moment: str, now: datetime | None = None) -> str:
    """Say how long ago *moment* (ISO 8601) was."""
    if not moment:
        return "-"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def lasted(since: str, until: str) -> str:
    """Say how long it took from *since* to *until* (ISO 8601)."""
    if not since or not until:
        return "-"
    return span((datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds())


def span(seconds: float) -> str:
    """Say how long *seconds* are, in the largest unit of which there are some."""
    for unit, size, least in (("d", 86_400, 172_800), ("h", 3_600, 14_400), ("min", 60, 120)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
