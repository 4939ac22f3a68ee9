"""What a laptop runs beside the models: what a gateway that starts may still believe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelcd.adapters.processes import ProcessRuntime
from modelcd.environments.services import Services
from modelcd.ports import Unit
from modelcd.testing.traffic import free_port
from modelcd.workspace import open_workspace


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    workspace = open_workspace(tmp_path / "workspace")
    services = Services(workspace.with_ports({name: free_port() for name in workspace.ports}))
    yield services
    services.down()


def test_a_gateway_starts_without_what_it_was_told_of_models_that_are_gone(services: Services) -> None:
    folder = services.workspace.path / "places"
    runtime = ProcessRuntime(folder, lambda _: [sys.executable, "-c", "import time; time.sleep(600)"])
    living = runtime.start(Unit("production/living", "living", 1, "sha256:1", folder))
    gone = runtime.start(Unit("production/gone", "gone", 1, "sha256:2", folder))
    runtime.stop(gone.id)
    endpoints = services.gateway.endpoints
    endpoints.mkdir(parents=True)
    for instance in (living, gone):
        (endpoints / f"{instance.model}.yml").write_text(f'{{"http": {{"x": {{"url": "{instance.address}"}}}}}}')

    services.up(["gateway"])

    assert [path.name for path in endpoints.iterdir()] == ["living.yml"]
    runtime.stop(living.id)
