"""Data files as they arrive: what can be read, and what is refused with its reason."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from modelcd import Dataset
from modelcd.errors import ProjectError
from modelcd.project.data import read


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
        (b'"' + b"x" * 200_000 + b'",b\n1,2\n', "a.csv cannot be read: field larger"),
    ],
    ids=["a column twice", "another encoding", "empty", "no end of a quote"],
)
def test_a_csv_that_cannot_be_trusted_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    with pytest.raises(ProjectError, match=message) as refused:
        read(tmp_path, Dataset("*.csv", target="b"))

    assert refused.value.help
