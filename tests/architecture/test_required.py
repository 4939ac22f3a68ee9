"""What CI requires is not skipped in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

SUITE = """
import pytest

@pytest.mark.docker
def test_in_docker():
    pytest.skip("there is no Docker here")

@pytest.mark.skipif(True, reason="no cluster is configured")
@pytest.mark.kubernetes
def test_in_a_cluster(): ...

def test_of_nothing_special(): ...
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    laptop\n    docker\n    kubernetes\n")
    return tmp_path


def run(folder: Path, require: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder)]
    env = {**os.environ, "MODELCD_REQUIRE": require}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_without_a_wish_skips_are_allowed_and_named(suite: Path) -> None:
    said = run(suite, "")

    assert said.returncode == 0, said.stdout
    assert "docker: test_suite.py::test_in_docker: there is no Docker here" in said.stdout
    assert "kubernetes: test_suite.py::test_in_a_cluster: no cluster is configured" in said.stdout


def test_what_is_required_fails_when_it_is_skipped(suite: Path) -> None:
    said = run(suite, "docker,kubernetes")

    assert said.returncode == 1
    assert "1 failed, 1 passed, 1 error" in said.stdout
    assert "there is no Docker here: a failure, because MODELCD_REQUIRE has docker" in said.stdout


def test_only_what_is_required_fails(suite: Path) -> None:
    assert "1 failed, 1 passed, 1 skipped" in run(suite, "docker").stdout


def test_what_lies_in_a_place_for_laptops_needs_no_mark(suite: Path) -> None:
    (suite / "e2e").mkdir()
    (suite / "e2e" / "test_demo.py").write_text(
        "import pytest\n\ndef test_demo():\n    pytest.skip('there is no port left')\n"
    )

    said = run(suite, "laptop")

    assert said.returncode == 1
    assert "there is no port left: a failure, because MODELCD_REQUIRE has laptop" in said.stdout


def test_a_file_that_skips_itself_is_refused(suite: Path) -> None:
    (suite / "test_whole.py").write_text("import pytest\n\npytest.skip('not today', allow_module_level=True)\n")

    assert "test_whole.py skips itself as a whole" in run(suite, "laptop").stdout


def test_an_unknown_word_is_an_error_with_the_nearest_known_one(suite: Path) -> None:
    said = run(suite, "dokcer")

    assert said.returncode == 4
    assert "did you mean 'docker'?" in said.stderr
