"""The routers keep the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelcd.adapters.memory_traffic import MemoryRouter
from modelcd.adapters.traefik import Gateway, TraefikRouter
from modelcd.testing.router import RouterContract
from modelcd.testing.traffic import HttpBackends, MemoryBackends, Send, free_port, http_send, memory_send


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), free_port(), free_port())
    gateway.start()
    yield gateway
    gateway.stop()


class TestMemoryRouter(RouterContract):
    @pytest.fixture
    def router(self) -> MemoryRouter:
        return MemoryRouter()

    @pytest.fixture
    def backends(self, router: MemoryRouter) -> MemoryBackends:
        return MemoryBackends(router)

    @pytest.fixture
    def send(self, router: MemoryRouter) -> Send:
        return memory_send(router)


class TestTraefikRouter(RouterContract):
    @pytest.fixture
    def router(self, gateway: Gateway) -> TraefikRouter:
        return TraefikRouter(gateway)

    @pytest.fixture
    def backends(self) -> Iterator[HttpBackends]:
        with HttpBackends() as backends:
            yield backends

    @pytest.fixture
    def send(self, router: TraefikRouter) -> Send:
        return http_send(router)
