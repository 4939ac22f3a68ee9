"""Run against the version in staging, before it may go to production."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

URL = os.environ.get("MODELCD_URL", "")


def ask(body):
    request = urllib.request.Request(
        f"{URL}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_a_row_is_scored():
    row = json.loads((Path(__file__).parents[1] / "row.json").read_text(encoding="utf-8"))

    (score,) = ask({"rows": [row]})["scores"]

    assert SCORE_FITS


def test_a_row_without_columns_is_refused_with_a_reason():
    try:
        ask({"rows": [{}]})
    except urllib.error.HTTPError as error:
        assert 400 <= error.code < 500
        assert json.load(error)["error"]
    else:
        raise AssertionError("an empty row was scored")
