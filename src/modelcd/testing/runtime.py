"""What every runtime must do: subclass `RuntimeContract`, give `runtime`, `unit` and `crash`, add nothing.

`unit` is a unit that lives once it is started, in the place `production/flights`; `crash(instance)` lets an instance
die without the runtime being asked.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from modelcd.errors import Conflict, RuntimeFailure
from modelcd.ports import Instance, Runtime, Unit
from modelcd.testing.faults import overtaken

PLACE = "production/flights"
Crash = Callable[[Instance], None]


class RuntimeContract:
    """A unit is started once, seen as it is, and gone when it was stopped."""

    def test_nothing_runs_at_first(self, runtime: Runtime) -> None:
        assert runtime.instances() == []

    def test_a_started_unit_is_alive(self, runtime: Runtime, unit: Unit) -> None:
        assert runtime.start(unit).alive

    def test_an_instance_says_what_was_started(self, runtime: Runtime, unit: Unit) -> None:
        found = runtime.start(unit)

        assert (found.id, found.place, found.model, found.version, found.digest) == (
            unit.id,
            unit.place,
            unit.model,
            unit.version,
            unit.digest,
        )

    def test_what_was_started_is_listed(self, runtime: Runtime, unit: Unit) -> None:
        started = runtime.start(unit)

        assert runtime.instances() == [started]

    def test_a_unit_that_lives_is_not_started_again(self, runtime: Runtime, unit: Unit) -> None:
        assert runtime.start(unit) == runtime.start(unit)

    def test_starters_at_once_start_one(self, runtime: Runtime, unit: Unit) -> None:
        with ThreadPoolExecutor(4) as pool:
            started = list(pool.map(runtime.start, [unit] * 4))

        assert len({(instance.address, instance.detail) for instance in started}) == 1

    def test_another_artifact_under_the_name_of_a_living_unit_is_refused(self, runtime: Runtime, unit: Unit) -> None:
        runtime.start(unit)

        with pytest.raises(RuntimeFailure):
            runtime.start(replace(unit, digest="sha256:other"))

    def test_versions_in_a_place_have_addresses_of_their_own(self, runtime: Runtime, unit: Unit) -> None:
        one, two = runtime.start(unit), runtime.start(replace(unit, version=unit.version + 1))

        assert one.address != two.address

    def test_only_what_is_in_the_place_is_listed(self, runtime: Runtime, unit: Unit) -> None:
        runtime.start(unit)
        other = runtime.start(replace(unit, place="staging/flights"))

        assert runtime.instances("staging/flights") == [other]

    def test_a_place_does_not_list_places_that_begin_like_it(self, runtime: Runtime, unit: Unit) -> None:
        runtime.start(replace(unit, place=PLACE + "-2"))

        assert runtime.instances(PLACE) == []

    def test_instances_are_listed_in_order(self, runtime: Runtime, unit: Unit) -> None:
        for version in (3, 1, 2):
            runtime.start(replace(unit, version=version))

        assert [instance.version for instance in runtime.instances()] == [1, 2, 3]

    def test_a_stopped_instance_is_gone(self, runtime: Runtime, unit: Unit) -> None:
        runtime.stop(runtime.start(unit).id)

        assert runtime.instances() == []

    def test_stopping_one_leaves_the_others(self, runtime: Runtime, unit: Unit) -> None:
        one, two = runtime.start(unit), runtime.start(replace(unit, version=unit.version + 1))
        runtime.stop(one.id)

        assert runtime.instances() == [two]

    def test_stopping_what_is_not_there_does_nothing(self, runtime: Runtime) -> None:
        runtime.stop("production/flights@7")

    def test_a_stopped_unit_can_be_started_again(self, runtime: Runtime, unit: Unit) -> None:
        runtime.stop(runtime.start(unit).id)

        assert runtime.start(unit).alive

    def test_a_dead_instance_is_listed_as_dead(self, runtime: Runtime, unit: Unit, crash: Crash) -> None:
        crash(runtime.start(unit))

        assert [instance.alive for instance in runtime.instances()] == [False]

    def test_a_dead_instance_is_started_again(self, runtime: Runtime, unit: Unit, crash: Crash) -> None:
        crash(runtime.start(unit))

        assert runtime.start(unit).alive

    def test_a_dead_instance_can_be_stopped(self, runtime: Runtime, unit: Unit, crash: Crash) -> None:
        dead = runtime.start(unit)
        crash(dead)
        runtime.stop(dead.id)

        assert runtime.instances() == []

    def test_who_was_overtaken_starts_nothing(self, runtime: Runtime, unit: Unit) -> None:
        with pytest.raises(Conflict):
            runtime.start(unit, overtaken)

        assert runtime.instances() == []

    def test_who_was_overtaken_stops_nothing(self, runtime: Runtime, unit: Unit) -> None:
        started = runtime.start(unit)

        with pytest.raises(Conflict):
            runtime.stop(started.id, overtaken)

        assert runtime.instances() == [started]

    def test_the_log_of_nothing_is_empty(self, runtime: Runtime) -> None:
        assert runtime.log("production/flights@7") == ""

    def test_a_log_has_no_more_lines_than_asked_for(self, runtime: Runtime, unit: Unit) -> None:
        started = runtime.start(unit)

        assert runtime.log(started.id, lines=0) == ""
