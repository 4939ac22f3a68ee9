"""What a delivery shows while it goes, where there is no terminal."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from lived import AT_ONCE, GOOD, Life

from modelcd.cli.progress import Progress
from modelcd.steps.release import drive


def test_a_change_of_shares_is_told_once(tmp_path: Path) -> None:
    life, out = Life(tmp_path, {1: GOOD, 2: GOOD}), StringIO()
    progress = Progress(out)

    watch = life.open(2, AT_ONCE)
    drive(life.env, watch, actor="anna", tell=lambda ticked: progress("production", "look", ticked, 0.0))

    assert [line.split(maxsplit=1)[1] for line in out.getvalue().splitlines() if "gets" in line] == [
        "version 2 gets 100 %"
    ]
