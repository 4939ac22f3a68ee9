"""What a release will need, told before it starts: from what was recorded of its model, and from what is given.

Each number is known by where it is from: given for this plan, recorded in past releases, or (the shape of latencies
alone) assumed.  One that is none of these is asked for; nothing is planned with a number that nobody knows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from modelcd.domain.forecast import Traffic, missing
from modelcd.domain.plain import to_plain
from modelcd.domain.plan import exposed_at_worst, fastest, ladders, plan
from modelcd.domain.policy import FROM_LABELS, Canary, GuardKind
from modelcd.domain.recorded import Recorded
from modelcd.domain.routing import Unit
from modelcd.errors import UsageError

OPTIONS = {
    "per_minute": "--requests-per-minute 600",
    "errors": "--error-rate 0.01",
    "wrong": "--success-rate 0.9",
    "labelled": "--labels 0.2",
    "label_delay": "--label-delay 10min",
}
"""How each number is given in a shell."""

WORDS = {
    "per_minute": "how many requests come in",
    "errors": "how often the champion fails",
    "wrong": "how often the champion is right",
    "labelled": "which part of the requests gets a label",
    "label_delay": "how late labels come",
}


@dataclass(frozen=True)
class Given:
    """Numbers to plan with, in the place of what was recorded; None is not said.

    Args:
        requests_per_minute: Of all users together, above 0.
        labels: The part of the requests that get a label, above 0 and at most 1.
        label_delay: How late labels come, in seconds.
        error_rate: How often the champion fails, from 0 to 1.
        success_rate: How often the champion is right, from 0 to 1.

    Raises:
        UsageError: A number lies where it cannot be meant.

    Examples:
        >>> from modelcd.planning import Given
        >>> Given(requests_per_minute=600, error_rate=0.01, labels=0.2, label_delay=600).labels
        0.2
    """

    requests_per_minute: float | None = None
    labels: float | None = None
    label_delay: float | None = None
    error_rate: float | None = None
    success_rate: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = float("inf") if name in ("requests_per_minute", "label_delay") else 1.0
            least_is_out = name in ("requests_per_minute", "labels")
            if value is not None and not (isfinite(value) and 0 <= value <= most and (value or not least_is_out)):
                between = "above 0" if least_is_out else "0 or more"
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{option} cannot be {value:g}",
                    help=f"it is a number {between}" + ("" if most > 1 else ", 1 at most: 0.2 is one in five"),
                )


def newest_policy(known: Recorded) -> Canary:
    """Return the policy of the newest release that was no rollback; raises `UsageError` when there is none."""
    for release in reversed(known.endpoint.releases):
        if not release.by_rollback:
            return release.policy
    raise UsageError("no policy was recorded yet", help="name a file: --policy pipeline.py, or plan in the project")


def planned(
    policy: Canary, known: Recorded | None, given: Given, *, soonest: bool = False, exposed: float | None = None
) -> dict[str, Any]:
    """Return the plan for *policy* as JSON values; raises `UsageError` for a number that is neither known nor given.

    With *soonest* the shares are chosen: those that lead to 100 % soonest while a version that is worse by 2.5
    times the tolerance gets at most *exposed* requests; by default as many as under the shares of *policy*.
    `possible` is None where a guard could not be planned and no other one is in the way.
    """
    if policy.unit is not Unit.REQUEST:
        raise UsageError(
            f"a plan counts requests, and this policy assigns by {policy.unit}", help="leave unit out of the policy"
        )
    traffic, sources = _met(policy, known, given)
    if lacking := missing(policy, traffic):
        names = list(dict.fromkeys(name.split()[0] for name in lacking))
        guards = [name.removeprefix("wrong ") for name in lacking if name.startswith("wrong ")]
        words = {**WORDS, "wrong": f"{WORDS['wrong']} by {_listed(guards)}" if guards else ""}
        raise UsageError(
            f"nothing was recorded that says {_listed([words[name] for name in names])}",
            help=f"give {_listed([OPTIONS[name] for name in names])}",
        )
    forecast, found = plan(policy, traffic), {}
    possible = not forecast.hopeless
    if soonest:
        bound = exposed_at_worst(policy, traffic) if exposed is None else exposed
        if not isfinite(bound):
            raise UsageError(
                "the present shares set no bound: a version that is worse would not be rolled back in time",
                help="say how many requests may go to one: --fastest --exposed 2000",
            )
        choices = ladders(policy, traffic)
        better = fastest(choices, bound)
        found["fastest"] = {
            "bound": bound,
            "bound_given": exposed is not None,
            "shares": list(better.shares) if better is not None else None,
            "exposed": better.exposed if better is not None else None,
            "least_exposed": min((ladder.exposed for ladder in choices), default=None),
            "instead_of": {"shares": list(policy.shares), "seconds": forecast.seconds},
        }
        possible = better is not None
        policy = replace(policy, shares=better.shares) if better is not None else policy
        forecast = plan(policy, traffic)
    told = {
        "possible": None if possible and forecast.unplanned else possible,
        **found,
        "plan": {**to_plain(forecast), "hopeless": forecast.hopeless},
        "traffic": to_plain(traffic),
        "sources": sources,
        "recorded": _past(known),
        "policy": to_plain(policy),
    }
    plain: dict[str, Any] = _finite(told)
    return plain


def _met(policy: Canary, known: Recorded | None, given: Given) -> tuple[Traffic, dict[str, str]]:
    """Return what is planned with, and for each number that matters whether it is given, recorded or assumed."""
    recorded = known.traffic if known is not None else Traffic()
    judged = [guard.name for guard in policy.guards if guard.kind is GuardKind.SUCCESS]
    wrong = recorded.wrong if given.success_rate is None else dict.fromkeys(judged, 1 - given.success_rate)
    traffic = Traffic(
        per_minute=_first(given.requests_per_minute, recorded.per_minute),
        errors=_first(given.error_rate, recorded.errors),
        wrong=wrong,
        numbers=recorded.numbers,
        labelled=_first(given.labels, recorded.labelled),
        label_delay=_first(given.label_delay, recorded.label_delay),
        latencies=recorded.latencies,
    )
    kinds = {guard.kind for guard in policy.guards}
    said: dict[str, float | None] = {"per_minute": given.requests_per_minute}
    if GuardKind.ERRORS in kinds:
        said["errors"] = given.error_rate
    said |= dict.fromkeys((f"wrong {name}" for name in judged), given.success_rate)
    if not kinds.isdisjoint(FROM_LABELS):
        said |= {"labelled": given.labels, "label_delay": given.label_delay}
    sources = {name: "recorded" if value is None else "given" for name, value in said.items()}
    numbers = (
        guard.name for guard in policy.guards if guard.kind is GuardKind.METRIC and guard.name in traffic.numbers
    )
    sources |= dict.fromkeys((f"number {name}" for name in numbers), "recorded")
    if GuardKind.LATENCY in kinds:
        sources["latencies"] = "recorded" if traffic.latencies else "assumed"
    return traffic, sources


def _first(given: float | None, recorded: float | None) -> float | None:
    return recorded if given is None else given


def _past(known: Recorded | None) -> dict[str, Any] | None:
    if known is None or not known.glances:
        return None
    return {
        "releases": list(known.glances),
        "requests": known.requests,
        "seconds": known.seconds,
        "champion": known.endpoint.champion,
        "champion_requests": known.champion.requests,
    }


def _finite(plain: Any) -> Any:
    """Return *plain* with None for what has no end: JSON knows no infinity."""
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not isfinite(plain) else plain


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
