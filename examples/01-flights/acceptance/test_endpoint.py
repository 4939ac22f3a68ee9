"""What any version must do where it is staged; the address is in MODELCD_URL."""

import json
import os
import urllib.error
import urllib.request

FLIGHT = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "IAH",
    "distance": 1400,
    "sched_dep_time": 515,
    "sched_arr_time": 819,
    "dep_delay": 2.0,
    "temp": 39.0,
    "dewp": 28.0,
    "humid": 64.4,
    "wind_dir": 260.0,
    "wind_speed": 12.7,
    "precip": 0.0,
    "pressure": 1012.0,
    "visib": 10.0,
}


def ask(*rows):
    """Return status and answer of one request with these rows."""
    body = json.dumps({"rows": rows}).encode()
    address = os.environ["MODELCD_URL"].rstrip("/") + "/predict"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}


def test_a_flight_that_left_late_is_more_likely_to_arrive_late():
    _, answer = ask({**FLIGHT, "dep_delay": 90.0}, {**FLIGHT, "dep_delay": -5.0})

    delayed, punctual = answer["scores"]
    assert delayed > punctual


def test_scores_are_chances():
    _, answer = ask(FLIGHT)

    assert all(0 <= score <= 1 for score in answer["scores"])


def test_the_same_flight_gets_the_same_score():
    assert ask(FLIGHT)[1]["scores"] == ask(FLIGHT)[1]["scores"]


def test_an_unknown_carrier_is_scored_all_the_same():
    status, _ = ask({**FLIGHT, "carrier": "ZZ"})

    assert status == 200


def test_a_missing_column_is_refused():
    status, _ = ask({name: value for name, value in FLIGHT.items() if name != "dep_delay"})

    assert 400 <= status < 500
