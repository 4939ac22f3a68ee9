"""Servers begun before anybody knew whom they would serve: they become the one that is started, or they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import joblib
import psutil
import pytest
from sklearn.dummy import DummyRegressor

from modelcd.adapters.http import HttpScoring
from modelcd.adapters.processes import ProcessRuntime, foresee, spares
from modelcd.artifact import Column, Manifest, write_manifest
from modelcd.errors import NotReady
from modelcd.ports import Instance, Unit
from modelcd.testing.traffic import eventually

pytestmark = pytest.mark.timeout(120)

PATIENCE = 60.0
ROW = {"x": 1.0}


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    """A version that answers 0.5 to everything."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    joblib.dump(DummyRegressor().fit([[0.0]], [0.5]), folder / "model.joblib")
    inputs = (Column("x", "double", nullable=False),)
    write_manifest(folder, Manifest("flights", "object", "model.joblib", "predict", inputs, (ROW,)))
    return Unit("staging/flights", "flights", 3, "sha256:three", folder, interpreter=sys.executable)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[ProcessRuntime]:
    """A runtime whose servers log what they are asked; whatever runs at the end is stopped."""
    made = ProcessRuntime(tmp_path / "places", predictions=lambda _: tmp_path / "spool", gateway="a secret")
    yield made
    for instance in made.instances():
        made.stop(instance.id)


def is_ready(instance: Instance) -> bool:
    try:
        return bool(HttpScoring().ready(instance.address))
    except NotReady:
        return False


def process_of(instance: Instance) -> psutil.Process:
    return psutil.Process(int(instance.detail.removeprefix("process ")))


def was_spare(instance: Instance) -> bool:
    return modules_of(instance) is not None


def modules_of(instance: Instance) -> list[str] | None:
    """Return what it was told to import when it was a spare server, None if it never was one."""
    _, found, modules = " ".join(process_of(instance).cmdline()).partition("--spare")
    return modules.split() if found else None


def mine() -> set[int]:
    """Return the processes of spare servers that this process has started and that wait."""
    return {process.pid for process in psutil.Process().children() if "--spare" in cmdline(process)}


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_spare_server_becomes_the_instance_that_is_started(runtime: ProcessRuntime, unit: Unit) -> None:
    with spares():
        foresee(["wave"])
        assert eventually(lambda: len(mine()), 1)  # a program that was only just begun has no name for a moment
        (waiting,) = mine()
        instance = runtime.start(unit)

        assert process_of(instance).pid == waiting
        assert eventually(lambda: is_ready(instance), True, deadline=PATIENCE)

    answer = HttpScoring().predict(instance.address, [ROW])
    assert (list(answer.scores), answer.model, answer.version) == ([0.5], "flights", "3")
    assert '"ready"' in runtime.log(instance.id)
    process = process_of(instance)
    runtime.stop(instance.id)
    assert gone(process)


def test_another_is_begun_for_the_next_place_and_the_third_is_a_plain_one(runtime: ProcessRuntime, unit: Unit) -> None:
    units = [replace(unit, place=f"{place}/flights") for place in ("staging", "production", "elsewhere")]
    with spares():
        foresee(["wave"])
        instances = [runtime.start(one) for one in units]

        assert [was_spare(instance) for instance in instances] == [True, True, False]
        assert all(eventually(lambda one=one: is_ready(one), True, deadline=PATIENCE) for one in instances)


def test_who_has_an_environment_of_its_own_gets_a_server_that_knows_nothing_of_models(
    runtime: ProcessRuntime, unit: Unit
) -> None:
    """The gates prove with it that the version starts as it will whenever it has to start again."""
    alone = replace(unit, place="gates/flights", environment={"MODELCD_DRAIN": "0"})
    with spares():
        foresee(["wave"])
        foresee([], servers=1)
        instances = [runtime.start(one) for one in (alone, unit, replace(alone, version=4))]

        assert [modules_of(instance) for instance in instances] == [[], ["wave"], None]
        assert all(eventually(lambda one=one: is_ready(one), True, deadline=PATIENCE) for one in instances)


def test_what_a_spare_server_prints_and_knows_is_what_a_plain_one_does(
    runtime: ProcessRuntime, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unit.artifact / "code").mkdir()
    said = "import os; print('told', sorted(os.environ), os.getcwd(), os.getsid(0) == os.getpid())\n"
    (unit.artifact / "code" / "telling.py").write_text(
        said + "class Model:\n    def predict(self, rows): return [0.5] * len(rows)\n"
    )
    monkeypatch.syspath_prepend(str(unit.artifact / "code"))
    monkeypatch.setenv("MODELCD_TEST_SECRET", "hush")
    from telling import Model  # type: ignore[import-not-found]

    joblib.dump(Model(), unit.artifact / "model.joblib")

    def told(place: str) -> list[str]:
        instance = runtime.start(replace(unit, place=f"{place}/flights"))
        assert eventually(lambda: is_ready(instance), True, deadline=PATIENCE), runtime.log(instance.id)
        return [line for line in runtime.log(instance.id).splitlines() if line.startswith("told")]

    with spares():
        foresee(["wave"])
        as_spare = told("staging")
    as_plain = told("production")

    assert as_spare == as_plain
    assert "MODELCD_TEST_SECRET" not in as_spare[0]


def test_a_module_that_the_model_brings_is_the_one_it_gets(runtime: ProcessRuntime, unit: Unit) -> None:
    (unit.artifact / "code").mkdir()
    (unit.artifact / "code" / "wave.py").write_text("")
    with spares():
        foresee(["wave"])
        instance = runtime.start(unit)
        begun = process_of(instance)

        assert eventually(lambda: is_ready(instance), True, deadline=PATIENCE)
        assert (process_of(instance), was_spare(instance)) == (begun, False)


def test_a_spare_server_that_died_is_replaced_by_a_plain_one(runtime: ProcessRuntime, unit: Unit) -> None:
    with spares():
        foresee(["wave"])
        assert eventually(lambda: len(mine()), 1)  # a program that was only just begun has no name for a moment
        (waiting,) = mine()
        os.kill(waiting, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(waiting)], timeout=PATIENCE)

        assert not was_spare(runtime.start(unit))


def test_nobody_wants_it_then_it_ends() -> None:
    foresee(["wave"])
    assert mine() == set()

    with spares():
        foresee(["wave"])
        assert eventually(lambda: len(mine()), 1)

    assert mine() == set()


def test_it_ends_with_whoever_began_it() -> None:
    program = (
        "import sys; from modelcd.adapters import processes as p\n"
        "with p.spares(): p.foresee([]); print(p._SPARES[-1][0].process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        spare = psutil.Process(int(starter.stdout.readline()))
        starter.kill()

    assert eventually(lambda: gone(spare), True, deadline=PATIENCE)


def gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
