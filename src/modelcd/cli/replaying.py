"""The command that lets the engine decide once more on the recorded traffic of a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelcd.cli.app import Taught, emit
from modelcd.cli.tables import ago, lasted, table


@click.command(cls=Taught)
@click.argument("release")
@click.option("--policy", default="", metavar="FILE", help="A Python file with rollout = Canary(…), or a pipeline.py.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, times absolute.")
def replay(release: str, policy: str, as_json: bool) -> None:
    """Show what another policy would have decided on the traffic of a release.

    \b
    modelcd replay 7f3a
    modelcd replay 7f3a --policy other.py

    Nothing is started and nothing is recorded.  Under its own policy a release goes as it went.
    """
    from modelcd.control import connect

    found = connect().replay(release, policy)
    if as_json:
        return emit(found)
    live, again = found["live"], found["replayed"]
    click.echo(
        f"RELEASE {found['release']}  version {found['version']} of {found['model']} in {found['environment']},"
        f" by {found['by']}, {ago(found['opened'])}: {found['reason']}"
    )
    click.echo(f"  live      {_outcome(live, 'under way')} {_cost(found, live)}: {live['why'] or _newest(live)}")
    click.echo(f"  replayed  {_decided(found)}\n")
    click.echo(_steps(found["opened"], again["rungs"]))
    for line in _remarks(found):
        click.echo(f"\n  {line}")


def _decided(found: dict[str, Any]) -> str:
    live, again = found["live"], found["replayed"]
    outcome = _outcome(again, "undecided on the recorded traffic")
    if found["own_policy"]:
        which = "with the same policy" if found["policy_file"] else "with its own policy"
        how = "as recorded: the same steps at the same looks, with the same verdicts"
        if not found["as_recorded"]:
            how = f"and not as recorded; this modelcd decides otherwise on the same traffic: {again['why']}"
        return f"{which}: {outcome}, {how}"
    which = f"with {Path(found['policy_file']).name}" if found["policy_file"] else "with the other policy"
    instead = _outcome(live, "under way", short=True)
    other = f" instead of {instead}" if again["ending"] != live["ending"] else ", as it was live"
    return f"{which}: {outcome} {_cost(found, again)}{other}: {again['why'] or again['waits']}"


def _outcome(story: dict[str, Any], open_one: str, short: bool = False) -> str:
    ending = story["ending"] or open_one
    return ending if short or story["ending"] in ("promoted", "failed") else f"{ending} at {story['share']:g} %"


def _cost(found: dict[str, Any], story: dict[str, Any]) -> str:
    given = f"{story['requests']:,} requests of version {found['version']}"
    return f"after {lasted(story['opened'], story['ended'])} and {given}" if story["ended"] else f"after {given}"


def _newest(story: dict[str, Any]) -> str:
    return str(story["rungs"][-1]["reason"]) if story["rungs"] else "it has had no share yet"


def _steps(opened: str, rungs: list[dict[str, Any]]) -> str:
    rows = [
        (
            number,
            f"{rung['share']:g} %",
            lasted(opened, rung["since"]),
            lasted(opened, rung["until"]),
            f"{rung['requests']:,}" if rung["looks"] else "-",
            f"{rung['failed']:,}" if rung["looks"] else "-",
            rung["verdict"] or "-",
        )
        for number, rung in enumerate(rungs, start=1)
    ]
    heads = ("step", "share", "from", "until", "requests", "failed", "verdict")
    return "\n".join(f"  {line}" for line in table(heads, rows).splitlines()) if rows else "  It got no share."


def _remarks(found: dict[str, Any]) -> list[str]:
    """Say what the answer rests on."""
    told = []
    if found["served_at"] and not found["own_policy"]:
        shares = ", ".join(f"{share:g}" for share in found["served_at"])
        told.append(
            f"The counts are what they were, served at {shares} %.  The tests hold whatever the shares were; with other"
            " shares the same requests would have come sooner or later."
        )
    asked = "It would have asked a person" if not found["own_policy"] else "It asked a person"
    # The reasons of a doubt are long; they stand in the JSON.
    doubts = [{**fact, "what": fact["what"].split(": ")[0]} for fact in found["asked"]]
    for what, facts in (
        (asked, doubts),
        ("Taken over as it happened", found["taken_over"]),
        ("Left out, because it happened under the other policy", found["left_out"]),
    ):
        if facts:
            said = (f"{fact['what']} (after {lasted(found['opened'], fact['at'])})" for fact in facts)
            told.append(f"{what}: {'; '.join(said)}.")
    return told
