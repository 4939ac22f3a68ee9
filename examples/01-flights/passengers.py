"""Plays the world: asks production about the flights of a month as they leave, and tells it the truth of each.

    python passengers.py 3            March, 20 flights a second
    python passengers.py 3 --first 500

Flights that the model learned from must not come again: take a month later than its data.
"""

import argparse
import json
import time
import urllib.request

from get_data import month

import modelcd

MODEL = "flight-delay"


def post(url, content, **headers):
    """Send *content* as JSON and return the answer's headers."""
    body = json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers


def fly(number, first, rate):
    """Ask about the *first* flights of month *number*, *rate* a second; return how many there were."""
    control = modelcd.connect()
    endpoint = control.url(MODEL)
    feedback = f"{control.services()['control']['url']}/v1/models/{MODEL}/feedback"
    credential = f"Bearer {control.workspace.token}"
    flights = month(number).head(first)
    rows = json.loads(flights.drop(columns=["late"]).to_json(orient="records", date_format="iso"))
    for row, late in zip(rows, flights["late"], strict=True):
        prediction = post(f"{endpoint}/predict", {"rows": [row]})["X-Prediction-Id"]
        post(feedback, {"labels": [{"id": prediction, "label": bool(late)}]}, Authorization=credential)
        time.sleep(1 / rate)
    return len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("month", type=int, help="1 is January")
    parser.add_argument("--first", type=int, default=100_000, help="how many flights, from the first of the month on")
    parser.add_argument("--rate", type=float, default=20.0, help="flights a second")
    given = parser.parse_args()
    print(fly(given.month, given.first, given.rate), "flights")
