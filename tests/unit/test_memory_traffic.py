"""The gateway in this process: what it does beyond the contract of every router."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from modelcd.adapters.memory_traffic import Answer, MemoryMetrics, MemoryRouter, Reply, assigned
from modelcd.domain.routing import Arm, Routing, Unit
from modelcd.testing.traffic import Scripted

ENDPOINT = "production/flight-delay"


def by_user(share: float, salt: str = "release-1") -> Routing:
    return Routing((Arm(1, 100.0 - share), Arm(2, share)), unit=Unit.USER, salt=salt)


@given(st.text(min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_a_rising_share_never_takes_a_user_back(user: str, one: float, other: float) -> None:
    low, high = sorted((one, other))

    assert assigned(by_user(low), user) <= assigned(by_user(high), user)


def test_users_are_split_by_share() -> None:
    served = Counter(assigned(by_user(25.0), f"user-{n}") for n in range(10_000))

    assert 2300 < served[2] < 2700


def test_another_salt_splits_users_anew() -> None:
    users = [f"user-{n}" for n in range(1000)]
    both = sum(assigned(by_user(50.0), u) == assigned(by_user(50.0, "release-2"), u) for u in users)

    assert 400 < both < 600


def test_a_request_without_a_user_goes_to_the_champion() -> None:
    assert assigned(by_user(100.0), "") == 1


def test_requests_are_dispatched_by_user() -> None:
    router = MemoryRouter()
    for version in (1, 2):
        router.serve(f"memory://{version}", Scripted())
    router.write(ENDPOINT, by_user(50.0), {1: "memory://1", 2: "memory://2"})

    assert {router.send(ENDPOINT, unit="ada").version for _ in range(10)} == {str(assigned(by_user(50.0), "ada"))}


def test_an_unknown_endpoint_is_not_found() -> None:
    assert MemoryRouter().send(ENDPOINT) == Answer(404)


def test_an_address_where_nobody_serves_is_a_failure() -> None:
    router = MemoryRouter()
    router.write(ENDPOINT, Routing.all_to(1), {1: "memory://1"})

    assert router.send(ENDPOINT).status == 502
    assert MemoryMetrics(router).counters(ENDPOINT)[1].failures == 1


def test_the_slowest_answers_have_a_bucket_of_their_own() -> None:
    router = MemoryRouter()
    router.serve("memory://1", Scripted(Reply(seconds=1000.0)))
    router.write(ENDPOINT, Routing.all_to(1), {1: "memory://1"})
    router.send(ENDPOINT)

    assert MemoryMetrics(router).counters(ENDPOINT)[1].latency[-1] == 1
