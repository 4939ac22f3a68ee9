"""What everything that asks models for scores must do: subclass, give the fixtures, add nothing.

Fixtures: `scoring` (a `Scoring`), `served` (the address of a ready model `echo`, version 7, whose score of a row is
its `x`, and which raises `ValueError("x is negative")` for one below zero), `nowhere` (an address without a model).
"""

from __future__ import annotations

import pytest

from modelcd.errors import CannotTell, NotReady, RowsRefused
from modelcd.ports import Scoring


class ScoringContract:
    """What every adapter of the `Scoring` port must do."""

    def test_a_ready_model_says_who_it_is(self, scoring: Scoring, served: str) -> None:
        said = scoring.ready(served)

        assert (said["model"], said["version"]) == ("echo", "7")

    def test_each_row_gets_its_score_in_order(self, scoring: Scoring, served: str) -> None:
        answer = scoring.predict(served, [{"x": 3.0}, {"x": 1.0}, {"x": 2.0}])

        assert answer.scores == (3.0, 1.0, 2.0)

    def test_scores_say_whose_they_are(self, scoring: Scoring, served: str) -> None:
        answer = scoring.predict(served, [{"x": 3.0}])

        assert (answer.model, answer.version) == ("echo", "7")

    def test_two_answers_have_two_ids(self, scoring: Scoring, served: str) -> None:
        first, second = (scoring.predict(served, [{"x": 3.0}]).prediction_id for _ in range(2))

        assert first
        assert first != second

    def test_what_the_model_raises_is_in_the_message(self, scoring: Scoring, served: str) -> None:
        with pytest.raises(CannotTell, match="x is negative"):
            scoring.predict(served, [{"x": -1.0}])

    def test_rows_that_lack_what_the_model_needs_are_refused_as_bad_rows(self, scoring: Scoring, served: str) -> None:
        with pytest.raises(RowsRefused, match="x"):
            scoring.predict(served, [{"y": 1.0}])

    def test_what_the_model_raises_is_not_blamed_on_the_rows(self, scoring: Scoring, served: str) -> None:
        with pytest.raises(CannotTell) as caught:
            scoring.predict(served, [{"x": -1.0}])

        assert not isinstance(caught.value, RowsRefused)

    def test_a_model_that_raised_still_answers(self, scoring: Scoring, served: str) -> None:
        with pytest.raises(CannotTell):
            scoring.predict(served, [{"x": -1.0}])

        assert scoring.predict(served, [{"x": 1.0}]).scores == (1.0,)

    def test_an_address_without_a_model_is_not_ready(self, scoring: Scoring, nowhere: str) -> None:
        with pytest.raises(NotReady):
            scoring.ready(nowhere)

    def test_an_address_without_a_model_gives_no_scores(self, scoring: Scoring, nowhere: str) -> None:
        with pytest.raises(CannotTell):
            scoring.predict(nowhere, [{"x": 1.0}])
