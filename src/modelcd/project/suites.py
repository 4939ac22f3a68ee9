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
            self.failures.append({"name": name, "message": "\n".join(message.strip().splitlines()[:6])})


def run(project: Path, folder: str, *, default: str) -> dict[str, Any]:
    """Run the tests in *folder*; a *default* folder that is not there is said to be, any other is a `ProjectError`."""
    if not folder or not (project / folder).exists():
        if folder and folder != default:
            raise ProjectError(f"there are no tests in {folder}", help="write them, or name the folder they are in")
        return _told(_Tally(), 5, f"no tests: there is no folder {folder or default}")
    tally = _Tally()
    configuration = next((str(project / n) for n in CONFIGURATIONS if (project / n).is_file()), "/dev/null")
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", f"--rootdir={project}", "-c", configuration]
    code = int(pytest.main([str(project / folder), *options], plugins=[tally]))
    if code == 5:
        return _told(tally, code, f"{folder} holds no tests")
    if code not in (0, 1) and not tally.failed:
        return _told(tally, code, f"pytest could not run {folder} (exit code {code})")
    return _told(tally, code, f"{tally.passed} passed" + (f", {tally.failed} failed" if tally.failed else ""))


def _told(tally: _Tally, code: int, reason: str) -> dict[str, Any]:
    """`verdict` is a pass only when tests ran and all of them passed; no tests prove nothing."""
    ran = tally.passed + tally.failed
    verdict = "pass" if code == 0 and tally.passed else "inconclusive" if code in (0, 5) else "error"
    verdict = "fail" if tally.failed else verdict
    return {
        "verdict": verdict,
        "reason": reason,
        "ran": ran,
        "passed": tally.passed,
        "failed": tally.failed,
        "skipped": tally.skipped,
        "failures": tally.failures,
    }
