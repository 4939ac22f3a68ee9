"""What the command line costs beside a bare interpreter: `--help`, `--version`, `status` of a workspace with history.

Run in turns, each as a process of its own; medians, and the best of all, which is what the machine can do.
Run: ``python benchmarks/cli.py [--rounds N] [--workspace FOLDER]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from modelcd.adapters.journal import SqlJournal
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import Canary
from modelcd.domain.records import Entry
from modelcd.workspace import open_workspace

LIMITS = {"modelcd --help": 0.15, "modelcd status": 0.4}
"""Seconds at the median that are promised, on a machine that does nothing else."""

RELEASES = 50
AT = "2026-01-01T00:00:00+00:00"


def remember(folder: Path) -> None:
    """Fill the journal of a workspace in *folder* with releases that ended, so that there is something to fold."""
    journal = SqlJournal(open_workspace(folder).journal)
    opening = {
        "digest": "sha256:0",
        "artifact": "",
        "interpreter": "",
        "snapshot": "",
        "policy": to_plain(Canary(shares=())),
        "champion": None,
        "reason": "bench",
        "takes_out": None,
        "evidence": [],
    }
    for number in range(1, RELEASES + 1):
        name = f"r{number}"
        pairs = [
            Entry("opened", AT, "bench", name, {**opening, "version": number}),
            Entry("closed", AT, "bench", name, {"ending": "failed", "reason": "bench", "exposed": {}}),
        ]
        journal.append("production/bench", 2 * number - 2, pairs)


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return how long *command* takes; raises when it fails."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(rounds: int, workspace: Path | None) -> None:
    """Measure all commands in turns and print medians."""
    modelcd = str(Path(sys.executable).with_name("modelcd"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "modelcd --version": [modelcd, "--version"],
        "modelcd --help": [modelcd, "--help"],
        "modelcd status": [modelcd, "status"],
    }
    with tempfile.TemporaryDirectory() as place:
        if workspace is None:
            remember(Path(place))
        environment = {**os.environ, "MODELCD_WORKSPACE": str(workspace or place)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for command in commands.values():
            seconds(command, environment)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(seconds(command, environment))
    for name, taken in times.items():
        promised = f"   promised {LIMITS[name]:.2f} s" if name in LIMITS else ""
        print(f"{name:18} median {statistics.median(taken):5.3f} s   best {min(taken):5.3f} s{promised}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workspace", type=Path)
    given = parser.parse_args()
    main(given.rounds, given.workspace)
