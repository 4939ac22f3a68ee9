"""What a laptop runs beside the models: what a gateway that starts may still believe."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelcd.adapters.processes import ProcessRuntime
from modelcd.adapters.traefik import TraefikRouter
from modelcd.control import Control
from modelcd.errors import JournalError
from modelcd.platform.services import Services
from modelcd.ports import Unit
from modelcd.testing.traffic import free_port
from modelcd.workspace import open_workspace


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    workspace = open_workspace(tmp_path / "workspace")
    services = Services(workspace.with_ports({name: free_port() for name in workspace.ports}))
    yield services
    services.down()


def document_of(address: str) -> str:
    """Return what a gateway may have been told of one model."""
    return json.dumps({"http": {"services": {"x": {"loadBalancer": {"servers": [{"url": address}]}}}}})


def test_a_gateway_that_starts_answers_503_for_models_that_are_gone(services: Services) -> None:
    folder = services.workspace.path / "places"
    runtime = ProcessRuntime(folder, lambda _: [sys.executable, "-c", "import time; time.sleep(600)"])
    living = runtime.start(Unit("production/living", "living", 1, "sha256:1", folder))
    gone = runtime.start(Unit("production/gone", "gone", 1, "sha256:2", folder))
    runtime.stop(gone.id)
    endpoints = services.gateway.watched
    endpoints.mkdir(parents=True)
    for instance in (living, gone):
        (endpoints / f"production.{instance.model}.yml").write_text(document_of(instance.address))

    services.up(["gateway"])

    told = {path.name: path.read_text() for path in services.gateway.endpoints()}
    assert (sorted(told), gone.address in told["production.gone.yml"]) == (
        ["production.gone.yml", "production.living.yml"],
        False,
    )
    answer = httpx.post(f"{services.gateway.url}/production/gone/predict", json={"rows": []})
    assert (answer.status_code, answer.json()["error"]) == (503, "no server of production/gone is ready")
    assert int(answer.headers["retry-after"]) > 0
    assert TraefikRouter(services.gateway).read("production/gone") is None
    runtime.stop(living.id)


def test_who_took_the_models_down_and_who_brought_them_back_stands_in_the_journal(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, folder = Control(services.workspace), services.workspace.path / "places"
    runtime = ProcessRuntime(folder, lambda _: [sys.executable, "-c", "import time; time.sleep(600)"])
    monkeypatch.setenv("MODELCD_ACTOR", "anna")
    control.down(reason="nothing ran")
    services.up([])
    runtime.start(Unit("production/m", "m", 1, "sha256:1", folder))

    control.down(reason="the office moves")
    control.down(reason="once more")
    monkeypatch.setenv("MODELCD_ACTOR", "bob")
    services.up([])
    services.up([])

    told = [(line["kind"], line["by"], line["reason"]) for line in control.history()]
    assert told == [("up", "bob", ""), ("down", "anna", "the office moves")]
    assert (control.verify(), control.status()) == ([], [])


def test_everything_is_ended_also_when_that_cannot_be_recorded(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalError("the journal cannot be written: disk full")

    folder = services.workspace.path / "places"
    runtime = ProcessRuntime(folder, lambda _: [sys.executable, "-c", "import time; time.sleep(600)"])
    runtime.start(Unit("production/m", "m", 1, "sha256:1", folder))
    services.up(["gateway"])
    monkeypatch.setattr("modelcd.platform.services.note_down", full)

    with pytest.raises(JournalError):
        Control(services.workspace).down()

    assert services.processes() == set()


TOGETHER = """
import signal, sys, time
from pathlib import Path
me, other = Path(sys.argv[1]), Path(sys.argv[2])
def told(*_):
    me.with_suffix(".told").touch()
    while not other.with_suffix(".told").exists():
        time.sleep(0.01)
    me.with_suffix(".ended").touch()
    raise SystemExit
signal.signal(signal.SIGTERM, told)
me.touch()
time.sleep(600)
"""
"""A server that ends once the other one was told to end, too."""


def test_models_are_ended_side_by_side(services: Services) -> None:
    place = services.workspace.path / "places"
    place.mkdir(parents=True)
    names = {"a": "b", "b": "a"}
    for me, other in names.items():
        command = [sys.executable, "-c", TOGETHER, str(place / me), str(place / other)]
        ProcessRuntime(place, lambda _, command=command: command).start(Unit(f"staging/{me}", me, 1, "sha256:1", place))
    deadline = time.monotonic() + 20
    while not all((place / name).exists() for name in names):
        assert time.monotonic() < deadline, "they did not start"
        time.sleep(0.01)

    ended = Control(services.workspace).down()

    assert sorted(ended) == ["staging/a@1", "staging/b@1"]
    assert all((place / f"{name}.ended").exists() for name in names)
