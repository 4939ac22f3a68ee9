"""What a delivery shows while it goes, where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

from lived import AT_ONCE, GOOD, LADDER, Life

from modelcd.cli.deliver import outcome
from modelcd.cli.progress import Progress
from modelcd.domain.verdict import HOLDS, Finding, Verdict, finding_plain, parts
from modelcd.steps.release import drive
from modelcd.steps.tick import tick


def seconds_of(life: Life) -> Callable[[], float]:
    """Return a clock that goes as that of *life*."""
    return lambda: life.memory.clock.now().timestamp()


class Terminal(StringIO):
    """A terminal that keeps everything that was ever written to it."""

    def isatty(self) -> bool:
        return True


def test_what_still_runs_is_said_after_another_step_has_ended() -> None:
    out = Terminal()
    progress = Progress(out)
    for step in ("describe", "tests", "expectations"):
        progress(step, "begin", None, 0.0)
    progress("describe", "end", None, 0.1)
    progress("tests", "end", Finding("tests", Verdict.PASS, "1 passed"), 0.2)

    first, *_, last = (line.strip() for line in out.getvalue().replace("\n", "\r").split("\r\x1b[2K") if line.strip())
    assert first == "reading the project …"
    assert last.split() == ["expectations", "…"]


def test_without_a_terminal_what_lasts_is_said_when_it_begins() -> None:
    out = StringIO()
    progress = Progress(out)

    progress.starting("gateway")
    for step in ("describe", "data", "prepare", "expectations", "staging", "acceptance"):
        progress(step, "begin", None, 0.0)
        if step == "staging":
            progress(step, "lasts", "starting version 2", 0.0)

    starting, prepare, expectations, staging, acceptance = out.getvalue().splitlines()
    assert starting == "  starting gateway …"
    assert prepare == "  prepare       reading the data and preparing them …"
    assert staging == "  staging       starting version 2 …"
    assert "what is expected of the data" in expectations
    assert "a load of requests" in acceptance


def test_a_change_of_shares_is_told_once(tmp_path: Path) -> None:
    life, out = Life(tmp_path, {1: GOOD, 2: GOOD}), StringIO()
    progress = Progress(out)

    watch = life.open(2, AT_ONCE)
    drive(life.env, watch, actor="anna", tell=lambda ticked: progress("production", "look", ticked, 0.0))

    assert [line.split(maxsplit=1)[1] for line in out.getvalue().splitlines() if "gets" in line] == [
        "version 2 gets 100 %"
    ]


def test_a_canary_that_waits_for_requests_says_so_once_and_then_rarely(tmp_path: Path) -> None:
    life, out = Life(tmp_path, {1: GOOD, 2: GOOD}), StringIO()
    progress, watch = Progress(out, seconds_of(life)), life.open(2, LADDER)

    for _ in range(4 * 3600):
        progress("production", "look", tick(life.env, watch, actor="anna"), 0.0)
        life.memory.clock.sleep(1.0)

    waits = [line for line in out.getvalue().splitlines() if "waits for live requests" in line]
    assert 2 <= len(waits) <= 6


def test_a_canary_in_which_something_happens_says_so_within_seconds(tmp_path: Path) -> None:
    life, out = Life(tmp_path, {1: GOOD, 2: GOOD}), StringIO()
    progress, watch = Progress(out, seconds_of(life)), life.open(2, LADDER)

    for second in range(200):
        progress("production", "look", tick(life.env, watch, actor="anna"), 0.0)
        life.users(20 if second == 100 else 0)
        life.memory.clock.sleep(1.0)

    waits, counts = [line for line in out.getvalue().splitlines() if "requests" in line and "5 %" in line]
    assert "  rollback      rehearsed in 0.14 s" in out.getvalue().splitlines()
    assert "waits for live requests" in waits
    assert " 1 request " in counts


def test_each_check_that_says_no_is_told_once_by_steps_and_outcome_together() -> None:
    reasons = {"roc_auc at_least": "roc_auc 0.7: not at least 0.8", "signature": "30 columns"}
    failed = {"name": "roc_auc at_least", "verdict": "fail", "reason": reasons["roc_auc at_least"], "evidence": {}}
    passed = {"name": "signature", "verdict": "pass", "reason": reasons["signature"], "evidence": {}}
    gates = Finding("gates", Verdict.FAIL, "; ".join(reasons), {"findings": [failed, passed]})
    out = StringIO()
    Progress(out)("gates", "end", gates, 1.0)
    told = {"ending": "stopped", "why": f"gates: {gates.reason}", "version": 2, "model": "m", "delivery": "d1"}

    ended = outcome({**told, "at": "gates", "findings": parts(gates)})

    assert [(out.getvalue() + ended).count(reason) for reason in reasons.values()] == [1, 1]
    assert ended == ("STOPPED  version 2 of m   at gates: 1 of 2 did not pass (roc_auc at_least)\n  modelcd explain d1")


def test_expectations_that_do_not_hold_are_told_by_name_and_once() -> None:
    known = [("one", Verdict.FAIL, "3 of 9 unexpected"), ("two", Verdict.PASS, HOLDS), ("three", Verdict.PASS, "x")]
    findings = [finding_plain(Finding(name, verdict, reason)) for name, verdict, reason in known]
    out = StringIO()

    Progress(out)("expectations", "end", Finding("expectations", Verdict.FAIL, "all", {"findings": findings}), 1.0)

    first, *others = (" ".join(line.split()) for line in out.getvalue().splitlines())
    assert first == "✗ expectations 1 of 3 expectations 1.0 s"
    assert others == ["✗ one: 3 of 9 unexpected", "three: x"]
