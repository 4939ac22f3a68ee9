"""What every router must do, seen by the people who use it: subclass, give the fixtures, add nothing.

Fixtures: `router` (a `Router`), `backends` (a `Backends`), `send` (a `Send`); see `modelcd.testing.traffic`.  What a
router says it cannot do is skipped, except that it must refuse it.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest

from modelcd.adapters.memory_traffic import Answer
from modelcd.domain.routing import Arm, Routing, Shadow, Unit
from modelcd.errors import ConfigurationError, Conflict
from modelcd.ports import Router
from modelcd.testing.faults import overtaken
from modelcd.testing.traffic import FAILING, Backends, Scripted, Send, eventually

_numbers = itertools.count(1)


def split(share: float, *, fallback: bool = False, shadow: float = 0.0) -> Routing:
    """Return a routing of champion 1 and challenger 2 at *share* per cent; version 3 may be a shadow."""
    return Routing(
        arms=(Arm(1, 100.0 - share), Arm(2, share)),
        shadows=(Shadow(3, shadow),) if shadow else (),
        fallback=1 if fallback else None,
    )


class Place:
    """An endpoint with three scripted models, of which 1 is the champion."""

    def __init__(self, router: Router, backends: Backends) -> None:
        self.router = router
        self.endpoint = f"contract/model-{next(_numbers)}"
        self.models = {version: Scripted() for version in (1, 2, 3)}
        self.addresses = {version: backends(model) for version, model in self.models.items()}

    def write(self, routing: Routing) -> None:
        """Put *routing* in force, skipping the test when the router says it cannot."""
        if lacks := self.router.abilities().missing(routing):
            pytest.skip(f"the router cannot do {', '.join(lacks)}")
        self.router.write(self.endpoint, routing, self.addresses)


class TrafficFixtures:
    """The fixture that both traffic suites share."""

    @pytest.fixture
    def place(self, router: Router, backends: Backends) -> Place:
        """Return an endpoint of its own for each test."""
        return Place(router, backends)


class RouterContract(TrafficFixtures):
    """What every router must do."""

    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0, 5.0, 33.33, 50.0, 99.0, 100.0])
    def test_what_was_set_is_read_back(self, router: Router, place: Place, share: float) -> None:
        place.write(split(share))

        assert router.read(place.endpoint) == split(share)

    def test_who_was_overtaken_writes_nothing(self, router: Router, place: Place) -> None:
        place.write(split(5.0))

        with pytest.raises(Conflict):
            router.write(place.endpoint, split(50.0), place.addresses, overtaken)

        assert router.read(place.endpoint) == split(5.0)

    @pytest.mark.parametrize(
        "routing",
        [
            Routing.all_to(2, keeping=(1,)),
            Routing((Arm(1, 100.0),), salt="a {{salt}}", fallback=1),
            Routing((Arm(1, 50.0), Arm(3, 30.0), Arm(2, 20.0)), fallback=3),
            split(20.0, fallback=True, shadow=7.0),
        ],
    )
    def test_every_part_of_a_routing_is_read_back(self, router: Router, place: Place, routing: Routing) -> None:
        place.write(routing)

        assert router.read(place.endpoint) == routing

    def test_the_same_write_again_changes_nothing(self, router: Router, place: Place, send: Send) -> None:
        place.write(split(50.0))
        place.write(split(50.0))

        assert router.read(place.endpoint) == split(50.0)
        assert {a.routing for a in send(place.endpoint, 4)} == {split(50.0).revision}

    def test_an_unknown_endpoint_reads_none(self, router: Router) -> None:
        assert router.read("contract/nobody-wrote-this") is None

    def test_the_public_address_stays_the_same(self, router: Router, place: Place) -> None:
        before = router.url(place.endpoint)
        place.write(split(50.0))

        assert router.url(place.endpoint) == before

    @pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (5.0, 10), (25.0, 50), (50.0, 100), (100.0, 200)])
    def test_weights_are_seen_by_requests(self, place: Place, send: Send, share: float, expected: int) -> None:
        place.write(split(share))
        served = Counter(answer.version for answer in send(place.endpoint, 200))

        assert served["2"] == pytest.approx(expected, abs=3 if 0 < share < 100 else 0)
        assert served["1"] + served["2"] == 200

    def test_the_first_request_after_a_write_is_served_by_it(self, place: Place, send: Send) -> None:
        seen = []
        for share in (100.0, 0.0, 100.0, 0.0):
            place.write(split(share))
            seen += [answer.version for answer in send(place.endpoint)]

        assert seen == ["2", "1", "2", "1"]

    def test_answers_carry_the_routing_they_were_served_by(self, place: Place, send: Send) -> None:
        place.write(split(50.0))

        assert {answer.routing for answer in send(place.endpoint, 10)} == {split(50.0).revision}

    def test_models_are_told_the_routing_and_the_leg(self, place: Place, send: Send) -> None:
        place.write(split(0.0))
        send(place.endpoint)

        assert [(r.routing, r.leg) for r in place.models[1].requests] == [(split(0.0).revision, "main")]

    def test_a_new_address_of_the_same_version_is_in_force_at_once(
        self, place: Place, backends: Backends, send: Send
    ) -> None:
        place.write(split(0.0))
        moved = Scripted()
        place.addresses[1] = backends(moved)
        place.write(split(0.0))
        send(place.endpoint, 3)

        assert (len(moved.requests), len(place.models[1].requests)) == (3, 0)

    def test_the_fallback_hides_a_failing_arm_from_users(self, place: Place, send: Send) -> None:
        place.write(split(50.0, fallback=True))
        place.models[2].reply = FAILING
        answers = send(place.endpoint, 40)

        assert {(answer.status, answer.version) for answer in answers} == {(200, "1")}
        assert Counter(place.models[1].legs)["fallback"] == len(place.models[2].requests) > 0

    def test_a_failing_fallback_is_not_hidden(self, place: Place, send: Send) -> None:
        place.write(split(0.0, fallback=True))
        place.models[1].reply = FAILING

        assert {answer.status for answer in send(place.endpoint, 5)} == {500}

    def test_a_shadow_gets_copies_and_users_never_see_its_answers(self, place: Place, send: Send) -> None:
        place.write(split(0.0, shadow=50.0))
        place.models[3].reply = FAILING
        answers = send(place.endpoint, 40)

        assert {(answer.status, answer.version) for answer in answers} == {(200, "1")}
        assert eventually(lambda: len(place.models[3].legs) in (19, 20, 21), True)
        assert set(place.models[3].legs) == {"shadow"}

    def test_the_shadow_copies_only_what_the_champion_got(self, place: Place, send: Send) -> None:
        place.write(split(50.0, shadow=100.0))
        send(place.endpoint, 40)

        assert eventually(lambda: len(place.models[3].legs), len(place.models[1].legs)) == len(place.models[1].legs)

    def test_too_many_arms_are_refused(self, router: Router, place: Place) -> None:
        n = router.abilities().max_arms + 1
        routing = Routing((Arm(1, 100.0), *(Arm(version, 0.0) for version in range(2, n + 1))))
        addresses = dict.fromkeys(routing.versions, place.addresses[1])

        with pytest.raises(ConfigurationError):
            router.write(place.endpoint, routing, addresses)

    @pytest.mark.parametrize("unit", list(Unit))
    def test_an_unknown_unit_of_assignment_is_refused(self, router: Router, place: Place, unit: Unit) -> None:
        if unit in router.abilities().units:
            pytest.skip("the router can do it")

        with pytest.raises(ConfigurationError):
            router.write(place.endpoint, Routing((Arm(1, 100.0),), unit=unit), place.addresses)

    def test_a_version_without_an_address_is_refused(self, router: Router, place: Place) -> None:
        del place.addresses[2]

        with pytest.raises(ConfigurationError):
            router.write(place.endpoint, split(50.0), place.addresses)

    def test_what_was_refused_changes_nothing(self, router: Router, place: Place) -> None:
        place.write(split(5.0))
        with pytest.raises(ConfigurationError):
            router.write(place.endpoint, split(50.0), {1: place.addresses[1]})

        assert router.read(place.endpoint) == split(5.0)

    def test_changing_weights_under_load_loses_no_request(self, place: Place, send: Send) -> None:
        place.write(split(0.0))
        answers: list[Answer] = []
        ended = threading.Event()

        def use() -> None:
            while not ended.is_set():
                answers.extend(send(place.endpoint, 20))

        user = threading.Thread(target=use)
        user.start()
        try:
            for share in (5.0, 25.0, 50.0, 100.0, 0.0):
                place.write(split(share))
        finally:
            ended.set()
            user.join(30)

        assert Counter(answer.status for answer in answers) == {200: len(answers)}

    def test_two_endpoints_do_not_disturb_each_other(
        self, router: Router, backends: Backends, place: Place, send: Send
    ) -> None:
        other = Place(router, backends)
        other.endpoint = f"{place.endpoint}-and-more"  # one name is the beginning of the other
        place.write(split(0.0))
        other.write(split(100.0))
        served = {answer.version for answer in send(place.endpoint, 5)}, {a.version for a in send(other.endpoint, 5)}

        assert served == ({"1"}, {"2"})
        assert (router.read(place.endpoint), router.read(other.endpoint)) == (split(0.0), split(100.0))

    def test_an_endpoint_takes_nothing_of_one_whose_name_it_begins(self, place: Place, send: Send) -> None:
        place.write(split(0.0))

        assert [answer.status for answer in send(f"{place.endpoint}-and-more")] == [404]

    def test_a_model_of_a_team_has_an_address_of_its_own(self, router: Router, place: Place, send: Send) -> None:
        place.endpoint = f"contract/team/model-{next(_numbers)}"
        place.write(split(50.0))

        assert router.read(place.endpoint) == split(50.0)
        assert [answer.status for answer in send(place.endpoint)] == [200]
