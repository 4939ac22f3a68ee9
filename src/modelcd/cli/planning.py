"""The command that tells what a release will need before it starts."""

from __future__ import annotations

import re
import sys
from textwrap import wrap
from typing import Any

import click

from modelcd.cli.app import Taught, emit
from modelcd.cli.tables import table
from modelcd.errors import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}


@click.command(cls=Taught)
@click.argument("model", default="")
@click.option("--policy", default="", metavar="FILE", help="A Python file with rollout = Canary(…), or a pipeline.py.")
@click.option("--requests-per-minute", type=float, metavar="N", help="Of both versions; default: as recorded.")
@click.option("--labels", type=float, metavar="PART", help="The part of the requests that get a label, as 0.2.")
@click.option("--label-delay", default="", metavar="TIME", help="How much later labels come, as 10min.")
@click.option("--error-rate", type=float, metavar="PART", help="How often the champion fails, as 0.01.")
@click.option("--success-rate", type=float, metavar="PART", help="How often the champion is right, as 0.9.")
@click.option("--fastest", is_flag=True, help="Choose the shares that conclude soonest.")
@click.option("--exposed", type=float, metavar="N", help="With --fastest: requests that a bad version may get.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, times in seconds.")
def plan(
    model: str, policy: str, label_delay: str, fastest: bool, exposed: float | None, as_json: bool, **said: float | None
) -> None:
    """Show what a release will need before it starts: requests, time, exposed users, what would be caught.

    \b
    modelcd plan                                        the project in this folder, on recorded traffic
    modelcd plan churn --policy other.py                another policy for a model
    modelcd plan --requests-per-minute 600 --error-rate 0.01
    modelcd plan --fastest --exposed 2000               which shares conclude soonest?

    Exit code 1 if a good version would more likely than not be stuck (what would help is said), 3 if of some guard
    nothing is known that it could be planned by.
    """
    from modelcd.control import connect
    from modelcd.planning import Given

    if exposed is not None and not (fastest and exposed > 0):
        raise UsageError("--exposed N bounds what --fastest may choose", help="modelcd plan --fastest --exposed 2000")
    given = Given(label_delay=_seconds(label_delay), **said)
    found = connect().plan(model, policy=policy, given=given, soonest=fastest, exposed=exposed)
    if as_json:
        emit(found)
    else:
        heading, *paragraphs = _told(found)
        click.echo(heading)
        for paragraph in paragraphs:
            # What stands in columns is as wide as it is; sentences are not.
            lines = [paragraph] if "   " in paragraph else wrap(paragraph, 96)
            click.echo("\n".join(f"  {line}" for line in lines))
    sys.exit({True: 0, False: 1, None: 3}[found["possible"]])


