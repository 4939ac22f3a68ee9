"""Runs a pytest folder of the project: its own tests before training, its acceptance tests against an address.

pytest runs inside of the child, with the project's own configuration or none: that of a repository around the project
is not the project's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelcd.errors import ProjectError

FAILURES = 5
CONFIGURATIONS = ("pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")


class _Tally:
    """Counts what pytest reports; the names of its methods are pytest's."""

    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0
        self.failures: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._fail(report.nodeid, report)
        elif report.skipped and report.when != "teardown":
            self.skipped += 1
        elif report.passed and report.when == "call":
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._fail(report.nodeid, report)

    def _fail(self, name: str, report: pytest.TestReport | pytest.CollectReport) -> None:
        self.failed += 1
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash is not None else report.longreprtext
        if len(self.failures) < FAILURES:
            self.failures.append({"name": name, "message": " ".join(message.split())[:300]})


def run(project: Path, folder: str | None, *, default: str, without: str) -> dict[str, Any]:
    """Run the tests in *folder* and return `verdict`, `reason`, `evidence`.

    A *default* folder that is not there is said to be, and no failure; any other is a `ProjectError`.  A folder in
    which no test ran proves nothing: *without* is what a project writes that wants none.
    """
    if not folder or not (project / folder).exists():
        if folder and folder != default:
            raise ProjectError(f"there are no tests in {folder}", help="write them, or name the folder they are in")
        return _told("pass", "there are none", _Tally())
    tally = _Tally()
    configuration = next((str(project / n) for n in CONFIGURATIONS if (project / n).is_file()), "/dev/null")
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", f"--rootdir={project}", "-c", configuration]
    code = int(pytest.main([str(project / folder), *options], plugins=[tally]))
    if tally.failed:
        first = tally.failures[0]
        return _told(
            "fail", f"{tally.failed} failed, {tally.passed} passed: {first['name']}: {first['message']}", tally
        )
    if code not in (0, 5):
        return _told("error", f"pytest could not run {folder} (exit code {code})", tally)
    if not tally.passed:
        seen = (
            f"every test in {folder} is skipped ({tally.skipped})" if tally.skipped else f"there is no test in {folder}"
        )
        return _told("inconclusive", f"{seen}, so nothing was checked; {without} says that none are wanted", tally)
    return _told("pass", f"{tally.passed} passed" + (f", {tally.skipped} skipped" if tally.skipped else ""), tally)


def _told(verdict: str, reason: str, tally: _Tally) -> dict[str, Any]:
    counts = {"passed": tally.passed, "failed": tally.failed, "skipped": tally.skipped}
    return {"verdict": verdict, "reason": reason, "evidence": {**counts, "failures": tally.failures}}
