"""What the judge says in words: one sentence per guard with rates, counts, evidence and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from modelcd.domain.eprocess import as_odds
from modelcd.domain.policy import Canary, Guard, GuardKind
from modelcd.domain.verdict import Finding, Verdict


def reason_of(guard: Guard, verdict: Verdict, evidence: Mapping[str, Any], policy: Canary) -> str:
    """Return one sentence that says what *guard* saw and what follows from it."""
    return f"{_seen(guard, evidence)}: {_said(guard, verdict, evidence, policy)}"


def _seen(guard: Guard, evidence: Mapping[str, Any]) -> str:
    nc, nb = evidence["challenger_n"], evidence["baseline_n"]
    if not nc or not (nb or guard.limit is not None):
        return guard.name
    name, slower = guard.name if guard.limit is None else guard.name.split(" at ")[0], ""
    if guard.kind is GuardKind.METRIC:
        against = f" against {evidence['baseline_rate']:.4g} ({nb:,})" if nb else ""
        return f"{name} {evidence['challenger_rate']:.4g} (mean of {nc:,}){against}"
    if guard.kind is GuardKind.LATENCY:
        name = f"{name} p{100 * evidence['quantile']:g}" if guard.limit is None else name
        slower = f" slower than {time(evidence['threshold'])}"
    kc, kb = evidence["challenger_bad"], evidence["baseline_bad"]
    if guard.kind is GuardKind.SUCCESS and guard.higher_is_better:
        kc, kb = nc - kc, nb - kb
    against = f" against {100 * kb / nb:.1f} % ({kb:,.0f} of {nb:,})" if nb else ""
    return f"{name} {100 * kc / nc:.1f} % ({kc:,.0f} of {nc:,}){slower}{against}"


def counted(number: int, noun: str) -> str:
    """Return *number* of *noun*s as people say it: 1 column, 2,000 columns."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def time(seconds: float) -> str:
    """Return *seconds* as people say it."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def ratio(odds: float) -> str:
    """Return *odds* as people say it."""
    if odds > 1e6:
        return "above 1,000,000 : 1"
    return f"{odds:,.0f} : 1" if odds >= 2 else "even" if odds > 0.5 else "none"


def points(fraction: float) -> str:
    """Return a difference of rates in percentage points."""
    value = 100 * fraction
    return f"{value:.3g} point{'' if abs(value) == 1 else 's'}"


def _said(guard: Guard, verdict: Verdict, evidence: Mapping[str, Any], policy: Canary) -> str:
    odds, bar = evidence["odds"], evidence["bar"]
    tolerated = _tolerated(guard, evidence)
    if verdict is Verdict.ERROR:
        return f"beyond {tolerated}, and so is the champion: the environment is to blame, not this version"
    if verdict is Verdict.FAIL:
        jointly = "" if odds >= bar else ", reached together with other guards"
        worse = f"worse{_by(guard, evidence, policy)}, {tolerated} tolerated"
        what = worse if guard.limit is None else f"beyond {tolerated}"
        return f"{what}; evidence {ratio(odds)}, the bar was {ratio(bar)}{jointly}"
    if verdict is Verdict.PASS:
        return f"{_certified(guard, evidence, tolerated)} ({100 * (1 - policy.beta):g} %)"
    more = _more(evidence)
    if not evidence["challenger_n"] or not (evidence["baseline_n"] or guard.limit is not None):
        return f"not enough {evidence['unit']} to compare; {more}"
    if odds >= 0.1 * bar and not evidence["beyond_tolerance"]:
        return f"worse, but within what is tolerated ({tolerated}); {more}"
    if odds >= 0.1 * bar:
        return f"looks worse; evidence {ratio(odds)}, the bar is {ratio(bar)}; {more}"
    return f"not enough {evidence['unit']} to say; {more}"


def _by(guard: Guard, evidence: Mapping[str, Any], policy: Canary) -> str:
    if guard.kind is GuardKind.LATENCY or evidence["excess"] is None:
        return ""
    if evidence["interval"] is None:
        return f" by {_amount(guard, evidence['excess'])}"
    low, high = evidence["interval"]
    limits = f"{100 * (1 - policy.alpha):g} % limits {_plain(guard, low)} to {_plain(guard, high)}"
    return f" by {_amount(guard, evidence['excess'])} ({limits})"


def _amount(guard: Guard, value: float) -> str:
    return f"{value:.4g}" if guard.kind is GuardKind.METRIC else points(value)


def _plain(guard: Guard, value: float) -> str:
    return f"{value:+.3g}" if guard.kind is GuardKind.METRIC else f"{100 * value:+.1f}"


def _tolerated(guard: Guard, evidence: Mapping[str, Any]) -> str:
    if guard.limit is None:
        if guard.kind is not GuardKind.LATENCY:
            return _amount(guard, evidence["tolerance"])
        return f"{evidence['tolerance']:.2f} times the champion's p{100 * evidence['quantile']:g}"
    if guard.kind is GuardKind.LATENCY:
        return f"the limit, {time(guard.limit)} for p{100 * guard.quantile:g}"
    return (
        f"the limit of {guard.limit:g}" if guard.kind is GuardKind.METRIC else f"the limit of {100 * guard.limit:g} %"
    )


def _certified(guard: Guard, evidence: Mapping[str, Any], tolerated: str) -> str:
    if guard.limit is not None:
        return f"within {tolerated}"
    if guard.kind is not GuardKind.LATENCY:
        return f"no worse by {tolerated}"
    if evidence["slack"]:
        return f"less than {points(evidence['slack'])} more are slower than {evidence['tolerance']:.2f} times that"
    return f"not slower by {evidence['tolerance']:.2f} times"


def _more(evidence: Mapping[str, Any]) -> str:
    needs, unit, back = evidence["needs"], evidence["unit"], evidence["back"]
    if back is not None and (not needs or back < needs):
        return f"about {about(back):,} more {unit} like these would send it back"
    if not needs:
        return f"no number of {unit} in sight that would settle it"
    return f"needs about {about(needs):,} more {unit} (could be {about(evidence['unlucky']):,})"


def about(count: int) -> int:
    """Round up to two digits: a forecast has no more."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


def conclude(findings: Sequence[Finding], total: float, alpha: float, what: str) -> tuple[Verdict, str]:
    """Return the verdict of all *findings* and its reason; *total* is the logarithm of all evidence against.

    *what* is what the findings are of: a guard, or a check.  No findings at all pass nothing.
    """
    for verdict in (Verdict.FAIL, Verdict.ERROR):
        reasons = [finding.reason for finding in findings if finding.verdict is verdict]
        if reasons:
            return verdict, "; ".join(reasons)
    if not findings:
        return Verdict.INCONCLUSIVE, f"no {what} watches this release, so nothing can be certified"
    open_ones = [finding.reason for finding in findings if finding.verdict is not Verdict.PASS]
    if open_ones:
        return Verdict.INCONCLUSIVE, "; ".join(open_ones)
    if total >= log(0.1 / alpha):
        odds = ratio(as_odds(total))
        return Verdict.INCONCLUSIVE, f"every {what} is certified, but evidence of {odds} speaks against it: watching on"
    return Verdict.PASS, "; ".join(finding.reason for finding in findings)
