"""What CI requires is not skipped in silence, and what must be alone is."""

from __future__ import annotations

import json
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
    markers = "\n".join(f"    {word}" for word in ("alone", "laptop", "docker", "kubernetes"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\nmarkers =\n{markers}\n")
    return tmp_path


def run(folder: Path, require: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(folder)]
    env = {**os.environ, "MODELCD_REQUIRE": require}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two"])
def test_without_a_wish_skips_are_allowed_and_named(suite: Path, options: tuple[str, ...]) -> None:
    said = run(suite, "", *options)

    assert said.returncode == 0, said.stdout
    assert "docker: test_suite.py::test_in_docker: there is no Docker here" in said.stdout
    assert "kubernetes: test_suite.py::test_in_a_cluster: no cluster is configured" in said.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two"])
def test_what_is_required_fails_when_it_is_skipped(suite: Path, options: tuple[str, ...]) -> None:
    said = run(suite, "docker,kubernetes", *options)

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


BUSY = """
import json, pathlib, time, pytest

@pytest.mark.parametrize("number", range(4))
def test_of_some_length(number):
    begin = time.monotonic()
    while time.monotonic() < begin + 0.2:
        pass
    pathlib.Path(f"{pathlib.Path(__file__).stem}-{number}.json").write_text(json.dumps([begin, time.monotonic()]))
"""


def test_beside_what_is_alone_nothing_runs(suite: Path) -> None:
    (suite / "test_alone.py").write_text(BUSY + "\npytestmark = pytest.mark.alone\n")
    for name in ("test_second.py", "test_third.py"):
        (suite / name).write_text(BUSY)

    said = run(suite, "", "-n", "3", "--dist", "loadfile")

    assert said.returncode == 0, said.stdout
    alone, others = (
        [json.loads(path.read_text()) for path in suite.glob(pattern)] for pattern in ("test_alone-*", "test_[st]*-*")
    )
    assert (len(alone), len(others)) == (4, 8)
    assert not [(one, other) for one in alone for other in others if one[0] < other[1] and other[0] < one[1]]
