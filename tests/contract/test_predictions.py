"""Prediction logs: what all keep, and what the one over spool files keeps of what servers write."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from modelcd.adapters.memory import MemoryPredictions, Prediction
from modelcd.adapters.predictions import SpoolPredictions
from modelcd.errors import PredictionsError
from modelcd.ports import Label
from modelcd.testing.predictions import ENDPOINT, PredictionsContract, prediction


def line(of: Prediction) -> str:
    """What a model server writes for a row."""
    return json.dumps({"at": "2026-01-01T00:00:00Z", **asdict(of)}) + "\n"


def spool(log: SpoolPredictions, text: str, *, file: str = "server-1.jsonl", endpoint: str = ENDPOINT) -> Path:
    """Append *text* to a spool file as a model server does."""
    path = log.spool(endpoint) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(text)
    return path


class TestMemoryPredictions(PredictionsContract):
    @pytest.fixture
    def predictions(self) -> MemoryPredictions:
        return MemoryPredictions()

    @pytest.fixture
    def served(self, predictions: MemoryPredictions) -> Callable[[str, Sequence[Prediction]], None]:
        return predictions.log


class TestSpoolPredictions(PredictionsContract):
    @pytest.fixture
    def predictions(self, tmp_path: Path) -> SpoolPredictions:
        return SpoolPredictions(tmp_path / "predictions")

    @pytest.fixture
    def served(self, predictions: SpoolPredictions) -> Callable[[str, Sequence[Prediction]], None]:
        def serve(endpoint: str, logged: Iterable[Prediction]) -> None:
            spool(predictions, "".join(map(line, logged)), endpoint=endpoint)

        return serve


@pytest.fixture
def log(tmp_path: Path) -> SpoolPredictions:
    return SpoolPredictions(tmp_path)


def test_constructing_makes_no_file(tmp_path: Path) -> None:
    SpoolPredictions(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_left_for_later(log: SpoolPredictions) -> None:
    spool(log, line(prediction("a")) + line(prediction("b"))[:20])

    assert dict(log.counts(ENDPOINT)) == {"predictions": 1, "labelled": 0, "waiting": 0, "malformed": 0}


def test_a_torn_line_is_read_once_it_is_whole(log: SpoolPredictions) -> None:
    text = line(prediction("a"))
    spool(log, text[:20])
    log.counts(ENDPOINT)
    spool(log, text[20:])

    assert log.counts(ENDPOINT)["predictions"] == 1


@pytest.mark.parametrize(
    "bad",
    [
        "no json\n",
        "[]\n",
        "{}\n",
        "\n",
        line(prediction("")),
        line(prediction("a")).replace('"main"', '"sideways"'),
        line(prediction("a")).replace('"id": "a"', '"id": 7'),
        line(prediction("a")).replace('"version": 1', '"version": "one"'),
        "\udcff\udcfe\n",
    ],
)
def test_a_line_that_is_no_prediction_is_counted_and_left_out(log: SpoolPredictions, bad: str) -> None:
    path = spool(log, line(prediction("x")))
    path.write_bytes(path.read_bytes() + bad.encode(errors="surrogateescape") + line(prediction("y")).encode())

    counts = log.counts(ENDPOINT)
    assert (counts["predictions"], counts["malformed"]) == (2, 1)


def test_a_malformed_line_is_counted_once(log: SpoolPredictions) -> None:
    spool(log, "no json\n")
    log.counts(ENDPOINT)

    assert log.counts(ENDPOINT)["malformed"] == 1


def test_each_server_has_a_file_of_its_own(log: SpoolPredictions) -> None:
    spool(log, line(prediction("a")), file="one.jsonl")
    spool(log, line(prediction("b")), file="two.jsonl")

    assert log.counts(ENDPOINT)["predictions"] == 2


def test_other_files_are_no_spools(log: SpoolPredictions) -> None:
    spool(log, line(prediction("a")), file="notes.txt")

    assert log.counts(ENDPOINT)["predictions"] == 0


def test_a_file_that_began_anew_is_read_from_its_beginning(log: SpoolPredictions) -> None:
    path = spool(log, line(prediction("a")) + line(prediction("b")))
    log.counts(ENDPOINT)
    path.write_text(line(prediction("c")))

    assert log.counts(ENDPOINT)["predictions"] == 3


def test_what_was_read_is_remembered_without_the_file(log: SpoolPredictions, tmp_path: Path) -> None:
    path = spool(log, line(prediction("a")))
    log.label(ENDPOINT, [Label("a", 1)])
    path.unlink()

    assert len(SpoolPredictions(tmp_path).labelled(ENDPOINT)) == 1


def test_a_file_larger_than_a_chunk_is_read_whole(log: SpoolPredictions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelcd.adapters.predictions.CHUNK", 300)
    spool(log, "".join(line(prediction(str(n))) for n in range(50)))

    assert log.counts(ENDPOINT)["predictions"] == 50


def test_processes_that_read_at_once_count_each_line_once(log: SpoolPredictions, tmp_path: Path) -> None:
    spool(log, "".join(line(prediction(str(n))) for n in range(5000)))
    code = (
        "import sys; from pathlib import Path; from modelcd.adapters.predictions import SpoolPredictions; "
        f"from modelcd.ports import Label; log = SpoolPredictions(Path(sys.argv[1])); "
        f"log.label({ENDPOINT!r}, [Label(str(n), 1) for n in range(5000)])"
    )
    readers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    ended = [reader.wait(timeout=60) for reader in readers]

    counts = log.counts(ENDPOINT)
    assert (ended, counts["predictions"], counts["labelled"]) == ([0, 0], 5000, 5000)


def test_a_spool_that_cannot_be_read_is_an_error(log: SpoolPredictions) -> None:
    (log.spool(ENDPOINT) / "odd.jsonl").mkdir(parents=True)

    with pytest.raises(PredictionsError, match="cannot be read"):
        log.counts(ENDPOINT)


def test_twenty_thousand_predictions_meet_their_labels_in_seconds(log: SpoolPredictions) -> None:
    spool(log, "".join(line(prediction(f"{n:032x}")) for n in range(20_000)))
    labels = [Label(f"{n:032x}", n % 2) for n in range(20_000)]

    began = time.process_time()
    log.label(ENDPOINT, labels)
    pairs = log.labelled(ENDPOINT)
    took = time.process_time() - began

    assert len(pairs) == 20_000
    assert took < 5
