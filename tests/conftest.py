"""What a run must not skip, and what runs side by side.

`MODELCD_REQUIRE=laptop,docker` makes a skipped test that is marked so a failure. A test that needs a machine is marked
with the word for it; what lies in a folder of `PLACES` is marked by that.

A whole run takes one process more than there are cores, since much of it waits; each file stays in one process, in
order. A test that is marked `alone` measures what a busy machine falsifies: while it runs, nothing else does.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

WORDS = ("laptop", "docker", "kubernetes")
PLACES = {"integration": "laptop", "flows": "laptop", "e2e": "laptop", "examples": "laptop", "chaos": "laptop"}
HERE = Path(__file__).parent

REQUIRED = pytest.StashKey[frozenset[str]]()
LOCKS = pytest.StashKey["TemporaryDirectory[str]"]()


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run the tests: one more than there are cores for all, none for what is named."""
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    return (os.cpu_count() or 1) + 1 if whole else 0


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process where the locks lie that all share."""
    stash = node.config.stash
    if LOCKS not in stash:
        stash[LOCKS] = TemporaryDirectory(prefix="modelcd-tests-")
    node.workerinput["locks"] = stash[LOCKS].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the locks: a folder that is only forgotten is a warning, and a warning ends the run with an error."""
    if LOCKS in config.stash:
        config.stash[LOCKS].cleanup()


@contextlib.contextmanager
def locked(path: Path, mode: int) -> Iterator[None]:
    """Hold the lock on a file, shared or exclusive."""
    with path.open("w") as file:
        fcntl.flock(file, mode)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # said, since a forked child may hold the file, too


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that is to be alone wait for the others, and the others for it.

    Whoever waits holds the turn, so that a steady coming and going does not keep it waiting for ever.
    """
    folder = getattr(item.config, "workerinput", {}).get("locks")
    if folder is None:
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with contextlib.ExitStack() as held:
        with locked(Path(folder) / "turn", fcntl.LOCK_EX):
            held.enter_context(locked(Path(folder) / "running", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        return (yield)


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
    """Turn a skip into a failure where it is required."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        wanted = sorted(item.config.stash[REQUIRED].intersection(report.keywords))
        if wanted:
            report.outcome = "failed"
            report.longrepr = f"{reason(report)}: a failure, because MODELCD_REQUIRE has {', '.join(wanted)}"
    return report


def reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped, by what it would have needed."""
    skipped = terminalreporter.getreports("skipped")
    if not skipped:
        return
    terminalreporter.section("skipped on this machine")
    for report in sorted(skipped, key=lambda report: report.nodeid):
        words = ", ".join(sorted(set(WORDS).intersection(report.keywords))) or "unmarked"
        terminalreporter.line(f"{words}: {report.nodeid}: {reason(report).removeprefix('Skipped: ')}")
    terminalreporter.line("MODELCD_REQUIRE=laptop,docker,kubernetes makes these failures.")
