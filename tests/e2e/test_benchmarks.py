"""Every benchmark runs to its end; what it measures in so few rounds is no result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHORTLY = {
    "cli.py": ["--rounds", "2"],
    "delivery.py": ["--rounds", "1", "--models", "1"],
    "gateway.py": ["--requests", "200", "--changes", "5"],
    "judge.py": ["--runs", "1"],
    "load.py": ["--models", "3", "--versions", "3", "--releases", "2", "--rounds", "1"],
    "recovery.py": ["--rounds", "1", "--changes", "5"],
    "release.py": ["--rounds", "1"],
    "shadow.py": ["--runs", "1"],
    "serving.py": ["--seconds", "0.2", "--turns", "1"],
}


def test_no_benchmark_is_left_out() -> None:
    scripts = {path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}

    assert scripts == set(SHORTLY)


@pytest.mark.parametrize("name", SHORTLY)
def test_a_benchmark_comes_to_its_end(name: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *SHORTLY[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.strip()
