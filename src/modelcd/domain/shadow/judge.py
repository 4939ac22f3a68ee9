"""The judge of a shadow: which of two versions is better, from what both answered to the same requests.

No user sees the challenger, and each request is its own control: where both are right or both are wrong there is
nothing to learn, so a few hundred labels show what takes a canary tens of thousands of requests.  Checks with a
tolerance decide: success (labelled pairs, over all and per slice), disagreement and score shift (every pair),
calibration (labels and probabilities).  A check without one is reported with its interval and decides nothing.

The evidence against the challenger is averaged over the checks that decide (and inside a check over slices and
directions), certificates are granted to each check in its own time; so a challenger within every tolerance is ever
failed with a chance of at most alpha (for success: one no worse on the same requests), and one beyond a tolerance is
ever passed with a chance of at most beta, however often one looks (`means`; judge, 4.3).

The trade-off: what is claimed is about the requests that were answered by both and, for success and calibration, about
those with a label.  Whether these stand for all is a question no formula answers; that labels do not depend on what was
answered is checked (see `docs/shadow.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf, log
from typing import Any, NamedTuple

from modelcd.domain.eprocess import as_odds, log_sum
from modelcd.domain.judge import Judgement
from modelcd.domain.plain import from_plain, to_plain
from modelcd.domain.series import UNLUCKY
from modelcd.domain.shadow.means import (
    BOUNDED,
    NOTHING,
    RATE,
    SIGNED,
    Span,
    Sums,
    Tally,
    interval,
    log_mean,
    log_odds,
    needs,
)
from modelcd.domain.shadow.pairs import OTHER, SELECTIONS, Batch, Pairing, Reading, differing, kinds, read, selection
from modelcd.domain.shadow.telling import said, seen, seen_parts
from modelcd.domain.telling import conclude
from modelcd.domain.verdict import Finding, Verdict

USUAL_N = 50
"""How many pairs of a usual challenger go into each forecast."""

SELECTION_LEVEL = 0.001
"""The chance that labels which come to all pairs alike are ever called selected."""


class Part(NamedTuple):
    """One mean that is watched.

    Evidence against the challenger is evidence that it is above `null` (with `both`: or below -`null`), a certificate
    that it is below `tolerance` (and above minus it).  `required` certificates are needed for a pass; a part without
    tolerance is reported only.  `place` counts the parts of one check.
    """

    check: str
    name: str
    span: Span
    null: float = 0.0
    tolerance: float | None = None
    both: bool = False
    late: bool = True
    required: bool = True
    place: int = 0

    def certificates(self, tally: Tally) -> list[float]:
        """Return the logarithms of the evidence that the mean is within the tolerance, per direction."""
        assert self.tolerance is not None
        upper = log_odds(tally.seen, self.span, self.tolerance, above=False)
        return [upper, log_odds(tally.seen, self.span, -self.tolerance, above=True)] if self.both else [upper]

    def against(self, tally: Tally) -> tuple[float, Sums]:
        """Return the evidence (a logarithm) that the mean is beyond `null`, and what was seen since it began."""
        sides = [tally.evidence(self.span, self.null, above=True)]
        if self.both:
            sides.append(tally.evidence(self.span, -self.null, above=False))
        return log_mean([odds for odds, _ in sides]), max(sides)[1]


@dataclass(frozen=True)
class Paired:
    """All that was learned so far; a value, `update` returns a new one.

    `tallies` and `granted` belong to `parts(policy)`, one each.  `served` and `labelled` sum up decisions: +1 where
    only the challenger says yes, -1 where only the champion does.  `champion_bad` labelled answers of the champion were
    wrong, `champion_off` sums up its label minus score per band.  `selection` is the wealth (logarithms)
    of bets that labels come to some pairs rather than to others, `foreign` the versions of the last batch if others.
    """

    policy: Pairing
    tallies: tuple[Tally, ...]
    granted: tuple[tuple[bool, ...], ...]
    served: Sums = NOTHING
    labelled: Sums = NOTHING
    champion_bad: int = 0
    champion_off: tuple[Sums, ...] = (NOTHING,)
    selection: tuple[float, ...] = (0.0,) * (2 * len(SELECTIONS))
    foreign: tuple[int, int] | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return JSON values; floats keep every digit, so that the verdict is the same after reading."""
        return {
            "policy": to_plain(self.policy),
            "tallies": [tally.to_plain() for tally in self.tallies],
            "granted": [[int(side) for side in sides] for sides in self.granted],
            "served": list(self.served),
            "labelled": list(self.labelled),
            "champion_bad": self.champion_bad,
            "champion_off": [list(band) for band in self.champion_off],
            "selection": list(self.selection),
            "foreign": list(self.foreign) if self.foreign else None,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Paired:
        """Read what `to_plain` wrote."""
        foreign = plain["foreign"]
        return cls(
            policy=from_plain(Pairing, plain["policy"]),
            tallies=tuple(Tally.from_plain(tally) for tally in plain["tallies"]),
            granted=tuple(tuple(bool(side) for side in sides) for sides in plain["granted"]),
            served=Sums(*plain["served"]),
            labelled=Sums(*plain["labelled"]),
            champion_bad=plain["champion_bad"],
            champion_off=tuple(Sums(*band) for band in plain["champion_off"]),
            selection=tuple(plain["selection"]),
            foreign=(foreign[0], foreign[1]) if foreign else None,
        )


def parts(policy: Pairing) -> tuple[Part, ...]:
    """Return the means that are watched under *policy*, in the order of `Paired.tallies`."""
    scale = policy.high - policy.low
    shift = None if policy.shift is None else policy.shift / scale
    found = [
        Part("success", "success", SIGNED, 0.0, policy.success),
        Part("disagreement", "disagreement", RATE, policy.disagreement or 0.0, policy.disagreement),
    ]
    if policy.threshold is not None:
        found.append(Part("shift", "shift", BOUNDED, shift or 0.0, shift, both=True))
    if policy.probabilities:
        off = policy.calibration
        edges = (0, *policy.bands, 1)
        for k, (low, high) in enumerate(pairwise(edges)):
            name, late = f"{low:g} to {high:g}", not policy.bands
            found.append(Part("calibration", name, BOUNDED, off or 0.0, off, both=True, late=late, place=k))
    for k, value in enumerate(policy.slices):
        required, margin = value != OTHER, policy.slice_margin
        found.append(Part("slices", value, SIGNED, 0.0, margin, late=False, required=required, place=k))
    return tuple(found)


def start(policy: Pairing) -> Paired:
    """Return a judge that has seen nothing."""
    watched = parts(policy)
    granted = tuple((False,) * (1 + part.both) for part in watched)
    return Paired(policy, (Tally(),) * len(watched), granted, champion_off=(NOTHING,) * (len(policy.bands) + 1))


def update(state: Paired, batch: Batch) -> Paired:
    """Return the judge after *batch*.

    Pairs of other versions are not counted, and the verdict is an error until a batch of the right ones comes.  Raises
    `ValueError`, and nothing is counted, for replayed traffic and for pairs that cannot be: columns of different
    lengths, scores that are no numbers or outside their range, labels other than 0 and 1, a missing slice, more
    labelled than served pairs.
    """
    policy = state.policy
    if batch.replayed:
        raise ValueError("replayed traffic is no evidence about live requests; compare replays by `modelcd replay`")
    if tuple(batch.versions) != (policy.champion, policy.challenger):
        return replace(state, foreign=(batch.versions[0], batch.versions[1]))
    reading = read(policy, batch)
    served = state.served.plus(reading.served)
    # Labels are drawn from the pairs that were served and have none yet; this batch's are among them.
    wealth = selection(state.selection, kinds(served) - kinds(state.labelled), kinds(reading.labelled))
    watched, bar = parts(policy), log(1 / policy.beta)
    tallies = tuple(
        tally.after(_gained(part, reading), late=part.late) for part, tally in zip(watched, state.tallies, strict=True)
    )
    return Paired(
        policy=policy,
        tallies=tallies,
        granted=tuple(map(_granted, watched, tallies, state.granted, [bar] * len(watched))),
        served=served,
        labelled=state.labelled.plus(reading.labelled),
        champion_bad=state.champion_bad + reading.champion_bad,
        champion_off=tuple(map(Sums.plus, state.champion_off, reading.champion_off)),
        selection=wealth,
    )


def _gained(part: Part, reading: Reading) -> Sums:
    match part.check:
        case "success":
            return reading.lost
        case "slices":
            return reading.slices[part.name]
        case "disagreement":
            return differing(reading.served)
        case "shift":
            return reading.shifts
        case _:
            return reading.off[part.place]


def _granted(part: Part, tally: Tally, sides: tuple[bool, ...], bar: float) -> tuple[bool, ...]:
    """Latch the certificates that have reached *bar*: each direction in its own time."""
    if part.tolerance is None:
        return sides
    odds = part.certificates(tally)
    return tuple(before or now >= bar for before, now in zip(sides, odds, strict=True))


# What the evidence comes to.


def finding(state: Paired) -> Judgement:
    """Return the verdict: one finding per check, and one per data check that does not hold.

    PASS when every check with a tolerance is certified and the evidence against is far from its bar; FAIL when that
    has reached the bar; ERROR when the pairs cannot be trusted; else INCONCLUSIVE.  Without any tolerance nothing is
    ever passed.
    """
    policy, watched = state.policy, parts(state.policy)
    shares, counted = evidence(state)
    total, bar = log_sum(counted), log(1 / policy.alpha)
    failed = total >= bar
    blamed = [failed and (one >= bar or one == max(counted)) for one in counted]
    findings = []
    for check in dict.fromkeys(part.check for part in watched):
        numbers = [k for k, part in enumerate(watched) if part.check == check]
        findings.append(_finding(state, numbers, shares, blamed))
    findings += _untrusted(state)
    verdict, reason = _conclude(state, findings, total)
    return Judgement(verdict, reason, tuple(findings), as_odds(total), 1 / policy.alpha)


def evidence(state: Paired) -> tuple[list[float], list[float]]:
    """Return, per part, its share of the evidence against the challenger, and what of it counts (logarithms).

    The shares add up to one e-value: the mean over the checks that decide of the mean over a check's parts.  Nothing
    counts from a part that is within its tolerance, or that is off by no more than the champion's own fault.
    """
    watched = parts(state.policy)
    checks = [part.check for part in watched if part.tolerance is not None]
    shares, counted = [], []
    for part, tally in zip(watched, state.tallies, strict=True):
        if part.tolerance is None:
            shares.append(-inf)
            counted.append(-inf)
            continue
        odds, since = part.against(tally)
        share = odds - log(len(set(checks))) - log(checks.count(part.check))
        # Where the null is the tolerance itself, evidence against it needs no second look at the estimate.
        tolerated = part.null < part.tolerance and since.mean < part.tolerance - 1e-12
        shares.append(share)
        counted.append(-inf if tolerated or surroundings(state, part, since) else share)
    return shares, counted


def surroundings(state: Paired, part: Part, since: Sums) -> bool:
    """Say whether the champion is off by more than the tolerance, in the same direction: nobody's fault."""
    if part.check != "calibration" or part.tolerance is None:
        return False
    off = state.champion_off[part.place].mean
    return abs(off) > part.tolerance and off * since.mean > 0


def _finding(state: Paired, numbers: Sequence[int], shares: Sequence[float], blamed: Sequence[bool]) -> Finding:
    policy, part = state.policy, parts(state.policy)[numbers[0]]
    told = [_told(state, number, shares[number], blamed=blamed[number]) for number in numbers]
    whole = part.check != "slices" and len(told) == 1
    own = told[0] if whole else _together(part, told, log_sum([shares[k] for k in numbers]))
    if any(blamed[k] for k in numbers):
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.PASS if own["decides"] and own["certified"] else Verdict.INCONCLUSIVE
    title = policy.column if part.check == "slices" else "scores"
    counted = seen(part.check, own) if whole else seen_parts(title, verdict, told)
    return Finding(part.check, verdict, f"{counted}: {said(policy, part.check, verdict, own)}", own)


def _told(state: Paired, number: int, share: float, *, blamed: bool) -> dict[str, Any]:
    """Return what is known of one part, as plain values in the units of the score."""
    policy, part, tally = state.policy, parts(state.policy)[number], state.tallies[number]
    seen, bar = tally.seen, log(1 / policy.beta)
    unit = policy.high - policy.low if part.check == "shift" else 1.0
    limits = interval(seen, part.span, policy.alpha) if seen.n else None
    decides = part.tolerance is not None
    more = _needs(part, tally, state.granted[number], bar) if decides else None
    since = part.against(tally)[1] if decides else seen
    evidence: dict[str, Any] = {
        "n": seen.n,
        "excess": unit * seen.mean if seen.n else None,
        "since": {"n": since.n, "excess": unit * since.mean},
        "interval": (unit * limits[0], unit * limits[1]) if limits else None,
        "odds": as_odds(share) if decides else None,
        "bar": 1 / policy.alpha,
        "part": part.name,
        "required": part.required,
        "blamed": blamed,
        "decides": decides,
        "certified": all(state.granted[number]),
        "certificate_odds": as_odds(min(part.certificates(tally))) if decides else None,
        "certificate_bar": 1 / policy.beta,
        "needs": more,
        "unlucky": more if more is None else ceil(UNLUCKY * more),
        "unit": "requests" if part.check in ("disagreement", "shift") else "labels",
        "tolerance": unit * part.tolerance if part.tolerance is not None else None,
    }
    return evidence | _counts(state, part, seen) | ({"surroundings": True} if surroundings(state, part, since) else {})


def _needs(part: Part, tally: Tally, granted: Sequence[bool], bar: float) -> int | None:
    assert part.tolerance is not None
    usual, most = _usual(part), 0
    for side, done in enumerate(granted):
        limit = -part.tolerance if side else part.tolerance
        more = 0 if done else needs(tally.seen, part.span, limit, bar, above=bool(side), usual=usual)
        if more is None:
            return None
        most = max(most, more)
    return most


def _usual(part: Part) -> Sums:
    """Return what a forecast expects before any data: no difference, and a usual spread."""
    if part.check == "disagreement":
        assert part.tolerance is not None
        half = USUAL_N * part.tolerance / 2
        return Sums(USUAL_N, half, half)
    return Sums(USUAL_N, 0.0, USUAL_N * {"shift": 0.01, "calibration": 0.15}.get(part.check, 0.1))


def _counts(state: Paired, part: Part, seen: Sums) -> dict[str, Any]:
    lost, won = (seen.squares + seen.total) / 2, (seen.squares - seen.total) / 2
    if part.check == "slices":
        return {"lost": round(lost), "won": round(won)}
    if part.check == "disagreement":
        _, new, old = kinds(state.served)
        directed = state.policy.threshold is not None
        limits = interval(state.served, SIGNED, state.policy.alpha) if directed and seen.n else None
        return {
            "challenger_yes": round(new) if directed else None,
            "champion_yes": round(old) if directed else None,
            "direction": state.served.mean if directed and seen.n else None,
            "direction_interval": limits,
        }
    if part.check == "calibration":
        off = state.champion_off[part.place]
        return {"champion_off": off.mean if off.n else None}
    if part.check == "shift":
        return {}
    bad = state.champion_bad + round(seen.total)
    return {
        "lost": round(lost),
        "won": round(won),
        "challenger_bad": bad,
        "challenger_n": seen.n,
        "baseline_bad": state.champion_bad,
        "baseline_n": seen.n,
        "challenger_rate": bad / seen.n if seen.n else None,
        "baseline_rate": state.champion_bad / seen.n if seen.n else None,
        "served": state.served.n,
    }


def _together(part: Part, told: Sequence[Mapping[str, Any]], share: float) -> dict[str, Any]:
    """Return the evidence of a check that has several parts: its slices, or its bands of scores."""
    required, labels = [one for one in told if one["required"]], sum(one["n"] for one in told)
    # A part gets its labels at the pace of its share of all labels.
    more = [one["needs"] and (ceil(one["needs"] * labels / one["n"]) if one["n"] else None) for one in required]
    most = None if None in more else max(count for count in more if count is not None)
    return {
        **told[0],
        "part": None,
        "n": labels,
        "excess": max((one["excess"] for one in told if one["n"]), key=abs if part.both else float, default=None),
        "interval": None,
        "odds": as_odds(share) if part.tolerance is not None else None,
        "blamed": any(one["blamed"] for one in told),
        "certified": all(one["certified"] for one in required),
        "certificate_odds": min((one["certificate_odds"] for one in required), key=lambda odds: odds or 0.0),
        "needs": most,
        "unlucky": most if most is None else ceil(UNLUCKY * most),
        "surroundings": any(one.get("surroundings") for one in told),
        "parts": [dict(one) for one in told],
    }


def _untrusted(state: Paired) -> list[Finding]:
    policy, found = state.policy, []
    if state.foreign:
        old, new = state.foreign
        reason = (
            f"the last pairs were answered by versions {old} and {new}, not by {policy.champion} and "
            f"{policy.challenger}: they were not counted; look at the routing"
        )
        found.append(Finding("versions", Verdict.ERROR, reason, {"check": True, "versions": [old, new]}))
    odds = log_mean(state.selection)
    if odds >= log(1 / SELECTION_LEVEL):
        served, labelled = kinds(state.served), kinds(state.labelled)
        part = [f"{100 * a / b:.0f} %" if b else "none" for a, b in zip(labelled, served, strict=True)]
        where = f"{part[0]} where they decide alike, "
        where += f"{part[1]} where only the challenger says yes, {part[2]} where only the champion does"
        if policy.threshold is None:
            where = f"{part[0]} where they decide alike, {part[1]} where they differ"
        reason = (
            f"labels do not come to all pairs alike ({where}), so they cannot say who is right more often; "
            "count labels only after a delay that is the same for all, or label a random part"
        )
        counts = {"served": [round(k) for k in served], "labelled": [round(k) for k in labelled]}
        evidence = {"check": True, "odds": as_odds(odds), **counts}
        found.append(Finding("labels", Verdict.ERROR, reason, evidence))
    return found


def _conclude(state: Paired, findings: Sequence[Finding], total: float) -> tuple[Verdict, str]:
    policy = state.policy
    # What was seen without a tolerance is reported and decides nothing.
    deciding = [found for found in findings if found.evidence.get("decides") or found.verdict is Verdict.ERROR]
    if not deciding:
        return Verdict.INCONCLUSIVE, "no tolerance was asked for: what is seen is reported and decides nothing"
    verdict, reason = conclude(deciding, total, policy.alpha, "check")
    if verdict is Verdict.PASS and policy.success is None:
        reason += "; labels were not asked for, so this says how alike the versions are, not that either is right"
    return verdict, reason
