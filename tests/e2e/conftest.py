"""The workspace that tests look at, with a generated project in production, and one that is not there yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Cli, Delivered, delivered_into


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """The project as `modelcd init` generates it, delivered, for all files that leave its champion where it is.

    Files run in any order, so one that moves versions makes a `delivered` of its own.
    """
    with delivered_into(tmp_path_factory.mktemp("delivered")) as made:
        yield made
        assert made.modelcd.champion() == made.told["version"], "a test moved what all others look at"


@pytest.fixture
def fresh(tmp_path: Path) -> Cli:
    """The command line on a workspace that is not there yet."""
    return Cli(tmp_path / "workspace")
