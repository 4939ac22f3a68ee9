"""The sources of live counts keep the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelcd.adapters.memory_traffic import MemoryMetrics, MemoryRouter
from modelcd.adapters.traefik import Gateway, TraefikMetrics, TraefikRouter
from modelcd.testing.metrics import MetricsContract
from modelcd.testing.traffic import HttpBackends, MemoryBackends, Send, http_send, memory_send


class TestMemoryMetrics(MetricsContract):
    @pytest.fixture
    def router(self) -> MemoryRouter:
        return MemoryRouter()

    @pytest.fixture
    def metrics(self, router: MemoryRouter) -> MemoryMetrics:
        return MemoryMetrics(router)

    @pytest.fixture
    def backends(self, router: MemoryRouter) -> MemoryBackends:
        return MemoryBackends(router)

    @pytest.fixture
    def send(self, router: MemoryRouter) -> Send:
        return memory_send(router)


class TestTraefikMetrics(MetricsContract):
    @pytest.fixture
    def router(self, gateway: Gateway) -> TraefikRouter:
        return TraefikRouter(gateway)

    @pytest.fixture
    def metrics(self, gateway: Gateway) -> TraefikMetrics:
        return TraefikMetrics(gateway)

    @pytest.fixture
    def backends(self) -> Iterator[HttpBackends]:
        with HttpBackends() as backends:
            yield backends

    @pytest.fixture
    def send(self, router: TraefikRouter) -> Send:
        return http_send(router)
