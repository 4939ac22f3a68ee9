"""What a table asks for: found in its rows, and answered in words where nothing can be learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelcd.cli.inference import Kind, notes, task_of
from modelcd.errors import UsageError

ROWS = 400
RANDOM = np.random.default_rng(5)
NUMBER = RANDOM.normal(size=ROWS)


def table(target: Any, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"größe": NUMBER, **columns, "y": target})


def of(*values: Any) -> list[Any]:
    """Return the values in any order, each about as often."""
    return [values[place] for place in RANDOM.integers(len(values), size=ROWS)]


@pytest.mark.parametrize(
    ("target", "kind", "positive"),
    [
        (of(True, False), Kind.BINARY, None),
        (of(0, 1), Kind.BINARY, None),
        (of("no", "yes"), Kind.BINARY, "yes"),
        (of("Yes", "maybe not"), Kind.BINARY, "Yes"),
        (of("ja", "nein"), Kind.BINARY, "ja"),
        (of("Oui", "Non"), Kind.BINARY, "Oui"),
        (of("no", "sí"), Kind.BINARY, "sí"),
        (of("sim", "não"), Kind.BINARY, "sim"),
        (of("да", "нет"), Kind.BINARY, "да"),
        (of("falsch", "wahr"), Kind.BINARY, "wahr"),
        (of("J", "N"), Kind.BINARY, "J"),
        (of("kept", "no"), Kind.BINARY, "kept"),
        (of(-1, 1), Kind.BINARY, 1),
        (of("benign", "benign", "benign", "malignant"), Kind.BINARY, "malignant"),
        (of("gut", "schlecht", "schlecht", "schlecht"), Kind.BINARY, "gut"),
        (of("F", "M", "M", "M"), Kind.BINARY, "F"),
        (of(1, 2, 2, 2), Kind.BINARY, 1),
        (of("setosa", "versicolor", "virginica"), Kind.MULTICLASS, None),
        (of(*range(10)), Kind.MULTICLASS, None),
        (NUMBER * 3, Kind.REGRESSION, None),
        (RANDOM.integers(18, 90, ROWS), Kind.REGRESSION, None),
    ],
)
def test_the_kind_is_found_in_the_target(target: Any, kind: Kind, positive: Any) -> None:
    task = task_of(table(target), "y")

    assert (task.kind, task.positive, task.inputs) == (kind, positive, ["größe"])


@pytest.mark.parametrize(
    ("rows", "target", "asked", "says", "help"),
    [
        (table(of(0, 1)), "z", None, "no column is named 'z'", "größe"),
        (table(["same"] * ROWS), "y", None, "all 400 rows have y = same, so there is nothing to learn", "--target"),
        (table([None] * ROWS), "y", None, "none of 400 rows has a 'y'", "--target"),
        (table(of(0, 1)).head(50), "y", None, "50 rows with a 'y' are too few: 30 are held out at least", "bring more"),
        (table([f"customer {k}" for k in range(ROWS)]), "y", None, "has 400 different values in 400 rows", "--target"),
        (table(range(ROWS)), "y", None, "'y' numbers the rows, a different value in each of them: that is an id", "--"),
        (table(pd.date_range("2026-01-01", periods=ROWS)), "y", None, "'y' holds times", "predict a number"),
        (table([k < 20 for k in range(ROWS)]), "y", None, "only 20 rows have y = True: the holdout needs 20", "more"),
        (table(of("a", "b")), "y", Kind.REGRESSION, "a regression predicts numbers, and 'y' has 2 classes", "binary"),
        (table(of("a", "b", "c")), "y", Kind.BINARY, "'y' has 3 classes, so it is no binary target", "--kind multic"),
        (table(of(0, 1)), "y", Kind.MULTICLASS, "'y' has 2 classes, so it is no multiclass target", "--kind binary"),
        (table(NUMBER), "y", Kind.MULTICLASS, "'y' holds numbers, so it is no multiclass target", "--kind regression"),
        (table(of(0, 1)), "y", Kind.TEXT, "no column holds texts of several words", "--kind binary"),
        (table(NUMBER, text=of("a b c d e")), "y", Kind.TEXT, "a text classification reads a text and predicts a", ""),
        (table(of(0, 1)).assign(größe=np.inf * NUMBER), "y", None, "column 'größe' holds infinity", "empty"),
        (table(of(0, 1)).assign(größe=1.0), "y", None, "no column is left to learn from", "größe (always the same)"),
    ],
)
def test_what_cannot_be_learned_is_said_with_what_to_do(
    rows: pd.DataFrame, target: str, asked: Kind | None, says: str, help: str
) -> None:
    with pytest.raises(UsageError) as refused:
        task_of(rows, target, asked)

    assert says in refused.value.message
    assert help in refused.value.help


def test_each_column_is_sorted_by_what_it_is_good_for() -> None:
    prose = [f"the number {k} was seen on some day" for k in range(ROWS)]
    rows = table(
        NUMBER + RANDOM.normal(size=ROWS),
        id=range(1000, 1000 + ROWS),
        datum=pd.date_range("2026-01-01", periods=ROWS).strftime("%Y-%m-%d"),
        other=pd.date_range("2025-01-01", periods=ROWS),
        ort=of("Köln", None, "Zürich"),
        member=of(True, False),
        perhaps=of(True, None),
        nothing=[None] * ROWS,
        name=[f"n{k}" for k in range(ROWS)],
        code=of(*(f"c{k}" for k in range(200))),
        notes=prose,
        tags=[["a"]] * ROWS,
        vector_or_none=[None, *[[1.0, 2.0]] * (ROWS - 1)],
        facts=[{"a": 1}] * ROWS,
        price=of("1,5", "2,25", "1.300,5"),
        amount=[f"{k},5" for k in range(ROWS)],
        vector=list(RANDOM.normal(size=(ROWS, 3)).astype("float32")),
    )

    task = task_of(rows, "y")

    assert (task.inputs, task.vectors) == (["größe", "ort", "member", "vector"], ["vector"])
    assert (task.time, task.key) == ("datum", "id")
    assert task.left_out == {
        "other": "another time",
        "perhaps": "always the same",
        "nothing": "empty",
        "name": "an id",
        "code": "too many different words",
        "notes": "a text",
        "tags": "lists, but not of finite numbers and of one length",
        "vector_or_none": "lists, which some rows lack",
        "facts": "mappings, or values of several kinds",
        "price": "numbers with commas like '1,5'; write them like 1234.5 to learn from it",
        "amount": "numbers with commas like '0,5'; write them like 1234.5 to learn from it",
    }


def test_a_class_beside_a_text_asks_for_text_classification() -> None:
    said = of("what a fine and good day", "what a dull and bad day")
    rows = table(of("a", "b"), review=[f"{text} it was, number {k}" for k, text in enumerate(said)])

    assert (task_of(rows, "y").kind, task_of(rows, "y").inputs) == (Kind.TEXT, ["review"])
    assert (task_of(rows, "y", Kind.BINARY).kind, task_of(rows, "y", Kind.BINARY).inputs) == (Kind.BINARY, ["größe"])


def test_rows_that_come_sorted_by_the_target_are_shuffled() -> None:
    by_class = task_of(table(["a"] * 200 + ["b"] * 100 + ["c"] * 100), "y")
    by_number = task_of(table(np.sort(NUMBER)), "y")

    assert (by_class.shuffled, by_number.shuffled) == (True, True)
    assert not task_of(table(of("a", "b", "c")), "y").shuffled


def test_missing_truths_are_dropped_and_whole_numbers_stay_whole() -> None:
    task = task_of(table([None, *of(1, 2, 3)[1:]]), "y")

    assert (task.missing, task.whole, task.classes) == (1, True, [1, 2, 3])
    assert "1 of 400 rows have no 'y'; prepare drops them" in notes(task, ROWS)


def test_rows_without_a_text_are_dropped_where_the_text_is_read() -> None:
    said = [f"what a day it was, number {k}" if k % 10 else None for k in range(ROWS)]

    task = task_of(table(of("a", "b"), review=said), "y")

    assert (task.kind, task.missing) == (Kind.TEXT, 40)
    assert task.prepared(table(of("a", "b"), review=said))["review"].notna().all()
    assert "40 of 400 rows have no 'y' or no 'review'; prepare drops them" in notes(task, ROWS)


@pytest.mark.parametrize("word", ["-", "?", ".", "n/a", "None", " "])
def test_numbers_beside_a_word_for_none_are_numbers(word: str) -> None:
    rows = table(of("a", "b"), preis=[word if k % 20 == 0 else f"{k / 7:.2f}" for k in range(ROWS)])

    task = task_of(rows, "y")

    assert task.inputs == ["größe", "preis"]
    assert task.prepared(rows)["preis"].isna().sum() == 20
    assert f"{word!r} in 'preis' is no number: prepare makes it a missing value" in notes(task, ROWS)


def test_numbers_beside_another_word_are_told_as_such() -> None:
    rows = table(of("a", "b"), preis=["auf Anfrage" if k % 20 == 0 else f"{k / 7:.2f}" for k in range(ROWS)])

    assert task_of(rows, "y").left_out["preis"].startswith("numbers, beside 20 like 'auf Anfrage'")


def test_a_dash_in_the_target_is_no_class() -> None:
    said = ["-" if k % 20 == 0 else value for k, value in enumerate(of("yes", "no"))]
    number = ["?" if k % 20 == 0 else str(value) for k, value in enumerate(NUMBER)]
    task, counted = task_of(table(said), "y"), task_of(table(number), "y")

    assert (task.kind, task.positive, task.missing) == (Kind.BINARY, "yes", 20)
    assert task.prepared(table(said))["y"].dtype == bool
    assert "'-' in 'y' is no class: prepare makes it a missing value" in notes(task, ROWS)
    assert (counted.kind, counted.missing) == (Kind.REGRESSION, 20)
    assert len(counted.prepared(table(number))) == ROWS - 20


def test_a_dash_beside_a_plus_is_a_class() -> None:
    assert task_of(table(of("+", "-")), "y").positive == "+"
    assert task_of(table(of("+", "-", "0")), "y").classes == ["+", "-", "0"]


@pytest.mark.parametrize("more", [[], [None], ["-"]])
def test_digits_with_zeros_in_front_are_text_and_told_with_the_way_to_numbers(more: list[Any]) -> None:
    rows = table(NUMBER, zip=of("01234", "94105", *more), serial=[f"{k:05d}" for k in range(ROWS)])

    task = task_of(rows, "y")

    assert (task.inputs, task.codes, task.key) == (["größe", "zip"], ["zip"], "serial")
    (told,) = (note for note in notes(task, ROWS) if "'zip'" in note)
    line = told.partition("pipeline.py: ")[2]
    known = {"rows": rows[rows["zip"] != "-"]}
    exec(line, known)
    assert known["rows"]["zip"].dtype == float


def test_dates_that_can_be_read_in_two_ways_are_left_out() -> None:
    days = [f"{k % 12 + 1:02}.{k % 11 + 1:02}.2026" for k in range(ROWS)]

    task = task_of(table(of("a", "b"), day=days), "y")

    assert task.time is None
    assert task.left_out["day"].startswith("a time that can be read in two ways")


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%d-%m-%Y"])
def test_a_day_beyond_the_twelfth_says_where_the_month_stands(form: str) -> None:
    days = pd.Series(pd.date_range("2026-01-01", periods=ROWS))
    rows = table(NUMBER, day=days.dt.strftime(form)).sample(frac=1.0, random_state=3)

    task = task_of(rows, "y")

    assert task.time == "day"
    assert task.prepared(rows)["day"].tolist() == days.dt.strftime(form).tolist()


def test_times_with_offsets_on_both_sides_of_a_summer_time_are_times() -> None:
    local = pd.date_range("2024-01-01", periods=ROWS, freq="12h", tz="Europe/Berlin")
    rows = table(NUMBER, at=[moment.isoformat() for moment in local]).sample(frac=1.0, random_state=3)

    task = task_of(rows, "y")

    assert task.time == "at"
    assert task.prepared(rows)["at"].tolist() == [moment.isoformat() for moment in local]


def test_numbers_that_could_be_classes_are_asked_to_be_a_regression() -> None:
    rows = table(of(1, 2, 3, 4, 5))

    assert "else: --kind regression" in " ".join(notes(task_of(rows, "y"), ROWS))
    assert task_of(rows, "y", Kind.REGRESSION).classes == []


def test_words_that_do_not_say_which_is_meant_are_told_with_the_line_to_change() -> None:
    rows = table(of("gut", "schlecht", "schlecht", "schlecht"))

    said = " ".join(notes(task_of(rows, "y"), ROWS))

    assert "the words 'gut' and 'schlecht' do not say which one is meant, so the rarer was taken" in said
    assert """--positive schlecht, or in prepare, in pipeline.py: rows["y"] == "schlecht\"""" in said
    assert "do not say" not in " ".join(notes(task_of(table(of("ja", "nein")), "y"), ROWS))


