"""What every prediction log must do: subclass `PredictionsContract`, give `predictions` and `served`, add nothing.

`served(endpoint, predictions)` is what model servers do: it makes the log know those predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from modelcd.adapters.memory import Prediction
from modelcd.errors import UsageError
from modelcd.ports import Label, Predictions, Receipt

ENDPOINT = "production/team/flights"
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

        assert predictions.label(ENDPOINT, [Label("a", 1)]) == Receipt(joined=1, waiting=0, again=0)

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

    @pytest.mark.parametrize("value", [0, 1.5, "late", None, True, ["a", 1], {"delay": 3}])
    def test_any_plain_value_is_a_truth(self, predictions: Predictions, served: Served, value: object) -> None:
        served(ENDPOINT, [prediction("a", score=value)])
        predictions.label(ENDPOINT, [Label("a", value)])

        assert [(pair.score, pair.value) for pair in predictions.labelled(ENDPOINT)] == [(value, value)]

    def test_a_label_waits_for_a_prediction_not_seen_yet(self, predictions: Predictions) -> None:
        assert predictions.label(ENDPOINT, [Label("a", 1)]) == Receipt(joined=0, waiting=1, again=0)

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

        assert predictions.label(ENDPOINT, [Label("a", 1)]) == Receipt(joined=0, waiting=0, again=1)

    def test_the_same_truth_twice_in_one_batch_counts_once(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])

        assert predictions.label(ENDPOINT, [Label("a", 1), Label("a", 1)]) == Receipt(joined=1, waiting=0, again=1)

    def test_a_truth_told_again_makes_no_second_pair(self, predictions: Predictions, served: Served) -> None:
        served(ENDPOINT, [prediction("a")])
        for _ in range(2):
            predictions.label(ENDPOINT, [Label("a", 1)])

        assert len(predictions.labelled(ENDPOINT)) == 1

    def test_a_different_truth_is_refused_by_name(self, predictions: Predictions) -> None:
        predictions.label(ENDPOINT, [Label("a", 1)])

        with pytest.raises(UsageError, match="prediction a "):
            predictions.label(ENDPOINT, [Label("a", 0)])

    def test_two_truths_in_one_batch_are_refused(self, predictions: Predictions) -> None:
        with pytest.raises(UsageError, match="prediction a "):
            predictions.label(ENDPOINT, [Label("a", 1), Label("a", 0)])

    def test_nothing_of_a_refused_batch_is_kept(self, predictions: Predictions) -> None:
        predictions.label(ENDPOINT, [Label("a", 1)])
        with pytest.raises(UsageError):
            predictions.label(ENDPOINT, [Label("b", 1), Label("a", 0)])

        assert predictions.counts(ENDPOINT)["waiting"] == 1

    @pytest.mark.parametrize("label", [Label("a", float("nan")), Label("a", object()), Label("", 1)])
    def test_what_is_no_truth_is_refused(self, predictions: Predictions, label: Label) -> None:
        with pytest.raises(UsageError):
            predictions.label(ENDPOINT, [label])

    def test_one_truth_for_an_answer_of_many_rows_is_refused_with_the_right_ids(
        self, predictions: Predictions, served: Served
    ) -> None:
        served(ENDPOINT, [prediction("a/0"), prediction("a/1")])

        with pytest.raises(UsageError, match="a answered many rows") as refused:
            predictions.label(ENDPOINT, [Label("a", True)])

        assert "a/0 is the first" in refused.value.help
        assert predictions.label(ENDPOINT, [Label("a/1", True)]).joined == 1

    def test_no_labels_change_nothing(self, predictions: Predictions) -> None:
        assert predictions.label(ENDPOINT, []) == Receipt(joined=0, waiting=0, again=0)

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
