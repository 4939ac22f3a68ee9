"""What runs a project's code keeps its contracts, in children and in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelcd.adapters.children import ChildProject, ChildSuccesses, warm
from modelcd.adapters.memory_project import MemoryProject, MemorySuccesses
from modelcd.testing.project import ProjectContract, SuccessesContract

PIPELINE = """
from modelcd import Canary, Dataset, Gate, Model, guard


def right(score, label):
    if score == "raise":
        raise KeyError("no such label")
    return None if score is None else (score >= 0.5) == label


def worth(score, label):
    return score * label


model = Model(
    name="echo",
    train=lambda frame: frame,
    data=Dataset("data/*.csv", target="y"),
    gates=[Gate("roc_auc").at_least(0.5)],
    rollout=Canary(guards=[guard.success(right, name="right"), guard.metric(worth, 0.5, name="worth", high=10)]),
)
"""


def right(score: Any, label: Any) -> Any:
    if score == "raise":
        raise KeyError("no such label")
    return None if score is None else (score >= 0.5) == label


def worth(score: Any, label: Any) -> Any:
    return score * label


def unlucky(_: Mapping[str, Any]) -> Mapping[str, Any]:
    raise RuntimeError("no luck")


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return tmp_path


class TestMemoryProject(ProjectContract):
    @pytest.fixture
    def project(self) -> MemoryProject:
        return MemoryProject({"describe": lambda _: {"name": "echo"}})

    @pytest.fixture
    def mistaken(self) -> MemoryProject:
        return MemoryProject({"describe": unlucky})


class TestChildProject(ProjectContract):
    @pytest.fixture
    def project(self, snapshot: Path) -> ChildProject:
        return ChildProject(snapshot)

    @pytest.fixture
    def mistaken(self, tmp_path: Path) -> ChildProject:
        (tmp_path / "pipeline.py").write_text('raise RuntimeError("no luck")\n')
        return ChildProject(tmp_path)


class TestWarmChildProject(ProjectContract):
    @pytest.fixture
    def project(self, snapshot: Path) -> Iterator[ChildProject]:
        with warm(snapshot):
            yield ChildProject(snapshot)

    @pytest.fixture
    def mistaken(self, tmp_path: Path) -> Iterator[ChildProject]:
        (tmp_path / "pipeline.py").write_text('raise RuntimeError("no luck")\n')
        with warm(tmp_path):
            yield ChildProject(tmp_path)


class TestMemorySuccesses(SuccessesContract):
    @pytest.fixture
    def successes(self) -> MemorySuccesses:
        return MemorySuccesses({"right": right, "worth": worth})


class TestChildSuccesses(SuccessesContract):
    @pytest.fixture
    def successes(self) -> Iterator[ChildSuccesses]:
        successes = ChildSuccesses()
        yield successes
        successes.close()

    @pytest.mark.parametrize(("score", "said"), [(4.0, "returned 12"), (float("nan"), "returned nan")])
    def test_a_number_out_of_its_bounds_or_that_is_none_is_unjudged(
        self, successes: ChildSuccesses, snapshot: Path, score: float, said: str
    ) -> None:
        before, unjudged = successes.judge(snapshot, "worth", [(1.0, 3), (score, 3)])

        assert (before, said in unjudged.why) == (3.0, True)
