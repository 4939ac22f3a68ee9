"""A delivery as it goes: one line a step; what is done stays, what runs moves.

Without a terminal all lines stay, and what may take more than a second has one when it begins, too.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any, TextIO

from modelcd.domain.release import Release
from modelcd.domain.rollout import Rehearse, Shift, Start, Warm
from modelcd.domain.story import shares
from modelcd.domain.telling import counted
from modelcd.domain.verdict import HOLDS, Finding, Verdict

WIDTH = 100
QUIET_STEPS = {"describe": "reading the project", "open": "opening the release"}
"""Steps that leave no line behind, and what is said while they last."""
LASTING_STEPS = {
    "prepare": "reading the data and preparing them",
    "tests": "running the project's tests",
    "expectations": "checking what is expected of the data",
    "train": "training",
    "gates": "starting a server, then judging its scores",
    "acceptance": "asking it what users will ask, then a load of requests",
}
"""Steps that are also said when they begin where lines stay, and what they do: they may take more than a second."""
LOOK_EVERY = 10.0
"""Seconds between two lines about the same step of a release, where lines stay and the step goes on."""

REMIND_AFTER = 300.0
"""Seconds after which such a line is said once more though it says nothing new; then after twice as long, and so on."""

MARKS = {Verdict.PASS: " ", Verdict.INCONCLUSIVE: "?", Verdict.ERROR: "!", Verdict.FAIL: "✗"}


class Progress:
    """Listens to a flow and prints it; give it to `Control` as `tell`."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._live = self._out.isatty()
        self._shown = ""
        self._said = ""
        self._said_at = -LOOK_EVERY
        self._remind_after = REMIND_AFTER
        self._running: list[str] = []

    def __call__(self, step: str, state: str, what: Any, seconds: float) -> None:
        if state == "begin":
            if step in LASTING_STEPS:
                self._lasts(step, LASTING_STEPS[step])
            self._running += [step] if step not in self._running else []
        elif state in ("end", "error") and step in self._running:
            self._running.remove(step)
        if state == "lasts":
            self._lasts(step, what)
        elif state == "note":
            self._stay(f"  {step:<13} {what}")
        elif state == "look":
            self._look(step, what)
        elif state == "end":
            if isinstance(what, Finding) and step not in QUIET_STEPS:
                self._finding(step, what, seconds)
        elif state == "error" and isinstance(what, Exception) and step not in QUIET_STEPS:
            self._stay(f"✗ {step}")  # whoever called the flow tells the error, once
        if state in ("begin", "end", "error") and self._running:
            self._moving(f"  {', '.join(QUIET_STEPS.get(name, name) for name in self._running):<13} …")

    def starting(self, service: str) -> None:
        """Say that a service is being started."""
        say = self._moving if self._live else self._stay
        say(f"  starting {service} …")

    def close(self) -> None:
        """Take away the moving line."""
        self._moving("")

    def _finding(self, step: str, finding: Finding, seconds: float) -> None:
        parts = finding.evidence.get("findings") or []
        if step == "expectations" and parts:
            broken = [part for part in parts if part["reason"] != HOLDS]
            holding = f"{len(parts) - len(broken)} of {len(parts)} expectations"
            told = [{**part, "reason": f"{part['name']}: {part['reason']}"} for part in broken]
            parts = [{"verdict": finding.verdict, "reason": holding}, *told]
        shown = [(Verdict(part["verdict"]), str(part["reason"])) for part in parts]
        for number, (verdict, reason) in enumerate(shown or [(finding.verdict, finding.reason)]):
            first = number == 0
            self._stay(_told(step if first else "", reason, seconds if first else None, MARKS[verdict]))

    def _look(self, place: str, ticked: Any) -> None:
        for move in ticked.moves:
            if isinstance(move, Start):
                self._stay(f"  {place:<13} version {move.version} starts")
            elif isinstance(move, Rehearse):
                took = ticked.endpoint.releases[-1].way_back
                self._stay(f"  {'rollback':<13} rehearsed in {took:.2f} s")
            elif isinstance(move, Warm):
                self._stay(f"  {'warm-up':<13} {move.why}")
            elif isinstance(move, Shift) and not move.retires:  # who is let go of had no share
                why = f": {move.why}" if move.back else ""
                self._stay(f"{'✗' if move.back else ' '} {place:<13} {shares(move.routing)}{why}")
        release = ticked.endpoint.releases[-1]
        if ticked.more or release.ending is not None or 0 <= release.step >= len(release.policy.shares):
            return
        if release.step < 0 and not self._live:
            return  # it says that it starts; where lines stay, each look at that would be one more
        line = _rung(place, release, ticked)
        if self._live:
            self._moving(line)
        elif self._is_due(line):
            self._stay(line)

    def _is_due(self, line: str) -> bool:
        """Say whether *line* is worth a line where lines stay: it says something new, or nothing was said for long."""
        now, same = self._clock(), line == self._said
        if now - self._said_at < (self._remind_after if same else LOOK_EVERY):
            return False
        self._said, self._said_at = line, now
        self._remind_after = 2 * self._remind_after if same else REMIND_AFTER
        return True

    def _lasts(self, step: str, what: str) -> None:
        if not self._live:
            self._stay(f"  {step:<13} {what} …")

    def _moving(self, text: str) -> None:
        if self._live:
            # A line that wraps could not be taken back.
            self._out.write("\r\x1b[2K" + text[: min(WIDTH, shutil.get_terminal_size().columns) - 1])
            self._shown = text
            self._out.flush()

    def _stay(self, text: str) -> None:
        if self._live and self._shown:
            self._out.write("\r\x1b[2K")
            self._shown = ""
        self._out.write(text + "\n")
        self._out.flush()


def _rung(place: str, release: Release, ticked: Any) -> str:
    if release.step < 0:
        return f"  {place:<13} {ticked.wait.why}"
    bar = "█" * round(release.share / 10) + "░" * (10 - round(release.share / 10))
    seen = sum(finding.evidence.get("baseline_n", 0) for finding in ticked.findings)
    guards = "  ".join(_guard(finding) for finding in ticked.findings) or ticked.wait.why
    if ticked.findings and not seen and not release.exposed.requests:
        guards = "waits for live requests: it decides from them"
    return f"  {place:<13} {release.share:g} %  {bar}  {counted(release.exposed.requests, 'request')}   {guards}"


def _guard(finding: Finding) -> str:
    match finding.verdict:
        case Verdict.PASS:
            return f"{finding.name} ok"
        case Verdict.FAIL:
            return f"{finding.name} worse"
        case Verdict.ERROR:
            return f"{finding.name} unreadable"
        case Verdict.INCONCLUSIVE:
            needs, unit = finding.evidence.get("needs"), finding.evidence.get("unit", "requests")
            return f"{finding.name} needs ~{needs:,} {unit}" if needs else f"{finding.name} open"


def _told(step: str, text: str, seconds: float | None, mark: str) -> str:
    room = WIDTH - 26
    first, *more = textwrap.wrap(text, room, subsequent_indent="  ") or [""]
    took = f"{seconds:.1f} s" if seconds is not None else ""
    return "\n".join([f"{mark} {step:<13} {first:<{room}} {took:>8}".rstrip(), *(f"{'':16}{line}" for line in more)])
