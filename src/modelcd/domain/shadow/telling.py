"""The sentences that a shadow's findings are told in: counts first, then what they show and what is missing.

They are made from the evidence of a finding alone, so that a reader of the journal gets the very same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelcd.domain.shadow.pairs import Pairing
from modelcd.domain.telling import about, points, ratio
from modelcd.domain.verdict import Verdict


def seen(check: str, own: Mapping[str, Any]) -> str:
    """Return what was counted for *check*."""
    n, value = own["n"], own["excess"]
    if not n:
        return check
    if check == "success":
        return (
            f"success {100 - 100 * own['challenger_rate']:.1f} % ({n - own['challenger_bad']:,} of {n:,}) against "
            f"{100 - 100 * own['baseline_rate']:.1f} % ({n - own['baseline_bad']:,}) on the same requests "
            f"(only the champion right {own['lost']:,} times, only the challenger {own['won']:,})"
        )
    if check == "disagreement":
        ways = ""
        if own["challenger_yes"] is not None:
            ways = (
                f", only the challenger says yes in {own['challenger_yes']:,}, the champion in {own['champion_yes']:,}"
            )
        return f"decisions differ on {100 * value:.1f} % ({round(n * value):,} of {n:,} requests{ways})"
    if check == "shift":
        return f"scores {_off(value, 'higher', 'lower')} than the champion's on average ({n:,} requests)"
    return (
        f"labels are {_off(value, 'above', 'below')} the challenger's scores on average, "
        f"{_off(own['champion_off'], 'above', 'below')} the champion's ({n:,} labels)"
    )


def _off(value: float, more: str, less: str) -> str:
    return f"{abs(value):.3g} {more if value >= 0 else less}"


def seen_parts(title: str, verdict: Verdict, told: Sequence[Mapping[str, Any]]) -> str:
    """Return the slices (or bands of scores) of *title* that the verdict is about."""
    if verdict is Verdict.PASS:
        return f"{title}, each of {sum(one['required'] for one in told)} parts"
    failed = verdict is Verdict.FAIL
    wanted = [one for one in told if (one["blamed"] if failed else one["required"] and not one["certified"])]
    named = ", ".join(_part(one) for one in wanted[:4])
    return f"{title} {named}{f' and {len(wanted) - 4} more' if len(wanted) > 4 else ''}"


def _part(one: Mapping[str, Any]) -> str:
    if not one["n"]:
        return f"{one['part']} has no label yet"
    if "champion_off" in one:
        return f"{one['part']}: labels {_off(one['excess'], 'above', 'below')} ({one['n']:,})"
    labels = f"{one['n']:,} label{'' if one['n'] == 1 else 's'}"
    return f"{one['part']} {_off(100 * one['excess'], 'points worse', 'points better')} ({labels})"


_PASSED = {
    "success": "no worse by {} ({})",
    "slices": "no worse by {} ({})",
    "disagreement": "less than the tolerated {} ({})",
    "shift": "within {} either way ({})",
    "calibration": "within {} either way ({})",
}


def said(policy: Pairing, check: str, verdict: Verdict, own: Mapping[str, Any]) -> str:
    """Return what the counts of *check* show, and what it would take to show more."""
    if not own["decides"]:
        limits = own["interval"]
        known = f"; {100 * (1 - policy.alpha):g} % interval {limits[0]:.3g} to {limits[1]:.3g}" if limits else ""
        return f"reported only, no tolerance was asked for{known}"
    odds, bar, compared = own["odds"], own["bar"], check in ("success", "slices")
    tolerated = _tolerated(check, own["tolerance"])
    if verdict is Verdict.FAIL:
        jointly = "" if odds >= bar else ", reached together with other checks"
        what = "worse" if compared else f"more than the tolerated {tolerated}"
        return f"{what}{_lately(own)}; evidence {ratio(odds)}, the bar was {ratio(bar)}{jointly}"
    if verdict is Verdict.PASS:
        return _PASSED[check].format(tolerated, f"{100 * (1 - policy.beta):g} %")
    if own.get("surroundings"):
        return "the champion is off by more than is tolerated, too: look at the labels and the world, not at a version"
    unit, more = own["unit"], own["needs"]
    if any(one["required"] and not one["n"] for one in own.get("parts", ())):
        return f"each part needs {unit} of its own"
    wait = (
        f"needs about {about(more):,} more {unit} (could be {about(own['unlucky']):,})"
        if more
        else f"no number of {unit} in sight that would settle it"
    )
    if not own["n"]:
        alone = ", and how often both decide alike does not say who is right" if own.get("served") else ""
        return f"no {unit} yet{alone}; {wait}"
    if odds >= 0.1 * bar and compared and own["excess"] < own["tolerance"]:
        return f"worse, but within the tolerance; {wait}"
    if odds >= 0.1 * bar:
        return f"looks worse; evidence {ratio(odds)}, the bar is {ratio(bar)}; {wait}"
    return f"not enough {unit} to say; {wait}"


def _lately(own: Mapping[str, Any]) -> str:
    """Say what the evidence is about where that is not all that was counted: a version that broke on the way."""
    since, n = own["since"], own["n"]
    if own.get("parts") or since["n"] > 0.8 * n:
        return ""
    return f" in the last {since['n']:,} ({since['excess']:+.3g} on average)"


def _tolerated(check: str, tolerance: float) -> str:
    if check in ("success", "slices"):
        return points(tolerance)
    return f"{100 * tolerance:.3g} %" if check == "disagreement" else f"{tolerance:.3g}"
