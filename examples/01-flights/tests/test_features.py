import numpy as np
import pandas as pd
import pytest
from features import CATEGORIES, CLOCKS, NUMBERS, FlightFeatures, minutes

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
    "wind_speed": 12.7,
    "precip": 0.0,
    "pressure": 1012.0,
    "visib": 10.0,
}


@pytest.fixture
def flights():
    return pd.DataFrame([FLIGHT, {**FLIGHT, "carrier": "AA", "dest": "MIA"}])


@pytest.mark.parametrize(("clock", "expected"), [(0, 0), (515, 315), (2359, 1439)])
def test_a_clock_time_becomes_minutes_since_midnight(clock, expected):
    assert minutes(np.array([clock])) == [expected]


def test_every_row_becomes_one_row_of_numbers(flights):
    numbers = FlightFeatures().fit_transform(flights)

    assert numbers.shape == (2, len(CATEGORIES + CLOCKS + NUMBERS))


def test_a_carrier_never_seen_has_the_code_minus_one(flights):
    unknown = FlightFeatures().fit(flights).transform(flights.assign(carrier="ZZ"))

    assert set(unknown[:, 0]) == {-1}


def test_a_missing_pressure_stays_missing(flights):
    numbers = FlightFeatures().fit_transform(flights.assign(pressure=None))

    assert np.isnan(numbers).any(axis=1).all()


def test_one_hot_marks_each_category_once(flights):
    numbers = FlightFeatures(one_hot=True).fit_transform(flights)

    assert numbers[:, :2].tolist() == [[0, 1], [1, 0]]


def test_the_arrival_is_no_input():
    assert not {"arr_delay", "arr_time", "air_time", "late"} & set(CATEGORIES + CLOCKS + NUMBERS)
