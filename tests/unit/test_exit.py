"""How the command line ends where it cannot even begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_what_cannot_be_imported_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("1 / 0\n")

    ended = subprocess.run(
        [sys.executable, "-m", "modelcd.cli", "status"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ended.returncode != 0
    assert "ZeroDivisionError" in ended.stderr
