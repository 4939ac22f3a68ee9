"""What every catalog must do: subclass `CatalogContract`, give the fixtures, add nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from modelcd.domain.card import Card, Page
from modelcd.ports import Catalog

MODEL = "team/flights"
"""The model that the fixture `catalog` knows, with the versions 1 and 2."""

Reader = Callable[[str, int | None], Page]
"""Reads what people are shown of a model, or of one of its versions."""

CARD = Card(
    MODEL,
    "builds/team/flights 9",
    Page("Predicts `late`.", {"modelcd.production": "version 1"}),
    {
        1: Page("In production", {"modelcd.state": "in production", "modelcd.release": "r1"}),
        2: Page("Stopped at gates", {"modelcd.state": "stopped at gates"}),
    },
)


def _says(page: Page, wanted: Page) -> bool:
    return wanted.text in page.text and all(page.tags.get(tag, "") == value for tag, value in wanted.tags.items())


class CatalogContract:
    """What is shown is what the newest card says, and it is known which one that was.

    `catalog` knows `MODEL` with two versions; `read` gives what people see.
    """

    def test_nothing_is_shown_before_the_first_card(self, catalog: Catalog) -> None:
        assert (catalog.shown(MODEL), catalog.shown("nobody")) == ("", "")

    def test_a_card_is_shown_with_every_version(self, catalog: Catalog, read: Reader) -> None:
        catalog.show(CARD)

        assert catalog.shown(MODEL) == CARD.journal
        assert _says(read(MODEL, None), CARD.page)
        assert all(_says(read(MODEL, number), page) for number, page in CARD.versions.items())

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_newer_card_takes_the_place_of_an_older(self, catalog: Catalog, read: Reader, times: int) -> None:
        page = Page("Retired", {"modelcd.state": "retired", "modelcd.release": ""})
        newer = replace(CARD, journal="builds/team/flights 12", versions={**CARD.versions, 1: page})
        catalog.show(CARD)
        for _ in range(times):
            catalog.show(newer)

        assert catalog.shown(MODEL) == newer.journal
        assert _says(read(MODEL, 1), page)
        assert "In production" not in read(MODEL, 1).text

    def test_a_version_that_is_not_there_is_passed_over(self, catalog: Catalog, read: Reader) -> None:
        catalog.show(replace(CARD, versions={7: Page("?"), **CARD.versions}))

        assert _says(read(MODEL, 2), CARD.versions[2])

    def test_a_model_that_is_not_there_is_passed_over(self, catalog: Catalog, read: Reader) -> None:
        catalog.show(replace(CARD, model="nobody"))
        catalog.show(CARD)

        assert _says(read(MODEL, None), CARD.page)

    def test_a_text_may_be_long(self, catalog: Catalog, read: Reader) -> None:
        long = Page("In production\n" + "- a moment\n" * 10_000, {"modelcd.why": "x" * 4000})
        catalog.show(replace(CARD, versions={1: long}))

        assert read(MODEL, 1).text.startswith("In production")
