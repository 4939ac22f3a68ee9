"""Data files as they arrive: what can be read, and what is refused with its reason."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelcd import Dataset, Gate, Model
from modelcd.errors import ProjectError
from modelcd.project.data import Split, copied, gates_fit, prepared, read


def test_a_compressed_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("ort,y\nKöln,1\n".encode()))

    rows, files = read(tmp_path, Dataset("*.csv.gz", target="y"))

    assert (rows.to_dict("records"), [file.path for file in files]) == ([{"ort": "Köln", "y": 1}], ["a.csv.gz"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b,a\n1,2,3\n", "a.csv has the column 'a' 2 times"),
        (b"a,b\n1,\xe9\n", "a.csv is not text in UTF-8: byte 0xe9"),
        (b"", "a.csv is empty"),
        (b"a;b\n1;2\n", "the columns of a.csv are separated by ';'"),
        (b"a,b,c\n1,2,3\n1,2\n", "a.csv, line 3 has 2 values under a header of 3"),
        (b"a,b\n1,2,3\n4,5,6\n", "a.csv, line 2 has 3 values under a header of 2"),
        (b'"' + b"x" * 200_000 + b'",b\n1,2\n', "a.csv cannot be read: field larger"),
    ],
    ids=[
        "a column twice",
        "another encoding",
        "empty",
        "semicolons",
        "a short line",
        "long lines",
        "no end of a quote",
    ],
)
def test_a_csv_that_cannot_be_trusted_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    with pytest.raises(ProjectError, match=message) as refused:
        read(tmp_path, Dataset("*.csv", target="b"))

    assert refused.value.help


@pytest.mark.parametrize(
    ("text", "decimal"),
    [
        ("a;b\n1.5;2\n", ""),
        ('a;b\n1.5;"so, so"\n', ""),
        ("a;b\n1,5;2,5\n2;3\n", ", decimal=','"),
        ("a\tb\n1,5\t2\n", ", decimal=','"),
    ],
)
def test_a_csv_with_another_separator_is_refused_with_the_line_that_rewrites_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, decimal: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(text)

    with pytest.raises(ProjectError, match=r"the columns of a\.csv are separated by") as refused:
        read(tmp_path, Dataset("*.csv", target="b"))
    _, _, line = refused.value.help.partition("once: ")
    assert decimal in line
    exec(line, {"pandas": pd})

    assert read(tmp_path, Dataset("*.csv", target="b"))[0].iloc[0, 0] == 1.5


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("text", ["ort,y\nKöln,1.5\n", "ort;y\nKöln;1,5\n"], ids=["commas", "semicolons"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_csv_in_another_encoding_is_refused_with_the_line_that_rewrites_it(
    tmp_path: Path, encoding: str, text: str, name: str
) -> None:
    content = text.encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    with pytest.raises(ProjectError, match=r"is not text in UTF-8") as refused:
        read(tmp_path, Dataset(name, target="y"))
    _, _, line = refused.value.help.partition("once: ")
    exec(line, {"pandas": pd})

    assert read(tmp_path, Dataset(name, target="y"))[0].to_dict("records") == [{"ort": "Köln", "y": 1.5}]


@pytest.mark.parametrize("content", ["ort\nKöln\n".encode() + b"\xe9\n", b"ort\n\x81\n"], ids=["mixed", "no cp1252"])
def test_a_csv_whose_encoding_is_not_clear_is_refused_without_such_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    with pytest.raises(ProjectError, match=r"is not text in UTF-8") as refused:
        read(tmp_path, Dataset("a.csv", target="ort"))

    assert "parquet" in refused.value.help and "read_csv" not in refused.value.help


def test_a_column_with_leading_zeros_in_one_file_is_text_in_all(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("zip,count,price,y\n01234,10,00.5,1\n,7,2,2\n")
    (tmp_path / "2.csv").write_text("zip,count,price,y\n94105,0,1.5,3\n")
    (tmp_path / "3.csv").write_text("zip,count,price,y\n,0,1.5,3\n")

    rows, _ = read(tmp_path, Dataset("*.csv", target="y"))

    assert rows["zip"].fillna("none").tolist() == ["01234", "none", "94105", "none"]
    assert rows["zip"].dtype == pd.Series(["text"]).dtype
    assert (rows["count"].sum(), rows["price"].sum()) == (17, 5.5)


def test_a_long_column_of_codes_keeps_its_zeros_where_letters_come_late(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("zip,y\n" + "01234,1\n" * 300_000 + "K1A,1\n")

    assert set(read(tmp_path, Dataset("*.csv", target="y"))[0]["zip"]) == {"01234", "K1A"}


def test_the_line_that_rewrites_a_csv_keeps_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("zip;y\n01234;1,5\n")

    with pytest.raises(ProjectError) as refused:
        read(tmp_path, Dataset("*.csv", target="y"))
    exec(refused.value.help.partition("once: ")[2], {"pandas": pd})

    assert read(tmp_path, Dataset("*.csv", target="y"))[0].to_dict("records") == [{"zip": "01234", "y": 1.5}]


def test_empty_cells_and_lines_are_no_short_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,\n\n"x\ny",2\n')

    assert read(tmp_path, Dataset("*.csv", target="b"))[0]["b"].isna().tolist() == [True, False]


def test_a_file_with_a_dash_among_its_numbers_fits_others_where_prepare_can_mend_it(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("x,y\n1.5,2\n-,2\n")
    (tmp_path / "2.csv").write_text("x,y\n1.5,2\n2.5,2\n")

    rows, _ = read(tmp_path, Dataset("*.csv", target="y", prepare=lambda rows: rows))

    assert rows["x"].tolist() == ["1.5", "-", 1.5, 2.5]
    with pytest.raises(ProjectError, match=r"column 'x' holds text in 1\.csv, numbers in 2\.csv"):
        read(tmp_path, Dataset("*.csv", target="y"))
    (tmp_path / "1.csv").write_text("x,y\n1.5,2\nfoo,2\n")
    with pytest.raises(ProjectError, match=r"column 'x' holds text in 1\.csv, numbers in 2\.csv"):
        read(tmp_path, Dataset("*.csv", target="y", prepare=lambda rows: rows))


def test_holdout_rows_that_stand_in_training_are_counted() -> None:
    train = pd.DataFrame({"id": range(90), "x": [k / 7 for k in range(90)], "v": [np.ones(2)] * 90, "y": [0, 1] * 45})
    holdout = pd.concat([train.iloc[:9], train.iloc[:21].assign(x=-1.0)]).assign(id=range(100, 130))
    dataset = Dataset("*.csv", target="y", key="id")

    assert copied(dataset, train, holdout) == "9 of 30 holdout rows stand in training as well, and flatter the gates"
    assert copied(dataset, train, holdout.iloc[9:]) == ""
    assert copied(dataset, train.assign(x=1), holdout.assign(x=1)) == "", "alike by chance"


def test_a_very_long_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"a,b\n{'x' * 200_000},1\n")

    assert len(read(tmp_path, Dataset("*.csv", target="b"))[0]["a"][0]) == 200_000


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": "x,y\n1,2\n", "b": "x;y\n1;2\n"}, "the columns of b.csv are separated by ';'"),
        ({"a": "x,y\n1,2\n", "b": "x,z\n1,2\n"}, "b.csv has no column 'y', as a.csv has"),
        ({"a": "x,y\n1,2\n", "b": "x,y,z\n1,2,3\n"}, "b.csv has a column 'z', a.csv has not"),
        ({"a": "x,z\n1,2\n", "b": "x,y\n1,2\n", "c": "x,y\n1,2\n"}, "a.csv has no column 'y', as b.csv has"),
    ],
)
def test_of_files_that_do_not_fit_together_the_odd_one_is_named(
    tmp_path: Path, files: dict[str, str], says: str
) -> None:
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_text(content)

    with pytest.raises(ProjectError) as refused:
        read(tmp_path, Dataset("*.csv", target="y"))

    assert refused.value.message == says


@pytest.mark.parametrize(
    ("metric", "target", "message", "help"),
    [
        (
            "roc_auc",
            ["no", "yes"],
            "gate 'roc_auc' does not fit the target 'größe': a truth of 0 and 1 is needed, and it holds 'no' and 'yes'",
            "say in prepare which one is positive: return rows.assign(**{'größe': rows['größe'] == 'yes'})",
        ),
        ("f1", [1, 2], "it holds 1 and 2", "rows['größe'] == 2"),
        (
            "roc_auc_score",
            ["a", "b", "c"],
            "it holds 3 classes ('a', 'b', 'c')",
            "for several classes there are accuracy, balanced_accuracy, f1_macro, matthews_corrcoef",
        ),
        ("log_loss", [0, 1, 2], "it holds 3 classes (0, 1, 2)", "accuracy, balanced_accuracy, f1_macro"),
        ("roc_auc", [k / 7 for k in range(300)], "it holds 300 different values", "for numbers there are r2, mean"),
        ("r2", ["no", "yes"], "numbers are needed, and truths hold 'no'", "for classes there are accuracy"),
        ("accuracy", [k / 7 for k in range(300)], "there are 300 different classes", "for numbers there are r2, mean"),
    ],
)
def test_a_gate_that_does_not_fit_the_target_is_refused_with_the_metrics_that_do(
    metric: str, target: list[object], message: str, help: str
) -> None:
    rows = pd.DataFrame({"größe": target})
    gates = [Gate("mine", function=lambda truth, scores: 1.0).at_least(0.5), Gate(metric).at_most(1)]
    model = Model("m", artifact="m", data=Dataset("*.csv", target="größe"), gates=gates)

    with pytest.raises(ProjectError) as refused:
        gates_fit(model, Split(rows, rows, len(rows)))

    assert message in refused.value.message
    assert help in refused.value.help


@pytest.mark.parametrize(
    ("metric", "target"),
    [("roc_auc", [True, False]), ("f1", [0.0, 1.0]), ("accuracy", ["a", "b"]), ("f1_macro", [3, 4]), ("r2", [1, 2.5])],
)
def test_a_gate_that_fits_the_target_is_left_alone(metric: str, target: list[object]) -> None:
    rows = pd.DataFrame({"y": target})
    model = Model("m", artifact="m", data=Dataset("*.csv", target="y"), gates=[Gate(metric).at_least(0.5)])

    gates_fit(model, Split(rows, rows, len(rows)))


@pytest.mark.parametrize(
    ("texts", "newest"),
    [
        (
            ["2024-08-01T01:00:00+02:00", "2024-01-01T00:00:00+01:00", "2024-08-01T00:30:00Z"],
            "2024-08-01T00:30:00+00:00",
        ),
        (["02.03.2024", "31.01.2024", "01.04.2024"], "2024-04-01T00:00:00"),
        (["02/03/2024", "01/31/2024", "01/04/2024"], "2024-02-03T00:00:00"),
    ],
    ids=["offsets that differ", "the day first", "the month first"],
)
def test_times_are_read_as_the_whole_column_says(tmp_path: Path, texts: list[str], newest: str) -> None:
    rows = pd.DataFrame({"at": [*texts, *texts], "y": [0, 1, 0, 1, 0, 1]})

    split = prepared(tmp_path, Dataset("*.csv", target="y", time="at", holdout=0.3), rows)

    assert {moment.isoformat() for moment in split.holdout["at"]} == {newest}


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["01.02.2024", "02.01.2024"], "01.02.2024 can be read in two ways"),
        (["31.01.2024", "01.31.2024"], "in some the day comes first, in others the month"),
        (["2024-01-01T00:00:00+01:00", "2024-07-01T00:00:00+02:00", "2024-07-01T00:00:00"], "others have none"),
    ],
)
def test_times_that_can_be_read_in_two_ways_are_refused(tmp_path: Path, texts: list[str], says: str) -> None:
    rows = pd.DataFrame({"at": texts, "y": [0, 1, 0][: len(texts)]})

    with pytest.raises(ProjectError, match=says) as refused:
        prepared(tmp_path, Dataset("*.csv", target="y", time="at"), rows)

    assert "pd.to_datetime" in refused.value.help
