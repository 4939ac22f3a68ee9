"""What tools and packaging say of the tree: types, style, names, the list of packages, the public surface, the lock."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import modelcd

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
MAPPED = {name: Path(folder) for name, folder in SETUPTOOLS["package-dir"].items()}
OURS = ("src", "flows", "environments", "benchmarks", "tests", "examples", "docs")


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)


def sources(*folders: str) -> Iterator[Path]:
    """Every Python file that is ours, below *folders*."""
    for folder in folders:
        yield from sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts)


def imported(path: Path) -> set[str]:
    """Every name that *path* imports, in full."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


# -- packaging ---------------------------------------------------------------------------------------------------------


def test_every_package_of_the_tree_is_listed_for_the_wheel() -> None:
    root = ROOT / MAPPED["modelcd"]
    found = {
        ".".join(("modelcd", *init.parent.relative_to(root).parts))
        for init in root.rglob("__init__.py")
        if "scaffold" not in init.parts
    }

    assert set(SETUPTOOLS["packages"]) == found | set(MAPPED)


def test_what_is_mapped_into_the_package_is_there() -> None:
    assert [folder for folder in MAPPED.values() if not (ROOT / folder).is_dir()] == []


def test_every_folder_with_code_is_a_package() -> None:
    loose = {
        path.parent.relative_to(ROOT).as_posix()
        for path in sources("src/modelcd", "flows", "environments")
        if not (path.parent / "__init__.py").exists() and "scaffold" not in path.parts
    }

    assert loose == set()


def test_no_two_files_of_tests_have_one_name() -> None:
    """With one name in two folders, pytest cannot collect them in one run, though each of them by itself."""
    names = [path.name for path in sources("tests") if path.name != "conftest.py"]

    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_the_public_surface_is_what_a_pipeline_needs() -> None:
    classes = ["Acceptance", "Budgets", "Canary", "Dataset", "Gate", "Model", "OnDoubt", "Retrain"]
    assert modelcd.__all__ == [*classes, "connect", "guard"]
    assert [name for name in modelcd.__all__ if not hasattr(modelcd, name)] == []


def test_the_version_is_said_once_and_the_same() -> None:
    assert modelcd.__version__ == PYPROJECT["project"]["version"]


def locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_the_project_on_every_python(python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.9"}
    pins = {pin.name: pin.specifier for pin in locked() if pin.marker is None or pin.marker.evaluate(here)}
    project = PYPROJECT["project"]
    wanted = [Requirement(r) for r in (*project["dependencies"], *project["optional-dependencies"]["test"])]

    versions = {name: next(iter(pin)).version for name, pin in pins.items()}
    wrong = [str(r) for r in wanted if r.name not in versions or not r.specifier.contains(versions[r.name])]

    assert wrong == []


def test_the_lock_pins_one_version_each_and_names_no_host() -> None:
    assert [str(pin) for pin in locked() if [s.operator for s in pin.specifier] != ["=="] or pin.url] == []


# -- names and imports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["flows", "environments"])
def test_no_module_beside_src_is_named_like_another_library(folder: str) -> None:
    """Run as a script, or found first on the path, it would be imported in that library's stead."""
    taken = set(sys.stdlib_module_names) | set(packages_distributions())

    assert {path.stem for path in sources(folder) if path.stem != "__init__"} & taken == set()


def test_prefect_tasks_are_made_in_one_place_where_none_is_cached() -> None:
    makers = [
        path.relative_to(ROOT).as_posix()
        for path in sources("src/modelcd", "flows", "environments")
        if {"prefect.task", "prefect.tasks.task", "prefect.tasks.Task", "prefect.Task"} & imported(path)
    ]

    assert makers == ["flows/_effects.py"]


def test_no_test_replaces_what_it_tests() -> None:
    replacing = re.compile(r"(unittest\.mock|mock|pytest_mock)(\.|$)")

    assert [path.name for path in sources(*OURS) if any(map(replacing.match, imported(path)))] == []


# -- tools -------------------------------------------------------------------------------------------------------------


def test_ruff_finds_nothing() -> None:
    said = run("ruff", "check", "--no-cache", *OURS)

    assert said.returncode == 0, said.stdout


def test_ruff_would_format_nothing() -> None:
    said = run("ruff", "format", "--check", "--no-cache", *OURS)

    assert said.returncode == 0, said.stdout


def test_mypy_is_content_with_the_whole_package(tmp_path: Path) -> None:
    """Look at the package as it is installed: flows and environments inside, which in the tree lie beside it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "modelcd", tmp_path / "modelcd", ignore=ignored)
    for name in ("flows", "environments"):
        shutil.copytree(ROOT / name, tmp_path / "modelcd" / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    said = run("mypy", "modelcd", "--cache-dir", str(ROOT / ".mypy_cache" / "package"), cwd=tmp_path)

    assert said.returncode == 0, said.stdout + said.stderr


def test_nothing_above_the_environments_names_one() -> None:
    """What happens in an environment follows from its place in the order; only their kinds know a technology."""
    above = [ROOT / "flows", *(ROOT / "src/modelcd" / name for name in ("api", "cli", "steps", "domain"))]
    paths = [path for folder in above for path in folder.rglob("*.py") if "scaffold" not in path.parts]
    paths += [ROOT / "src/modelcd" / f"{name}.py" for name in ("control", "history", "planning", "explaining")]

    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for text in ([node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else [])
        if text in ("staging", "production") or text.startswith("http://127.0.0.1")
    ]
    named = [str(path) for path in paths if re.search(r"\bLaptop\b", path.read_text(encoding="utf-8"))]

    assert found == []
    assert named == []
