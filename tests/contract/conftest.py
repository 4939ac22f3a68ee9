"""One real gateway for all suites that need one; each test has an endpoint of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelcd.adapters.traefik import Gateway
from modelcd.testing.traffic import free_port


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), free_port(), free_port())
    gateway.start()
    yield gateway
    gateway.stop()