def test_the_positive_class_can_be_named() -> None:
    rows = table(of("gut", "schlecht", "schlecht", "schlecht"))

    task = task_of(rows, "y", positive="schlecht")

    assert (task.positive, task.rarer) == ("schlecht", False)
    assert task.prepared(rows)["y"].mean() > 0.5
    assert (
        task_of(table(of(0, 1)), "y", positive="0").positive,
        task_of(table(of(0, 1)), "y", positive="1").positive,
    ) == (
        0,
        None,
    )
    assert task_of(table(of(1.0, 2.0)), "y", positive="2").positive == 2


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (of("a", "b"), "names one of the two classes of 'y', and it has a, b"),
        (of("a", "b", "c"), "and it has a, b, c"),
        (NUMBER, "and it holds numbers"),
    ],
)
def test_a_positive_class_that_is_none_of_two_is_refused(target: Any, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        task_of(table(target), "y", positive="z")

    assert says in refused.value.message


def test_where_most_rows_are_of_one_class_each_class_counts_the_same() -> None:
    task = task_of(table([*"aaaaaaaabc"] * (ROWS // 10)), "y")

    assert task.uneven and not task_of(table([*"aabc"] * (ROWS // 4)), "y").uneven
    assert any("balanced_accuracy" in note for note in notes(task, ROWS))


def test_copies_of_rows_are_told() -> None:
    rows = table(of("a", "b"))

    told = notes(task_of(pd.concat([rows, rows.head(100)]), "y"), 500)

    assert any("stand in training as well" in note and "rows.drop_duplicates" in note for note in told)
    assert not task_of(rows, "y").copied


def test_a_rare_class_gets_a_larger_holdout() -> None:
    assert task_of(table([k % 8 == 0 for k in range(ROWS)]), "y").holdout == 0.48
    assert task_of(table(of(True, False)), "y").holdout == 0.25
