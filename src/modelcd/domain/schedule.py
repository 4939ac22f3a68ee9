"""When a model is retrained by itself: a cron line in a time zone, and the moments that it means.

Prefect starts the runs.  This reads the same line, so that a mistake is found when `pipeline.py` is read, and so that
the next run can be told from the journal alone.  What cron dialects read in different ways is refused.
"""

from __future__ import annotations

import difflib
import reprlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

EXAMPLE = '"0 5 * * *" is every day at five, "30 6 * * mon" Mondays at half past six'


@dataclass(frozen=True)
class Retrain:
    """When to look for new data and, if there are some, to deliver: `Model(retrain=Retrain("0 5 * * *"))`.

    It takes effect with the next `modelcd deliver` by a person, and ends with the first one without it.

    Args:
        cron: Minute, hour, day of the month, month, day of the week.
        timezone: The time zone in which that is meant, by its IANA name; summer time is kept.

    Raises:
        ValueError: It is no such line, names no moment that ever comes, or there is no such time zone.

    Examples:
        >>> from modelcd import Retrain
        >>> Retrain("0 5 * * *", timezone="Europe/Berlin").timezone
        'Europe/Berlin'
    """

    cron: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        _check_timezone(self.timezone)
        _check_cron(self.cron)
        try:
            self.next(datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")))
        except StopIteration:
            raise ValueError(f"cron={_brief(self.cron)} names a day that never comes; {EXAMPLE}") from None

    def next(self, after: datetime) -> datetime:
        """Return the first moment behind *after*, in the schedule's own time zone.

        Args:
            after: A moment with a time zone, whichever it is.

        Examples:
            >>> from datetime import UTC, datetime
            >>> from modelcd import Retrain
            >>> Retrain("0 5 * * *", timezone="Europe/Berlin").next(datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
            '2026-01-01T05:00:00+01:00'
        """
        from cronsim import CronSim

        return next(CronSim(self.cron, after.astimezone(ZoneInfo(self.timezone))))


_brief = reprlib.repr
"""What was written, as far as it fits into a sentence."""


def _check_timezone(name: Any) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, TypeError, OSError, KeyError):
        known = available_timezones()
        near = difflib.get_close_matches(str(name), known, n=1)
        lower = {zone.lower(): zone for zone in known}
        meant = lower.get(str(name).lower()) or (near[0] if near else "")
        advice = f"did you mean {meant!r}?" if meant else 'write an IANA name, like "Europe/Berlin", or "UTC"'
        raise ValueError(f"no time zone is named {_brief(name)}; {advice}") from None


def _check_cron(cron: Any) -> None:
    from cronsim import CronSim, CronSimError

    if not isinstance(cron, str) or len(fields := cron.split()) != 5:
        raise ValueError(f"cron has five fields (minute, hour, day, month, weekday), got {_brief(cron)}; {EXAMPLE}")
    if set(cron.upper()) & set("#?") or "L" in (*fields[2].upper(), fields[4].upper()[-1:]):
        raise ValueError(f"cron={_brief(cron)} has signs that not every cron knows; {EXAMPLE}")
    if not fields[2].startswith("*") and not fields[4].startswith("*"):
        raise ValueError(f"cron={_brief(cron)} gives a day of the month and a weekday; give one of the two")
    if any(field.startswith("*/") for field in (fields[2], fields[4])) and "*" not in (fields[2], fields[4]):
        raise ValueError(f"cron={_brief(cron)} gives a day of the month and a weekday; give one of the two")
    try:
        CronSim(cron, datetime(2024, 1, 1))
    except CronSimError as error:
        raise ValueError(f"cron={_brief(cron)} cannot be read: {error}; {EXAMPLE}") from None
