"""docs/settings.md has every environment variable and every key of workspace.json, and none that is not there."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

from modelcd.adapters.environment import NAMES
from modelcd.serving.settings import Settings
from modelcd.workspace import PORTS, open_workspace

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|PORT|HOST|PG[A-Z]+")
NONE_OF_OURS = {
    "LC_ALL": "keeps git in English",
    "RESOURCE_DOES_NOT_EXIST": "an error of MLflow",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "given to our services, never taken: docs/security.md",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "given to our services, never taken: docs/security.md",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "given to our services, never taken: docs/security.md",
    "PREFECT_CLIENT_CUSTOM_HEADERS": "given to our services, never taken: docs/security.md",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "given to our services, never taken: docs/security.md",
    "PREFECT_UI_API_URL": "given to our services, never taken: docs/security.md",
    **dict.fromkeys(filter(VARIABLE.fullmatch, NAMES), "handed on as it is: docs/security.md"),
}
"""What looks like a variable and is no setting, with why."""


def texts(*folders: str) -> Iterator[str]:
    """Every string that stands in the Python of *folders*, but for the gaps of the generated project."""
    for folder in folders:
        for path in (path for path in (ROOT / folder).rglob("*.py") if "scaffold" not in path.as_posix()):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
            yield from (value for value in constants if isinstance(value, str))


def described() -> set[str]:
    """The variables that the page has in a table."""
    cells = [cell for row in ROWS for cell in row]
    return {name for cell in cells for name in re.findall(r"`([A-Z0-9_]+)`", cell) if VARIABLE.fullmatch(name)}


def test_every_environment_variable_is_in_the_table_and_no_other() -> None:
    product = {text for text in texts("src", "flows", "environments") if VARIABLE.fullmatch(text)}
    product = {name for name in product if not name.startswith("GIT_")}  # git's own: set, or kept from it, when asked
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    tests = set(re.findall(r'environ(?:\.get\(|\[)"(MODELCD_[A-Z_]+)"', sources))
    known = product | tests

    assert sorted(known - described() - set(NONE_OF_OURS)) == [], "describe them in docs/settings.md"
    assert sorted(described() - known) == [], "docs/settings.md has them, the source has not"
    assert sorted(set(NONE_OF_OURS) - product) == []


def test_every_key_of_the_workspace_is_in_the_table_and_no_other(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    workspace.use_environments(tmp_path / "environments.py")
    workspace.share_journal("postgresql://ann@host/journal")
    workspace.with_allowed(["models.example.com"], [], [])
    written = json.loads(workspace.settings.read_text(encoding="utf-8"))
    begin = next(k for k, row in enumerate(ROWS) if row[0] == "key")
    keys = {row[0].strip("`") for row in ROWS[begin + 1 : begin + 1 + len(written)]}

    assert keys == set(written)
    assert {row[0].strip("`"): int(row[1].strip("`")) for row in ROWS if row[0].strip("`") in PORTS} == PORTS


def test_the_defaults_of_a_models_server_are_those_of_the_table() -> None:
    defaults = {row[0].strip("`"): row[1].strip("`") for row in ROWS if len(row) == 3}
    served = Settings(Path(), 1, "m", "1")

    assert int(defaults["MODELCD_BODY_LIMIT"]) == served.body_limit
    assert float(defaults["MODELCD_DRAIN"]) == served.drain
    assert defaults["HOST"] == served.host
