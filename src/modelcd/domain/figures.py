"""The numbers of a finding in words, and evidence as a line of blocks: what every page says of them in the same way.

Excesses are positive when the challenger is worse, whatever the guard counts.  What a kind of guard does not have (a
numeric metric has no rate, an absolute limit no champion to compare with) is left to the finding's own sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, log
from typing import Any

from modelcd.domain.policy import GuardKind
from modelcd.domain.telling import points as said_points
from modelcd.domain.telling import time

BLOCKS = "▁▂▃▄▅▆▇█"

LEGEND = "▁ is 1 : 1 or less, █ the bar (logarithmic), from the first look to the last"

_BAD = {GuardKind.ERRORS: "failed", GuardKind.SUCCESS: "bad"}


def ratio(odds: float) -> str:
    """Say *odds* as people do: "240 : 1"; below even there is nothing to say."""
    if odds > 1e6:
        return "above 1,000,000 : 1"
    if odds < 1.05:
        return "none"
    return f"{odds:,.0f} : 1" if odds >= 9.95 else f"{odds:.1f} : 1"


def chance(probability: float) -> str:
    """Say a *probability* with two digits."""
    return f"{probability:.2g}" if probability >= 1e-6 else "below 0.000001"


def percent(rate: float) -> str:
    """Say a *rate* in per cent; small ones with one digit more."""
    return f"{100 * rate:.1f} %" if rate >= 0.01 or rate == 0 else f"{100 * rate:.2f} %"


def points(fraction: float) -> str:
    """Say a difference of rates in percentage points, with its sign."""
    said = f"{100 * fraction:+.1f}"
    return "0.0" if said in ("+0.0", "-0.0") else said


def rates(kind: GuardKind, evidence: Mapping[str, Any], version: int, champion: int | None) -> str:
    """Say which part of each version's outcomes was bad; empty where there is nothing to compare yet."""
    new, old = evidence.get("challenger_rate"), evidence.get("baseline_rate")
    bad = f"slower than {_time(evidence)}" if kind is GuardKind.LATENCY else _BAD.get(kind)
    if new is None or old is None or bad is None or champion is None or evidence.get("limit") is not None:
        return ""
    what = "" if evidence["unit"] == "requests" else f" {evidence['unit']}"
    arms = ((version, new, "challenger"), (champion, old, "baseline"))
    told = (
        f"version {number} {percent(rate)} ({_count(evidence[f'{arm}_bad'])} of {evidence[f'{arm}_n']:,.0f}{what})"
        for number, rate, arm in arms
    )
    return f"{bad}: {', '.join(told)}"


def excess(kind: GuardKind, evidence: Mapping[str, Any], alpha: float) -> str:
    """Say the estimated excess of bad outcomes with its limits, each of which holds at all looks with 1 - *alpha*.

    It is compared within each step, so it can differ from the difference of the totals.

    Rates in percentage points, numbers of a metric as they are.  Empty before any data.
    """
    value, limits = evidence.get("excess"), evidence.get("interval")
    if value is None or evidence.get("limit") is not None:
        return ""
    rate = kind in (*_BAD, GuardKind.LATENCY)
    said = f"excess {points(value)} points" if rate else f"excess {value:+.3g}"
    if limits is None:
        return f"{said} (too few bad outcomes for an interval)"
    low, high = (points(limit) if rate else f"{limit:+.3g}" for limit in limits)
    return f"{said} (step by step), {100 * (1 - alpha):g} % limits {low} to {high}"


def tolerance(kind: GuardKind, evidence: Mapping[str, Any]) -> str:
    """Say what is tolerated at the present step; empty for a guard that does not say."""
    allowed = evidence.get("tolerance")
    if allowed is None or evidence.get("limit") is not None:
        return ""
    if kind is GuardKind.LATENCY:
        slack, grace = evidence.get("slack"), evidence.get("grace") or 0.0
        why = (
            f" ({time(grace)} are tolerated whatever the ratio)" if allowed > 1.01 * evidence.get("ratio", inf) else ""
        )
        more = f"; beyond that, up to {said_points(slack)} more of the requests" if slack else ""
        return f"tolerated: {allowed:.2f} times slower{why}{more}" if slack is not None else ""
    return f"tolerated: {said_points(allowed)} more" if kind in _BAD else f"tolerated: {allowed:g}"


def _count(outcomes: float) -> str:
    """Say how many *outcomes*; those on a latency threshold count in part."""
    return f"{outcomes:,.1f}".removesuffix(".0")


def _time(evidence: Mapping[str, Any]) -> str:
    seconds = evidence["threshold"]
    if seconds is None:
        return f"p{100 * evidence['quantile']:g}"
    return f"{time(seconds)} (p{100 * evidence['quantile']:g})"


def sparkline(evidence: Sequence[tuple[float, float]], bar: float, width: int = 32) -> str:
    """Draw odds over time between 1 and *bar*: a full block where the bar was reached, nowhere else.

    *evidence* are (seconds, odds) in order of time.  Each block shows the most that there was in its stretch of time,
    or, where nobody looked, what there was before.
    """
    if not evidence or bar <= 1:
        return ""
    first, last = evidence[0][0], evidence[-1][0]
    width = min(width, len(evidence)) if last > first else 1
    cells: list[float | None] = [None] * width
    for seconds, odds in evidence:
        place = min(width - 1, int(width * (seconds - first) / (last - first))) if last > first else 0
        cells[place] = max(odds, cells[place] or 0.0)
    drawn, before = "", 1.0
    for cell in cells:
        before = cell if cell is not None else before
        part = log(max(1.0, before)) / log(bar)
        drawn += BLOCKS[-1] if part >= 1 else BLOCKS[int(part * (len(BLOCKS) - 1))]
    return drawn
