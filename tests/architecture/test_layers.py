"""The house stays as it is drawn: every contract of import-linter holds, and fails on a planted violation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

PLANTED = {
    "a lower layer never imports a higher one": ("domain/verdict.py", "import modelcd.ports"),
    "no modules import each other in a circle": ("project/judging.py", "import modelcd.project.child"),
    "steps and adapters do not know each other": ("steps/tick.py", "import modelcd.adapters.system"),
    "the domain is pure": ("domain/judge.py", "import time"),
    "Prefect is imported in flows only": ("control.py", "import prefect"),
    "steps use ports, no technology": ("steps/accept.py", "import httpx"),
    "MLflow is imported in its adapter, and to load its models": ("control.py", "import mlflow"),
    "SQLAlchemy is imported in adapters only": ("control.py", "import sqlalchemy"),
    "the server is light": ("serving/engine.py", "import prefect"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The package as it is installed, in a folder of its own."""
    shutil.copytree(ROOT / "src" / "modelcd", tmp_path / "modelcd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("flows", "environments"):
        shutil.copytree(ROOT / name, tmp_path / "modelcd" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    env = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run([*command, "--no-cache"], cwd=tree, env=env, capture_output=True, text=True, check=False)


def test_every_contract_holds(tree: Path) -> None:
    said = lint(tree)

    assert said.returncode == 0, said.stdout + said.stderr


def test_every_contract_has_a_planted_violation() -> None:
    assert set(PLANTED) == {contract["name"] for contract in CONTRACTS}


@pytest.mark.parametrize("name", PLANTED)
def test_a_contract_fails_on_a_planted_violation(tree: Path, name: str) -> None:
    file, line = PLANTED[name]
    path = tree / "modelcd" / file
    path.write_text(
        path.read_text().replace(
            "from __future__ import annotations\n", f"from __future__ import annotations\n{line}\n", 1
        )
    )

    said = lint(tree)

    assert said.returncode == 1
    assert f"{name} BROKEN" in said.stdout.replace("\n", " ")
