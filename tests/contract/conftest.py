"""One real gateway and one real database server for all suites; each test has a place of its own in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from modelcd.adapters.traefik import Gateway
from modelcd.testing.postgres import PostgresServer
from modelcd.testing.traffic import DOORS, free_port


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), free_port(), free_port(), DOORS)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.schema(f"test_{uuid.uuid4().hex}")
