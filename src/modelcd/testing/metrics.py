"""What every source of live counts must do: subclass, give the fixtures, add nothing.

Fixtures: `router`, `backends` and `send` as for `RouterContract`, and `metrics` (a `Metrics`) that sees what `router`
passes on.  Counts may arrive a moment after the answer, so they are waited for.
"""

from __future__ import annotations

from collections import Counter

from modelcd.adapters.memory_traffic import Reply
from modelcd.domain.samples import LATENCY_GRID
from modelcd.ports import Metrics
from modelcd.testing.router import Place, TrafficFixtures, split
from modelcd.testing.traffic import CUTTING, FAILING, OK, REFUSING, SLOW, Send, eventually


def counted(metrics: Metrics, place: Place, version: int) -> tuple[int, int, int]:
    """Return requests, failures and rescued failures of *version*."""
    seen = metrics.counters(place.endpoint)[version]
    return seen.requests, seen.failures, seen.rescued


class MetricsContract(TrafficFixtures):
    """What every source of live counts must do."""

    def test_an_unknown_endpoint_has_no_counters(self, metrics: Metrics) -> None:
        assert metrics.counters("contract/nobody-wrote-this") == {}

    def test_a_version_without_requests_has_zeros(self, metrics: Metrics, place: Place) -> None:
        place.write(split(0.0))

        assert {version: c.requests for version, c in metrics.counters(place.endpoint).items()} == {1: 0, 2: 0}

    def test_a_version_that_is_not_routed_is_missing(self, metrics: Metrics, place: Place) -> None:
        place.write(split(0.0))

        assert 3 not in metrics.counters(place.endpoint)

    def test_counts_equal_what_the_client_counted(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(25.0))
        served = Counter(answer.version for answer in send(place.endpoint, 100))

        for version in (1, 2):
            expected = (served[str(version)], 0, 0)
            assert eventually(lambda v=version: counted(metrics, place, v), expected) == expected  # type: ignore[misc]

    def test_every_answer_is_in_one_latency_bucket(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(0.0))
        send(place.endpoint, 20)

        assert eventually(lambda: sum(metrics.counters(place.endpoint)[1].latency), 20) == 20

    def test_a_latency_is_counted_where_it_belongs(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(0.0))
        place.models[1].reply = Reply(seconds=0.1)
        send(place.endpoint)
        eventually(lambda: sum(metrics.counters(place.endpoint)[1].latency), 1)
        place_of_it = metrics.counters(place.endpoint)[1].latency.index(1)

        assert 0.1 <= LATENCY_GRID[place_of_it] < 0.3

    def test_failures_are_counted_for_the_version_that_failed(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(100.0))
        place.models[2].reply = FAILING
        send(place.endpoint, 7)

        assert eventually(lambda: counted(metrics, place, 2), (7, 7, 0)) == (7, 7, 0)

    def test_a_refused_request_is_a_failure(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(0.0))
        place.models[1].reply = REFUSING
        send(place.endpoint, 3)

        assert eventually(lambda: counted(metrics, place, 1), (3, 3, 0)) == (3, 3, 0)

    def test_a_rescued_failure_still_counts_for_the_arm(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(100.0, fallback=True))
        place.models[2].reply = FAILING
        send(place.endpoint, 7)

        assert eventually(lambda: counted(metrics, place, 2), (7, 7, 7)) == (7, 7, 7)

    def test_fallback_answers_do_not_pollute_the_champion(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(50.0, fallback=True))
        place.models[2].reply = FAILING
        send(place.endpoint, 40)
        assigned = place.models[1].legs.count("main")

        assert eventually(lambda: counted(metrics, place, 1), (assigned, 0, 0)) == (assigned, 0, 0)
        assert place.models[1].legs.count("fallback") == 40 - assigned

    def test_copies_for_a_shadow_are_no_requests_of_it(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(0.0, shadow=100.0))
        send(place.endpoint, 10)
        eventually(lambda: len(place.models[3].legs), 10)

        assert eventually(lambda: counted(metrics, place, 1), (10, 0, 0)) == (10, 0, 0)
        assert counted(metrics, place, 3) == (0, 0, 0)

    def test_a_client_that_left_is_neither_success_nor_failure(
        self, metrics: Metrics, place: Place, send: Send
    ) -> None:
        place.write(split(0.0))
        place.models[1].reply = SLOW
        send(place.endpoint, 2, patience=0.1)
        place.models[1].reply = OK
        send(place.endpoint, 3)

        assert eventually(lambda: counted(metrics, place, 1), (3, 0, 0)) == (3, 0, 0)
        assert sum(metrics.counters(place.endpoint)[1].latency) == 3

    def test_answers_cut_in_mid_body_are_failures(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(100.0, fallback=True))
        place.models[2].reply = CUTTING
        answers = send(place.endpoint, 4)

        assert {answer.status for answer in answers} == {0}
        assert eventually(lambda: counted(metrics, place, 2), (4, 4, 0)) == (4, 4, 0)

    def test_counts_go_on_over_a_change_of_weights(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(50.0))
        send(place.endpoint, 10)
        place.write(split(0.0))
        send(place.endpoint, 10)
        place.write(split(100.0))
        send(place.endpoint, 10)

        def both() -> int:
            return sum(c.requests for c in metrics.counters(place.endpoint).values())

        assert eventually(both, 30) == 30

    def test_counts_go_on_when_fallback_and_shadow_come_and_go(
        self, metrics: Metrics, place: Place, send: Send
    ) -> None:
        place.write(split(0.0))
        send(place.endpoint, 5)
        place.write(split(0.0, fallback=True, shadow=100.0))
        send(place.endpoint, 5)
        place.write(split(0.0))
        send(place.endpoint, 5)

        assert eventually(lambda: counted(metrics, place, 1), (15, 0, 0)) == (15, 0, 0)

    def test_endpoints_are_counted_apart(self, metrics: Metrics, place: Place, send: Send) -> None:
        place.write(split(0.0))
        first = place.endpoint
        place.endpoint = f"{first}-and-more"
        place.write(split(0.0))
        send(first, 4)
        send(place.endpoint, 2)
        expected = {first: 4, place.endpoint: 2}

        def requests() -> dict[str, int]:
            return {endpoint: metrics.counters(endpoint)[1].requests for endpoint in expected}

        assert eventually(requests, expected) == expected
