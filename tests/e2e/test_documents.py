"""Every command of the documents, typed as it stands there, does what the document says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from desk import MODEL, Cli, Delivered
from documents import LINES, ROOT

pytestmark = pytest.mark.timeout(900)

ELSEWHERE = {
    "deliver": "tests/e2e/test_bad_input.py",
    "demo": "tests/e2e/test_demo.py",
    "down": "tests/e2e/test_bad_days.py",
    "feedback progression ID=151": "tests/e2e/test_recipes_delivered.py",
    "predict progression row.json": "tests/e2e/test_recipes_delivered.py",
    "explain RELEASE --plot evidence.svg": "tests/e2e/test_demo.py",
    "feedback MODEL ID=false --correct --reason WHY": "tests/e2e/test_lifecycle.py",
    "hold MODEL": "tests/e2e/test_bad_days.py",
    "init prices --kind regression": "tests/e2e/test_kinds.py",
    "init churn": "tests/e2e/desk.py",
    "init churn --data customers.csv --target churned": "tests/integration/test_init.py",
    "init digit --data digits.parquet --target digit": "tests/integration/test_init.py",
    "plan": "tests/e2e/test_demo.py",
    "plan --fastest": "tests/e2e/test_demo.py",
    "plan MODEL": "tests/e2e/test_demo.py",
    "promote MODEL 3 --to production": "tests/e2e/test_lifecycle.py",
    "release MODEL": "tests/e2e/test_bad_days.py",
    "retrain": "tests/e2e/test_lifecycle.py",
    "rollback MODEL": "tests/e2e/test_lifecycle.py",
    "up": "tests/e2e/test_bad_days.py",
    "up --port NAME=PORT": "tests/e2e/test_bad_input.py",
}
"""Commands that move things, or need what was moved, are run in a test of their own, with what must come of them."""

GIVEN = "--requests-per-minute 600 --error-rate 0.01 --success-rate 0.9 --labels 0.2 --label-delay 10min"

SAID = {
    "--help": "Continuous delivery",
    "--version": "modelcd ",
    "check": "ok  pipeline.py describes tumour",
    "diff MODEL 1 2": "version 1 → version ",
    "environments": "what was accepted in staging",
    "explain RELEASE": "of tumour in production",
    "feedback MODEL ID=true": '"joined"',
    "history MODEL": "promoted",
    "history MODEL --at 2026-03-31T18:30": "tumour was nowhere yet at 2026-03-31T18:30:00",
    f"plan {GIVEN}": "PLAN  tumour, 600 requests a minute",
    f"plan {GIVEN} --fastest --exposed 5000": "Canary(shares=(",
    "predict MODEL row.json": '"scores"',
    "predict MODEL_NAME row.json": '"scores"',
    "replay RELEASE --policy other.py": "with other.py: promoted",
    "status": "production",
    "status MODEL": "production: POST http://127.0.0.1:",
    "ui": "flows",
    "up --allow-host models.example.com --allow-origin https://app.example.com": "too: origins https://app.example.com",
    "up --refuse https://app.example.com": "too: hosts models.example.com",
    "verify": "the journal is whole",
    "verify RELEASE": "no verdict of release ",
    "versions MODEL": "accepted",
}
"""What a command that only looks says."""


@pytest.fixture(scope="module")
def words(delivered: Delivered) -> dict[str, str]:
    """What stands for the names that a document leaves open."""
    control = delivered.modelcd.control
    row = (delivered.project / "row.json").read_text(encoding="utf-8")
    other = delivered.project.parent / "other.py"
    other.write_text("from modelcd import Canary, guard\n\nrollout = Canary(shares=(10,), guards=[guard.errors()])\n")
    built = sorted(line["version"] for line in control.versions(MODEL))
    return {
        "MODEL": MODEL,
        "MODEL_NAME": MODEL,
        "RELEASE": control.history(MODEL, "production")[0]["release"],
        "ID=true": f"{delivered.modelcd.told('predict', MODEL, row)['prediction']}=true",
        "2": str(built[-1]),
        "other.py": str(other),
    }


def test_every_command_of_the_documents_is_run_by_a_test() -> None:
    """Those of the reference are examples of the commands' help: tests/architecture/test_docs.py tries to type them."""
    typed = {line for document, line in LINES if not document.startswith("docs/reference/")}

    assert typed == set(ELSEWHERE) | set(SAID)
    assert not set(ELSEWHERE) & set(SAID)
    for line, test in ELSEWHERE.items():
        assert f'"{line.split()[0]}"' in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not run {line}"


@pytest.mark.parametrize("line", SAID)
def test_what_a_document_lets_people_look_at_is_shown(delivered: Delivered, words: dict[str, str], line: str) -> None:
    ended = delivered.modelcd(*(words.get(word, word) for word in line.split()), cwd=delivered.project)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert SAID[line] in ended.stdout


def test_a_finished_model_is_delivered_as_its_example_says(delivered: Delivered, tmp_path: Path) -> None:
    project = tmp_path / "finished"
    ignored = shutil.ignore_patterns("__pycache__", "data", "*.joblib")
    shutil.copytree(ROOT / "examples" / "02-finished-model", project, ignore=ignored)
    modelcd = Cli(tmp_path / "workspace")
    try:
        written(project)
        first, same = (modelcd.told("deliver", "--json", cwd=project) for _ in range(2))
        written(project, "0.01")
        other = modelcd.told("deliver", "--json", cwd=project)
    finally:
        ended = modelcd("down")

    assert [told["ending"] for told in (first, same, other)] == ["promoted", "nothing new", "promoted"]
    assert [told["version"] for told in (first, same, other)] == [1, 1, 2]
    assert ended.returncode == 0, ended.stderr


def written(project: Path, *strength: str) -> None:
    """Let the other team write its model."""
    subprocess.run([sys.executable, "get_model.py", *strength], cwd=project, check=True)