def _seconds(text: str) -> float | None:
    if not text:
        return None
    if (match := _DURATION.fullmatch(text.strip())) is None:
        raise UsageError(f"--label-delay {text} is no time", help="write it as 30s, 10min, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


def _told(found: dict[str, Any]) -> list[str]:
    plan = found["plan"]
    told = [f"PLAN  {found['model']}, {_number(found['traffic']['per_minute'])} requests a minute", *_known(found)]
    if "fastest" in found:
        told += ["", *_chosen(found)]
    if not plan["steps"]:
        return [*told, "", "shares=() moves all requests at once: no guard decides anything before that."]
    told += ["", *_steps(plan).splitlines(), ""]
    return [*told, *_totals(plan, found["policy"]["bake"]), *_obstacles(plan)]


def _known(found: dict[str, Any]) -> list[str]:
    """Say which number is recorded, which given, which assumed."""
    traffic, past = found["traffic"], found["recorded"]
    words = {
        "per_minute": "requests a minute",
        "errors": f"errors {_per_cent(traffic['errors'])}",
        "labelled": f"labels for {_per_cent(traffic['labelled'])} of the requests",
        "label_delay": f"{_time(traffic['label_delay'])} later",
        "latencies": "the shape of latencies",
        **{f"number {name}": f"{name} {_number(mean)}" for name, (mean, _) in traffic["numbers"].items()},
        **{f"wrong {name}": f"{name} {_per_cent(1 - rate)}" for name, rate in traffic["wrong"].items()},
    }
    lines = []
    for source in ("recorded", "given", "assumed"):
        if names := [words[name] for name, of in found["sources"].items() if of == source]:
            lines.append(f"{source:<9} {', '.join(names)}")
    if found["sources"].get("latencies") == "assumed":
        lines[-1] += ": lognormal, deviation 0.5"
    if past and "recorded" in found["sources"].values():
        releases = f"{'releases' if len(past['releases']) > 1 else 'release'} {', '.join(past['releases'])}"
        seen = f"{past['requests']:,} requests in {_time(past['seconds'])}"
        champion = f"version {past['champion']} answered {past['champion_requests']:,}"
        lines.insert(1, f"          {releases}: {seen}; {champion}")
    return lines


def _chosen(found: dict[str, Any]) -> list[str]:
    """Say which shares conclude soonest, as a line to paste."""
    chosen, bound = found["fastest"], _number(found["fastest"]["bound"])
    of = "the bound that was given" if chosen["bound_given"] else "as many as with the present shares"
    if chosen["shares"] is None:
        least = chosen["least_exposed"]
        more = f"The most careful that conclude give it {_number(least)}." if least else "None conclude at all."
        return [f"No shares conclude while a bad version gets at most {bound} requests ({of}).  {more}"]
    before = chosen["instead_of"]
    instead = f" instead of {_time(before['seconds'][0])} with {_tuple(before['shares'])}" if before["shares"] else ""
    return [
        f"Canary(shares={_tuple(chosen['shares'])}, …)",
        f"These conclude soonest: {_around(found['plan']['seconds'][:1] * 2)}{instead}.  A bad version gets"
        f" {_number(chosen['exposed'])} requests if unlucky, {bound} at most ({of}).",
    ]


def _steps(plan: dict[str, Any]) -> str:
    rows = []
    for step in plan["steps"]:
        for k, need in enumerate(step["needs"]):
            measure = need["measure"]
            unit = " labels" if need["unit"] == "labels" and need["outcomes"][1] != 0 else ""
            rows.append(
                (
                    f"{step['share']:g} %" if k == 0 else "",
                    need["guard"],
                    _size(need["tolerated"], measure),
                    _pair(need["outcomes"], _number) + unit,
                    _pair(need["seconds"], _time),
                    _pair(need["exposed"], _number),
                    _pair(need["caught"], lambda size, measure=measure: _size(size, measure)),
                )
            )
    return table(("share", "guard", "tolerates", "requests", "time", "exposed", "catches"), rows)


def _totals(plan: dict[str, Any], bake: float) -> list[str]:
    lines = [
        "Half of all good versions need at most the first number, nine of ten the one in brackets; 0 is known from the"
        " steps before.  Exposed: requests to the new version meanwhile.  Catches: the smallest regression that the"
        " step's budget is long enough to roll back, in half of all cases and in nine of ten; what is tolerated stays.",
        *([f"Each step is watched for at least {_time(bake)}."] if bake else []),
        "",
        f"To 100 %: {_around(plan['seconds'])} and {_pair(plan['requests'], _number)} requests,"
        f" {_pair(plan['exposed'], _number)} of them to the new version.",
    ]
    for bad in plan["regressions"]:
        size = _size(bad["worse"], bad["measure"])
        if bad["exposed"][0] is None:
            lines.append(f"Worse by {size} on {bad['guard']}: a step's budget ends before it is rolled back.")
        else:
            lines.append(
                f"Worse by {size} on {bad['guard']}: rolled back after {_around(bad['seconds'])} and"
                f" {_pair(bad['exposed'], _number)} requests to it."
            )
    if plan["unplanned"]:
        lines.append(f"Left out, because nothing is known to plan it by: {', '.join(plan['unplanned'])}.")
    return lines


def _obstacles(plan: dict[str, Any]) -> list[str]:
    lines = []
    for obstacle in sorted(plan["obstacles"], key=lambda obstacle: obstacle["hopeless"]):
        budget, takes = _time(obstacle["budget"]), _pair(obstacle["seconds"], _time)
        if obstacle["guard"]:
            share = plan["steps"][obstacle["step"]]["share"]
            where = f"{obstacle['guard']} at step {obstacle['step'] + 1} ({share:g} %)"
            limit = f"step_budget is {budget}"
        else:
            where, limit = "the release", f"budget is {budget}"
        how = "cannot conclude in time" if obstacle["hopeless"] else "may not conclude in time"
        lines += ["", f"{'HOPELESS' if obstacle['hopeless'] else 'WARNING'}  {where} {how}: it needs {takes}, {limit}."]
        if told := [_remedy(obstacle["guard"], **remedy) for remedy in obstacle["remedies"]]:
            lines.append(f"Any of these lets nine of ten conclude: {'; '.join(told)}.")
        else:
            lines.append("No share, margin, traffic or budget makes it possible; labels come too late, or none do.")
    return lines


def _remedy(guard: str, what: str, values: list[float]) -> str:
    match what:
        case "shares":
            return f"shares={_tuple(values)}"
        case "margin":
            return f"margin={values[0]:g} for {guard}"
        case "ratios":
            pairs = zip(values[::2], values[1::2], strict=True)
            return f"{', '.join(f'p{100 * q:g}={r:g}' for q, r in pairs)} for {guard}"
        case "per_minute":
            return f"{_number(values[0])} requests a minute"
        case _:
            return f"{what}={values[0]:g} ({_time(values[0])})"


def _pair(amount: list[float | None], say: Any) -> str:
    median, unlucky = (say(part) for part in amount)
    return median if median == unlucky else f"{median} ({unlucky})"


def _around(seconds: list[float | None]) -> str:
    """Say about how long, in the median and the unlucky case; less than a second is no "about"."""
    said = _pair(seconds, _time)
    return said if said.startswith("under") else f"about {said}"


def _size(size: float | None, measure: str) -> str:
    if size is None:
        return "nothing"
    if measure == "ratio":
        return f"x{size:.2f}"
    return f"{size:.2g}" if measure == "number" else f"+{float(f'{100 * size:.2g}'):g} pt"


def _per_cent(part: float | None) -> str:
    return "-" if part is None else f"{float(f'{100 * part:.2g}'):g} %"


def _tuple(shares: list[float]) -> str:
    return f"({', '.join(f'{share:g}' for share in shares)}{',' * (len(shares) == 1)})"


def _number(value: float | None) -> str:
    """Return two digits of *value*."""
    if value is None:
        return "no end"
    digits = float(f"{value:.2g}")
    return f"{digits:,.0f}" if digits >= 10 else f"{digits:g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "no end"
    if 0 < seconds < 1:
        return "under 1 s"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{seconds:.2g}'):g} s"
