"""The routers keep the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelcd.adapters.memory_traffic import MemoryRouter
from modelcd.adapters.traefik import Gateway, TraefikRouter
from modelcd.testing.router import RouterContract
from modelcd.testing.traffic import HttpBackends, MemoryBackends, Send, http_send, memory_send


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
