"""One workspace for all tests that need services: a generated project, delivered once; its champion outlives them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import MODEL, Cli, Delivered


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """The project as `modelcd init` generates it, delivered into a workspace of its own."""
    folder = tmp_path_factory.mktemp("delivered")
    modelcd = Cli(folder / "workspace")
    made = modelcd("init", MODEL)
    assert made.returncode == 0, made.stderr
    project, generated = folder / MODEL, folder / "generated"
    shutil.copytree(project, generated)
    try:
        yield Delivered(modelcd, project, generated, modelcd.told("deliver", "--json", cwd=project))
    finally:
        ended = modelcd("down")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def fresh(tmp_path: Path) -> Cli:
    """The command line on a workspace that is not there yet."""
    return Cli(tmp_path / "workspace")
