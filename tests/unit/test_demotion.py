"""What production took back leaves staging: when, whereto, and by whom it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stories
from test_kills import MemoryBinding, MemoryWorld

from modelcd.domain.demotion import demotion
from modelcd.domain.release import Ask, Ending, Endpoint
from modelcd.domain.verdict import Finding, Verdict
from modelcd.flows import deliver as flows
from modelcd.flows._effects import pages
from modelcd.steps.release import ask, drive, open_release
from modelcd.steps.watch import Watch


@pytest.fixture
def world(tmp_path: Path) -> MemoryWorld:
    """Version 2 was promoted over version 1 and rolled back from production; staging still has it."""
    return MemoryBinding(tmp_path).world(stories.TAKEN_BACK)


def at(world: MemoryWorld, name: str) -> Endpoint:
    env = world.environment(name)
    return Watch(env.stream(stories.MODEL)).refresh(env)


def test_staging_goes_back_to_the_version_before(world: MemoryWorld) -> None:
    assert at(world, "staging").champion == 2

    world.reconcile()
    staging, production = at(world, "staging"), at(world, "production")
    back = staging.releases[-1]

    assert (staging.champion, staging.open, back.takes_out, back.ending) == (1, None, 2, Ending.PROMOTED)
    assert back.reason == f"version 2 was taken out in production, release {production.releases[-1].id}"


def test_staging_stays_there_after_that(world: MemoryWorld) -> None:
    world.reconcile()
    before = at(world, "staging").seq
    world.reconcile()

    assert at(world, "staging").seq == before


def test_it_comes_back_only_by_being_staged_and_accepted_again(world: MemoryWorld) -> None:
    world.reconcile()
    asked: list[str] = []

    def contract(url: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[Finding]:
        asked.append(url)
        return [Finding("ready", Verdict.FAIL, "it is not")]

    without = pages.set(False)
    try:
        stage = replace(world.stage, data="d2", contract=contract)
        told = flows.deliver_in(stage, world.stage.folder, "anna", again="mended")
    finally:
        pages.reset(without)

    assert (told["ending"], told["version"], len(asked)) == ("stopped", 2, 1)
    assert at(world, "production").champion == 1


def test_what_is_under_way_or_held_is_left_alone(world: MemoryWorld) -> None:
    staging = world.environment("staging")
    ask(staging, stories.MODEL, Ask.HOLD, actor="anna")
    world.reconcile()

    assert at(world, "staging").champion == 2


def test_what_was_put_there_afterwards_is_meant(world: MemoryWorld) -> None:
    world.reconcile()
    staging = world.environment("staging")
    watch = open_release(
        staging,
        flows.candidate_of(staging, stories.MODEL, 2, at_once=True),
        release="look",
        actor="anna",
        reason="",
        again="to look at it",
    )
    drive(staging, watch, actor="anna")
    world.reconcile()

    assert at(world, "staging").champion == 2
    assert demotion(at(world, "staging"), at(world, "production")) is None


def test_without_a_version_before_it_follows_what_serves_in_production(world: MemoryWorld) -> None:
    staging, production = at(world, "staging"), at(world, "production")
    alone = replace(staging, releases=staging.releases[-1:])

    back = demotion(alone, production)

    assert back is not None
    assert (back.version, back.takes_out) == (production.champion, 2) == (1, 2)


def test_where_nothing_serves_anywhere_else_it_stays(world: MemoryWorld) -> None:
    staging, production = at(world, "staging"), at(world, "production")
    alone = replace(staging, releases=staging.releases[-1:])

    assert demotion(alone, replace(production, champion=None)) is None
