"""The publisher over memory adapters: what it shows and when, and what it does when the catalog is away."""

from __future__ import annotations

import pytest

from modelcd.adapters.memory import MemoryCatalog, MemoryClock, MemoryJournal
from modelcd.domain.card import Card
from modelcd.domain.records import Entry
from modelcd.errors import RegistryError
from modelcd.steps.publish import CALM, LONGEST, STREAM, Publisher

AT = "2026-01-01T00:00:00+00:00"


class Moody(MemoryCatalog):
    """A catalog that is away when it is told to be, counts its cards, and takes a while for each."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__()
        self.clock = clock
        self.away = False
        self.slow = 0.0
        self.times = 0

    def show(self, card: Card) -> None:
        if self.away:
            raise RegistryError("MLflow does not answer", help="is it running?")
        self.clock.sleep(self.slow)
        self.times += 1
        super().show(card)


class Desk:
    """A journal with one delivered model, and a publisher."""

    def __init__(self) -> None:
        self.journal, self.clock = MemoryJournal(), MemoryClock()
        self.catalog = Moody(self.clock)
        self.publisher = self.another()
        self.record("opened", {"reason": "", "trigger": "person", "project": "here"})
        self.record("built", {"version": 1, "rows": 10})

    def another(self) -> Publisher:
        """Start anew, as after a restart."""
        return Publisher(self.journal, self.catalog, ("staging", "production"), self.clock)

    def record(self, kind: str, body: dict[str, object], model: str = "m") -> None:
        stream = f"builds/{model}"
        self.journal.append(stream, len(self.journal.read(stream)), [Entry(kind, AT, "anna", "d1", body)])

    def rounds(self, seconds: float) -> None:
        """Let *seconds* pass, with a round in each."""
        for _ in range(int(seconds)):
            self.publisher.round()
            self.clock.sleep(1.0)

    def state(self) -> str:
        return self.catalog.cards["m"].versions[1].tags["modelcd.state"]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_model_is_shown_once_its_delivery_has_ended_and_its_journal_is_calm(desk: Desk) -> None:
    desk.rounds(CALM + 2)
    desk.record("closed", {"ending": "stopped", "why": "gates: too low"})
    desk.publisher.round()
    assert desk.catalog.cards == {}

    desk.rounds(CALM + 2)
    assert desk.state() == "stopped at gates"


def test_a_long_delivery_is_shown_while_it_is_under_way(desk: Desk) -> None:
    desk.rounds(LONGEST + 2)

    assert desk.state() == "delivery under way"


def test_what_was_shown_is_not_shown_again(desk: Desk) -> None:
    desk.rounds(60)

    assert desk.catalog.times == 1


def test_news_are_shown(desk: Desk) -> None:
    desk.rounds(LONGEST + 2)
    desk.record("closed", {"ending": "stopped", "why": "gates: too low"})
    desk.rounds(LONGEST + 2)

    assert (desk.state(), desk.catalog.shown("m")) == ("stopped at gates", "builds/m 3")


def test_a_journal_that_never_calms_is_shown_all_the_same(desk: Desk) -> None:
    for _ in range(int(LONGEST) + 2):
        desk.record("step", {"name": "data", "verdict": "pass", "reason": "", "evidence": {}, "seconds": 1})
        desk.rounds(1)

    assert desk.catalog.times == 1


def test_a_catalog_that_was_away_catches_up(desk: Desk) -> None:
    desk.rounds(LONGEST + 2)
    desk.catalog.away = True
    desk.record("closed", {"ending": "stopped", "why": "gates: too low"})
    with pytest.raises(RegistryError):
        desk.rounds(LONGEST + 2)
    assert desk.state() == "delivery under way"

    desk.catalog.away = False
    desk.rounds(LONGEST + 2)
    assert desk.state() == "stopped at gates"


def test_trouble_with_one_model_keeps_no_other_from_being_shown(desk: Desk) -> None:
    desk.record("of a kind that nobody knows", {}, model="a")
    desk.publisher.round()
    desk.clock.sleep(LONGEST)
    with pytest.raises(ValueError, match="unknown kind"):
        desk.publisher.round()

    assert desk.state() == "delivery under way"


def test_who_starts_shows_what_went_on_meanwhile_and_nothing_else(desk: Desk) -> None:
    desk.rounds(LONGEST + 2)
    desk.publisher = desk.another()
    desk.rounds(LONGEST + 2)
    assert desk.catalog.times == 1

    desk.record("closed", {"ending": "stopped", "why": "gates: too low"})
    desk.publisher = desk.another()
    desk.rounds(LONGEST + 2)
    assert (desk.catalog.times, desk.state()) == (2, "stopped at gates")


def test_a_slow_catalog_is_written_rarely(desk: Desk) -> None:
    desk.catalog.slow = 1.0
    for _ in range(100):
        desk.record("step", {"name": "data", "verdict": "pass", "reason": "", "evidence": {}, "seconds": 1})
        desk.rounds(CALM + 2)

    assert 10 <= desk.catalog.times <= 25


def test_a_clock_that_is_set_back_keeps_nothing_from_being_shown(desk: Desk) -> None:
    desk.rounds(LONGEST + 2)
    desk.clock.sleep(3600)
    desk.record("closed", {"ending": "stopped", "why": "gates: too low"})
    desk.publisher.round()
    desk.publisher.clock = MemoryClock()
    desk.publisher.round()

    assert desk.state() == "stopped at gates"


def test_while_another_shows_it_is_left_to_it(desk: Desk) -> None:
    desk.publisher.round()
    desk.clock.sleep(LONGEST)
    with desk.journal.exclusive(STREAM):
        desk.publisher.round()
    assert desk.catalog.cards == {}

    desk.publisher.round()
    assert desk.state() == "delivery under way"
