"""Environments as a platform's owner writes them, from outside: other names, other orders, changes while all runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from desk import MODEL, Cli, both, replace

from modelcd.testing.traffic import eventually

pytestmark = pytest.mark.timeout(600)

CHANGED = both(replace("pipeline.py", "shares=(5, 25, 50)", "shares=()"), replace("features.py", '"median"', '"mean"'))


def write(file: Path, *names: str) -> None:
    listed = ", ".join(f'Laptop("{name}")' for name in names)
    file.write_text(f"from modelcd.environments import Laptop\n\nenvironments = [{listed}]\n", encoding="utf-8")


@pytest.fixture
def project(fresh: Cli) -> Iterator[Path]:
    """A generated project, not delivered yet."""
    assert fresh("init", MODEL).returncode == 0
    yield fresh.workspace.parent / MODEL
    assert fresh("down").returncode == 0


def champions(modelcd: Cli) -> dict[str, int]:
    return {line["environment"]: line["version"] for line in modelcd.told("status", MODEL, "--json")}


def test_the_whole_story_in_environments_named_a_and_b_and_then_c(fresh: Cli, project: Path) -> None:
    file = project / "environments.py"
    write(file, "a", "b")
    row = pd.read_csv(project / "data/measurements.csv").drop(columns=["benign"]).iloc[0].to_json()

    first = fresh.told("deliver", "--json", cwd=project)
    CHANGED(project)
    second = fresh.told("deliver", "--json", cwd=project)
    assert [(told["ending"], told["environment"]) for told in (first, second)] == [("promoted", "b")] * 2
    assert champions(fresh) == {"a": 2, "b": 2}
    assert [(line["environment"], line["from"]) for line in fresh.told("environments", "--json")] == [
        ("a", f"{file}, line 3"),
        ("b", f"{file}, line 3"),
    ]

    back = fresh.told("rollback", MODEL, "--reason", "complaints", "--json")
    assert (back["ending"], back["version"], back["environment"]) == ("rolled back", 1, "b")
    eventually(lambda: champions(fresh), {"a": 1, "b": 1}, 60.0)
    asked = fresh.told("predict", MODEL, row)
    assert asked["version"] == "1"

    write(file, "a", "b", "c")
    promoted = fresh.told("promote", MODEL, "1", "--to", "c", "--json")
    assert (promoted["ending"], champions(fresh)) == ("promoted", {"a": 1, "b": 1, "c": 1})
    assert fresh.told("predict", MODEL, row, "--in", "c")["version"] == "1"
    unknown = fresh("promote", MODEL, "1", "--to", "production")
    assert (unknown.returncode, "no environment is named 'production'" in unknown.stderr) == (2, True)

    before = champions(fresh)
    file.write_text("environments = [\n", encoding="utf-8")
    broken = fresh("promote", MODEL, "1", "--to", "c")
    assert broken.returncode == 2
    assert f"{file}, line 1" in broken.stderr
    log = fresh.workspace / "services/control.log"
    eventually(lambda: "the environments stay as they were" in log.read_text(encoding="utf-8"), True, 30.0)
    assert champions(fresh) == before
    write(file, "a", "b", "c")


def test_where_there_is_one_environment_a_version_is_accepted_and_then_serves(fresh: Cli, project: Path) -> None:
    file = project.parent / "ours" / "environments.py"
    file.parent.mkdir()
    write(file, "only")

    told = fresh.told("--environments", str(file), "deliver", "--json", cwd=project)

    assert (told["ending"], told["environment"], champions(fresh)) == ("promoted", "only", {"only": 1})
    steps = fresh.told("explain", fresh.newest_delivery()["delivery"], "--json")["steps"]
    assert "acceptance" in [step["name"] for step in steps]
    write(project / "environments.py", "a", "b")
    refused = fresh("deliver", cwd=project)
    assert refused.returncode == 2
    assert f"are those of {file}" in " ".join(refused.stderr.split())
