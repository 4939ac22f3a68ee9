"""What asks models for scores in this process keeps the contract; over HTTP: `tests/integration`, beside a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelcd.adapters.memory import MemoryRuntime, MemoryScoring
from modelcd.ports import Unit
from modelcd.testing.scoring import ScoringContract


def echo(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    if any(row["x"] < 0 for row in rows):
        raise ValueError("x is negative")
    return [row["x"] for row in rows]


class TestMemoryScoring(ScoringContract):
    @pytest.fixture
    def runtime(self) -> MemoryRuntime:
        return MemoryRuntime({"sha256:echo": echo})

    @pytest.fixture
    def scoring(self, runtime: MemoryRuntime) -> MemoryScoring:
        return MemoryScoring(runtime)

    @pytest.fixture
    def served(self, runtime: MemoryRuntime) -> str:
        return runtime.start(Unit("production/echo", "echo", 7, "sha256:echo", Path("artifact"))).address

    @pytest.fixture
    def nowhere(self) -> str:
        return "memory://nowhere"
