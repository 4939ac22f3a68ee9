"""What every prediction log must do: subclass `PredictionsContract`, give `predictions` and `served`, add nothing.

`served(endpoint, predictions)` is what model servers do: it makes the log know those predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from modelcd.adapters.memory import Prediction
from modelcd.ports import Amendment, Label, Predictions, Receipt

ENDPOINT = "production/team/flights"
BY = Amendment("anna", "the sensor was broken", "2026-01-02T00:00:00+00:00")
Served = Callable[[str, Sequence[Prediction]], None]


def prediction(id: str, *, version: int = 1, score: object = 0.5, leg: str = "main") -> Prediction:
    """A prediction to log."""
    return Prediction(id=id, model="team/flights", version=version, revision="abc", score=score, leg=leg)


class PredictionsContract:
    """Truths and predictions meet in whatever order they come, each pair once."""

    def test_a_log_without_predictions_counts_nothing(self, predictions: Predictions) -> None:
        assert set(predictions.counts(ENDPOINT).values()) == {0}

    def test_a_log_without_predictions_has_no_pairs(self, predictions: Predictions) -> None:
        assert predictions.labelled(ENDPOINT) == []

    def test_predictions_are_counted(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a"), prediction("b")])

        assert predictions.counts(ENDPOINT)["predictions"] == 2

    def test_a_label_joins_its_prediction(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])

        assert predictions.label(ENDPOINT, [Label("a", 1)]) == Receipt(joined=1)

    def test_a_pair_has_the_prediction_and_its_truth(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a/1", version=3, score=0.25, leg="fallback")])
        predictions.label(ENDPOINT, [Label("a/1", True)])

        [pair] = predictions.labelled(ENDPOINT)
        assert (pair.prediction, pair.model, pair.version, pair.revision, pair.leg, pair.score, pair.value) == (
            "a/1",
            "team/flights",
            3,
            "abc",
            "fallback",
            0.25,
            True,
        )

    @pytest.mark.parametrize("value", [0, 1.5, "late", True, ["a", 1], {"delay": 3}])
    def test_any_plain_value_is_a_truth(self, predictions: Predictions, served: Served, value: object) -> None:
        served(ENDPOINT, [prediction("a", score=value)])
        predictions.label(ENDPOINT, [Label("a", value)])

        assert [(pair.score, pair.value) for pair in predictions.labelled(ENDPOINT)] == [(value, value)]

    def test_a_label_waits_for_a_prediction_not_seen_yet(self, predictions: Predictions) -> None:
        assert predictions.label(ENDPOINT, [Label("a", 1)]) == Receipt(waiting=1)

    def test_a_waiting_label_is_counted(self, predictions: Predictions) -> None:
        predictions.label(ENDPOINT, [Label("a", 1)])

        assert predictions.counts(ENDPOINT)["waiting"] == 1

    def test_a_prediction_finds_the_label_that_waited(self, predictions: Predictions, served: Served) -> None:
        predictions.label(ENDPOINT, [Label("a", 1)])
        served(ENDPOINT, [prediction("a")])

        assert [pair.prediction for pair in predictions.labelled(ENDPOINT)] == ["a"]

    def test_a_label_waits_no_more_once_it_is_joined(self, predictions: Predictions, served: Served) -> None:
        predictions.label(ENDPOINT, [Label("a", 1)])
        served(ENDPOINT, [prediction("a")])

        assert dict(predictions.counts(ENDPOINT)) == {"predictions": 1, "labelled": 1, "waiting": 0, "malformed": 0}

    def test_the_same_truth_again_is_known(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])
        predictions.label(ENDPOINT, [Label("a", 1)])

        assert predictions.label(ENDPOINT, [Label("a", 1)]) == Receipt(again=1)

    def test_the_same_truth_twice_in_one_batch_counts_once(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])

        assert predictions.label(ENDPOINT, [Label("a", 1), Label("a", 1)]) == Receipt(joined=1, again=1)

    def test_a_truth_told_again_makes_no_second_pair(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])
        for _ in range(2):
            predictions.label(ENDPOINT, [Label("a", 1)])

        assert len(predictions.labelled(ENDPOINT)) == 1

    def test_a_different_truth_is_refused_by_name_with_what_to_do(self, predictions: Predictions) -> None:
        predictions.label(ENDPOINT, [Label("a", 1)])

        (refused,) = predictions.label(ENDPOINT, [Label("a", 0)]).refused
        assert (refused.index, refused.prediction, refused.why) == (0, "a", "it is labelled 1, and now 0")
        assert "correct or withdraw" in refused.help

    def test_of_two_truths_in_one_batch_the_first_is_taken_and_the_second_refused(
        self, predictions: Predictions
    ) -> None:
        receipt = predictions.label(ENDPOINT, [Label("a", 1), Label("a", 0)])

        assert (receipt.waiting, [refused.index for refused in receipt.refused]) == (1, [1])
        assert "two truths" in receipt.refused[0].why

    def test_a_refused_label_keeps_no_other_one_out(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction(id) for id in "abc"])
        predictions.label(ENDPOINT, [Label("b", 1)])
        batch = [Label("a", 1), Label("b", 0), Label("", 1), Label("c", 1), Label("d", float("nan")), Label("e", 0)]

        receipt = predictions.label(ENDPOINT, batch)

        assert (receipt.joined, receipt.waiting, [refused.index for refused in receipt.refused]) == (2, 1, [1, 2, 4])
        assert [pair.prediction for pair in predictions.labelled(ENDPOINT)] == ["b", "a", "c"]

    def test_a_batch_that_was_sent_twice_counts_once(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction(id) for id in "ab"])
        batch = [Label("a", 1), Label("", 1), Label("b", 0), Label("c", 1)]
        predictions.label(ENDPOINT, batch)

        receipt = predictions.label(ENDPOINT, batch)

        assert (receipt.joined, receipt.waiting, receipt.again, len(receipt.refused)) == (0, 0, 3, 1)
        assert len(predictions.labelled(ENDPOINT)) == 2

    @pytest.mark.parametrize(
        "label",
        [
            Label("a", float("nan")),
            Label("a", object()),
            Label("a", None),
            Label("a", "x" * 100_000),
            Label("a", "\ud800"),
            Label("", 1),
            Label("x" * 1000, 1),
            Label(7, 1),  # type: ignore[arg-type]
            Label(["a"], 1),  # type: ignore[arg-type]
        ],
    )
    def test_what_is_no_truth_is_refused(self, predictions: Predictions, label: Label) -> None:
        receipt = predictions.label(ENDPOINT, [label])

        assert (receipt.waiting, len(receipt.refused)) == (0, 1)
        assert receipt.refused[0].why
        assert receipt.refused[0].help

    def test_one_truth_for_an_answer_of_many_rows_is_refused_with_the_right_ids(
        self, predictions: Predictions, served: Served
    ) -> None:
        served(ENDPOINT, [prediction("a/0"), prediction("a/1")])

        (refused,) = predictions.label(ENDPOINT, [Label("a", True)]).refused

        assert "answered many rows" in refused.why
        assert "a/0 is the first" in refused.help
        assert predictions.label(ENDPOINT, [Label("a/1", True)]).joined == 1

    def test_a_truth_for_a_row_that_its_answer_did_not_have_is_refused(
        self, predictions: Predictions, served: Served
    ) -> None:
        served(ENDPOINT, [prediction("a/0"), prediction("a/1"), prediction("b")])

        receipt = predictions.label(ENDPOINT, [Label("a/7", True), Label("b/0", True), Label("later/7", True)])

        assert [(refused.prediction, refused.why) for refused in receipt.refused] == [
            ("a/7", "its answer had no such row"),
            ("b/0", "its answer had one row"),
        ]
        assert receipt.waiting == 1

    def test_a_pair_says_who_told_its_truth_however_long_that_waited(
        self, predictions: Predictions, served: Served
    ) -> None:
        served(ENDPOINT, [prediction("a")])
        predictions.label(ENDPOINT, [Label("a", 1), Label("b", 1), Label("c", 1)], by="tom")
        predictions.label(ENDPOINT, [Label("a", 1)], by="eve")
        predictions.label(ENDPOINT, [Label("c", 0)], BY)
        served(ENDPOINT, [prediction("b"), prediction("c")])

        told = [(pair.prediction, pair.by) for pair in predictions.labelled(ENDPOINT)]
        assert told == [("a", "tom"), ("b", "tom"), ("c", "anna")]

    # -- changing what was told ----------------------------------------------------------------------------------------

    def test_a_correction_is_an_entry_behind_the_old_one_which_stays(
        self, predictions: Predictions, served: Served
    ) -> None:
        served(ENDPOINT, [prediction("a")])
        predictions.label(ENDPOINT, [Label("a", 1)], by="tom")

        assert predictions.label(ENDPOINT, [Label("a", 0)], BY) == Receipt(corrected=1)

        told, corrected = predictions.labelled(ENDPOINT)
        assert (told.value, told.first, told.by) == (1, 0, "tom")
        assert (corrected.value, corrected.before, corrected.first) == (0, 1, told.cursor)
        assert (corrected.by, corrected.why, corrected.score) == ("anna", "the sensor was broken", told.score)

    def test_a_withdrawn_truth_is_an_entry_without_one(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a"), prediction("b")])
        predictions.label(ENDPOINT, [Label("a", 1), Label("b", 1)])

        assert predictions.label(ENDPOINT, [Label("a", None)], BY) == Receipt(withdrawn=1)

        withdrawn = predictions.labelled(ENDPOINT)[-1]
        assert (withdrawn.prediction, withdrawn.value, withdrawn.before) == ("a", None, 1)
        assert predictions.counts(ENDPOINT)["labelled"] == 1

    def test_every_change_of_a_truth_says_where_it_began_and_what_was_before(
        self, predictions: Predictions, served: Served
    ) -> None:
        served(ENDPOINT, [prediction("a")])
        predictions.label(ENDPOINT, [Label("a", 1)])
        for value in (0, None, 2):
            predictions.label(ENDPOINT, [Label("a", value)], BY)

        told = predictions.labelled(ENDPOINT)
        assert [(entry.before, entry.value) for entry in told] == [(None, 1), (1, 0), (0, None), (None, 2)]
        assert [entry.first for entry in told] == [0, *[told[0].cursor] * 3]

    def test_the_same_change_twice_is_one(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a"), prediction("b")])
        predictions.label(ENDPOINT, [Label("a", 1), Label("b", 1)])
        changes = [Label("a", 0), Label("b", None)]
        predictions.label(ENDPOINT, changes, BY)

        assert predictions.label(ENDPOINT, changes, BY) == Receipt(again=2)
        assert len(predictions.labelled(ENDPOINT)) == 4

    def test_a_truth_that_was_never_told_cannot_be_withdrawn(self, predictions: Predictions) -> None:
        (refused,) = predictions.label(ENDPOINT, [Label("a", None)], BY).refused

        assert "no label to withdraw" in refused.why

    def test_who_corrects_what_was_never_told_tells_it(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])

        assert predictions.label(ENDPOINT, [Label("a", 0)], BY) == Receipt(joined=1)

    def test_a_withdrawn_truth_does_not_come_back_with_a_batch_that_is_sent_again(
        self, predictions: Predictions, served: Served
    ) -> None:
        served(ENDPOINT, [prediction("a")])
        predictions.label(ENDPOINT, [Label("a", 1)])
        predictions.label(ENDPOINT, [Label("a", None)], BY)

        (refused,) = predictions.label(ENDPOINT, [Label("a", 1)]).refused

        assert "withdrawn" in refused.why
        assert predictions.counts(ENDPOINT)["labelled"] == 0
        assert predictions.label(ENDPOINT, [Label("a", 1)], BY).corrected == 1

    def test_a_truth_that_was_corrected_while_it_waited_meets_its_prediction_as_it_is(
        self, predictions: Predictions, served: Served
    ) -> None:
        predictions.label(ENDPOINT, [Label("a", 1), Label("b", 1)])
        assert predictions.label(ENDPOINT, [Label("a", 0), Label("b", None)], BY) == Receipt(corrected=1, withdrawn=1)
        served(ENDPOINT, [prediction("a"), prediction("b")])

        (told,) = predictions.labelled(ENDPOINT)
        assert (told.prediction, told.value, told.first) == ("a", 0, 0)
        assert predictions.counts(ENDPOINT)["waiting"] == 0

    def test_a_truth_that_was_withdrawn_while_it_waited_begins_when_it_is_told_again(
        self, predictions: Predictions, served: Served
    ) -> None:
        predictions.label(ENDPOINT, [Label("a", 1)])
        predictions.label(ENDPOINT, [Label("a", None)], BY)
        served(ENDPOINT, [prediction("a")])
        predictions.label(ENDPOINT, [Label("a", 0)], BY)
        predictions.label(ENDPOINT, [Label("a", 1)], BY)

        begun, changed = predictions.labelled(ENDPOINT)
        assert (begun.value, begun.first, changed.value, changed.first) == (0, 0, 1, begun.cursor)

    def test_scores_are_those_of_predictions_that_were_served(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a", score=0.25), prediction("b", score=["x", 1])])

        assert dict(predictions.scores(ENDPOINT, ["a", "b", "c"])) == {"a": 0.25, "b": ["x", 1]}

    def test_no_labels_change_nothing(self, predictions: Predictions) -> None:
        assert predictions.label(ENDPOINT, []) == Receipt()

    def test_cursors_rise_in_the_order_of_joining(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a"), prediction("b"), prediction("c")])
        for id in "bac":
            predictions.label(ENDPOINT, [Label(id, 1)])

        pairs = predictions.labelled(ENDPOINT)
        assert [pair.prediction for pair in sorted(pairs, key=lambda pair: pair.cursor)] == ["b", "a", "c"]

    def test_only_pairs_after_a_cursor_are_returned(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a"), prediction("b")])
        predictions.label(ENDPOINT, [Label("a", 1)])
        [first] = predictions.labelled(ENDPOINT)
        predictions.label(ENDPOINT, [Label("b", 1)])

        assert [pair.prediction for pair in predictions.labelled(ENDPOINT, after=first.cursor)] == ["b"]

    def test_no_more_pairs_than_the_limit_are_returned(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction(id) for id in "abc"])
        predictions.label(ENDPOINT, [Label(id, 1) for id in "abc"])

        assert [pair.prediction for pair in predictions.labelled(ENDPOINT, limit=2)] == ["a", "b"]

    def test_a_prediction_logged_twice_counts_once(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])
        served(ENDPOINT, [prediction("a")])

        assert predictions.counts(ENDPOINT)["predictions"] == 1

    def test_endpoints_do_not_touch_each_other(self, predictions: Predictions, served: Served) -> None:
        served("staging/flights", [prediction("a")])
        predictions.label("production/flights", [Label("a", 1)])

        assert predictions.labelled("staging/flights") == []
