"""What the steps of a build take from the policy."""

from __future__ import annotations

import json
from pathlib import Path

import stories

from modelcd.artifact import digest_of
from modelcd.domain.plain import to_plain
from modelcd.domain.policy import Acceptance
from modelcd.environments.memory import Memory
from modelcd.steps import build


def test_as_many_rows_are_remembered_for_staging_as_the_policy_asks_for(tmp_path: Path) -> None:
    stories.train(tmp_path / "same", "d1")
    memory = Memory({digest_of(tmp_path / "same"): lambda rows: [row["x"] for row in rows]})
    walk = stories.Stage(lambda _: memory.environment, tmp_path).walk(tmp_path, "ann", "d1")
    walk.spec = {**build.describe(walk), "acceptance": to_plain(Acceptance(golden=2))}
    build.open_delivery(walk, reason="", trigger="person")
    for step in (build.find_data, build.prepare_data, build.train):
        step(walk)

    build.check_gates(walk, None)

    remembered = json.loads((walk.folder / "golden.json").read_text(encoding="utf-8"))
    assert len(remembered["rows"]) == len(remembered["scores"]) == 2
