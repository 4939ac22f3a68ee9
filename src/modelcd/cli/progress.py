"""A delivery as it goes: one line a step; what is done stays, what runs moves.  Plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from modelcd.domain.rollout import Close, Shift, Start
from modelcd.domain.verdict import Finding, Verdict

WIDTH = 100
QUIET_STEPS = {"describe", "open"}
MARKS = {Verdict.PASS: " ", Verdict.INCONCLUSIVE: "?", Verdict.ERROR: "!", Verdict.FAIL: "✗"}


class Progress:
    """Listens to a flow and prints it; give it to `Control` as `tell`."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._shown = ""
        self._looked = 0.0

    def __call__(self, step: str, state: str, what: Any, seconds: float) -> None:
        if state == "begin":
            if step not in QUIET_STEPS:
                self._moving(f"  {step:<13} …")
        elif state == "look":
            self._look(step, what)
        elif state == "end":
            if isinstance(what, Finding) and step not in QUIET_STEPS:
                self._finding(step, what, seconds)
        elif state == "error":
            self._stay(f"✗ {step:<13} {what}")

    def starting(self, service: str) -> None:
        """Say that a service is being started."""
        self._moving(f"  starting {service} …")

    def close(self) -> None:
        """Take away the moving line."""
        self._moving("")

    def _finding(self, step: str, finding: Finding, seconds: float) -> None:
        text = finding.reason
        parts = finding.evidence.get("findings")
        if parts:
            lines = [str(part["reason"]) for part in parts]
            marks = [MARKS[Verdict(part["verdict"])] for part in parts]
            self._stay(_line(step, lines[0], seconds, marks[0]))
            for line, mark in zip(lines[1:], marks[1:], strict=True):
                self._stay(_line("", line, None, mark))
        else:
            self._stay(_line(step, text, seconds, MARKS[finding.verdict]))

    def _look(self, place: str, ticked: Any) -> None:
        for move in ticked.moves:
            if isinstance(move, Start):
                self._stay(f"  {place:<13} starting version {move.version}")
            elif isinstance(move, Shift):
                shares = ", ".join(f"version {a.version} {a.share:g} %" for a in move.routing.arms if a.share)
                self._stay(f"{'✗' if move.back else ' '} {place:<13} {shares}   ({move.why})"[: 2 * WIDTH])
            elif isinstance(move, Close):
                self._stay(f"  {place:<13} {move.ending}")
        release = ticked.endpoint.releases[-1]
        if release.ending is None and ticked.wait.why != "more to do":
            now = time.monotonic()
            if self._live or now - self._looked > 10:
                self._looked = now
                bar = "█" * round(release.share / 10) + "░" * (10 - round(release.share / 10))
                exposed = f"{release.exposed.requests:,} requests"
                text = f"  {place:<13} {release.share:g} %  {bar}  {exposed}  {ticked.wait.why}"
                (self._moving if self._live else self._stay)(text)

    def _moving(self, text: str) -> None:
        if self._live:
            self._out.write("\r\x1b[2K" + text[:WIDTH])
            self._shown = text
            self._out.flush()

    def _stay(self, text: str) -> None:
        if self._live and self._shown:
            self._out.write("\r\x1b[2K")
            self._shown = ""
        self._out.write(text + "\n")
        self._out.flush()


def _line(step: str, text: str, seconds: float | None, mark: str) -> str:
    room = WIDTH - 26
    short = text if len(text) <= room else text[: room - 1] + "…"
    return f"{mark} {step:<13} {short:<{room}} {f'{seconds:.1f} s' if seconds is not None else '':>8}".rstrip()
