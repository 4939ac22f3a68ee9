"""What a run must not skip: `MODELCD_REQUIRE=laptop,docker` makes a skipped test that is marked so a failure.

A test that needs a machine is marked with the word for it; what lies in a folder of `PLACES` is marked by that.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Generator
from pathlib import Path

import pytest

WORDS = ("laptop", "docker", "kubernetes")
PLACES = {"integration": "laptop", "flows": "laptop", "e2e": "laptop", "examples": "laptop", "chaos": "laptop"}
HERE = Path(__file__).parent

REQUIRED = pytest.StashKey[frozenset[str]]()
SKIPPED = pytest.StashKey[list[tuple[str, str, str]]]()


def required(given: str) -> frozenset[str]:
    """Read the words of `MODELCD_REQUIRE`; an unknown one is an error, with the nearest that is known."""
    words = frozenset(word.strip() for word in given.split(",") if word.strip())
    for word in sorted(words.difference(WORDS)):
        near = difflib.get_close_matches(word, WORDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(WORDS)}"
        raise pytest.UsageError(f"MODELCD_REQUIRE does not know {word!r}; {hint}")
    return words


def pytest_configure(config: pytest.Config) -> None:
    """Read what is required before anything runs."""
    config.stash[REQUIRED] = required(os.environ.get("MODELCD_REQUIRE", ""))
    config.stash[SKIPPED] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in a place that needs a machine."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if folder in PLACES:
            item.add_marker(PLACES[folder])


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a file that skips itself as a whole: nobody could say what was skipped in it."""
    report = yield
    if report.skipped and collector.config.stash[REQUIRED]:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skips itself as a whole: mark its tests with the word for what they need"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where it is required, and remember it where it is not."""
    report = yield
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    words = {mark.name for mark in item.iter_markers()}.intersection(WORDS)
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if wanted := sorted(words & item.config.stash[REQUIRED]):
        report.outcome = "failed"
        report.longrepr = f"{reason}: a failure, because MODELCD_REQUIRE has {', '.join(wanted)}"
    else:
        item.config.stash[SKIPPED].append((", ".join(sorted(words)) or "unmarked", item.nodeid, reason))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was skipped, by what it would have needed."""
    skipped = config.stash[SKIPPED]
    if not skipped:
        return
    terminalreporter.section("skipped on this machine")
    for words, test, reason in sorted(skipped):
        terminalreporter.line(f"{words}: {test}: {reason.removeprefix('Skipped: ')}")
    terminalreporter.line("MODELCD_REQUIRE=laptop,docker,kubernetes makes these failures.")
