"""The commands that only read; they need the journal and nothing that runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from modelcd.cli.app import Taught, emit
from modelcd.cli.tables import ago, table
from modelcd.domain.routing import Routing
from modelcd.domain.story import shares
from modelcd.domain.versions import brief
from modelcd.errors import UsageError

JSON = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, times absolute.")


def _control() -> Any:
    from modelcd.control import connect

    return connect()


@click.command(cls=Taught)
@click.argument("model", default="")
@JSON
def status(model: str, as_json: bool) -> None:
    """Show what serves where, and what is under way.

    \b
    modelcd status
    """
    control = _control()
    lines = control.status(model)
    if as_json:
        return emit(lines)
    if not lines:
        click.echo("nothing was released yet; begin with: modelcd init NAME, or watch: modelcd demo")
    else:
        rows = [
            (line["model"], line["environment"], line["version"] or "-", ago(line["since"]), _under_way(line))
            for line in lines
        ]
        click.echo(table(("model", "environment", "version", "since", "under way"), rows))
        for line in lines if model else ():
            click.echo(f"{line['environment']}: POST {line['url']}/predict")
    for name, at in control.scheduled(model).items():
        when = f"{datetime.fromisoformat(at['next']):%a %d %b %Y %H:%M}"
        click.echo(f'\n{name} retrains by itself at "{at["cron"]}" {at["timezone"]}, next {when}')
    if control.full():
        click.echo("\nthe disk is full: nothing steps up, and only a rollback still works; free some space")
    if lines and lines[0]["down"]:
        click.echo(f"\n{_down(lines[0]['down'])}")
    if any(line["version"] for line in lines) and (asleep := control.asleep()):
        lost = {"gateway": "nothing is served", "control": "nothing is watched"}
        click.echo(f"\n{' and '.join(asleep)} not running: {' and '.join(lost[n] for n in asleep)} until: modelcd up")


def _down(at: dict[str, str]) -> str:
    reason = f": {at['reason']}" if at["reason"] else ""
    return f"down since {datetime.fromisoformat(at['since']).astimezone():%a %d %b %Y %H:%M}, by {at['by']}{reason}"


def _under_way(line: dict[str, Any]) -> str:
    release, held = line["under_way"], f"held by {line['held_by']}" if line["held_by"] else ""
    if release is None:
        return "; ".join(filter(None, (held, line["trouble"]))) or "-"
    reason = line["trouble"] or release["judgement"].get("reason", "starting")
    held = f", {held}" if held else ""
    what = f"version {release['version']} at {release['share']:g} %"
    return f"{release['release']}: {release['headline'] if release['kind'] == 'rollback' else what}{held}; {reason}"


@click.command(cls=Taught)
@click.argument("model", default="")
@click.option("--in", "environment", default="", help="Only this environment.")
@click.option("--all", "everything", is_flag=True, help="Deliveries and earlier environments too.")
@click.option("--at", "moment", default="", metavar="TIME", help="What served then, as 2026-03-31T18:30 (local time).")
@JSON
def history(model: str, environment: str, everything: bool, moment: str, as_json: bool) -> None:
    """Show who released what, why, and how it ended.

    Of all models it also shows who took them down, and who brought them back.

    \b
    modelcd history
    modelcd history flight-delay
    modelcd history flight-delay --at 2026-03-31T18:30      what served then, and who put it there
    """
    if moment and not model:
        raise UsageError("--at asks what served of one model", help=f"modelcd history MODEL --at {moment}")
    if moment:
        return _served(model, environment, _time(moment), as_json)
    control = _control()
    lines = control.history(model, environment)
    if as_json:
        return emit(lines)
    last = control.environments()[-1]["environment"]
    shown = [line for line in lines if everything or environment or _matters(line, last)]
    rows = [
        (
            ago(line["opened"]),
            *([] if model else [line.get("model", "-")]),
            line.get("release") or line.get("delivery", "-"),
            line.get("environment", "-"),
            line.get("version") or "-",
            line.get("headline") or line.get("ending") or _DOWNTIME.get(line["kind"], "under way"),
            line["by"],
            line.get("why") or line["reason"],
        )
        for line in shown
    ]
    heads = ("when", *([] if model else ["model"]), "id", "environment", "version", "ending", "by", "why")
    click.echo(table(heads, rows))


_DOWNTIME = {"down": "taken down", "up": "brought back"}


def _served(model: str, environment: str, moment: datetime, as_json: bool) -> None:
    lines = _control().serving(model, moment, environment)
    if as_json:
        return emit(lines)
    if not lines:
        click.echo(f"{model} was nowhere yet at {moment.isoformat(timespec='seconds')}")
    if lines and lines[0]["down"]:
        click.echo(f"{_down(lines[0]['down'])}; nothing was served")
    for line in lines:
        served = shares(Routing.from_plain(line["routing"])) if line["routing"] else "nothing was served"
        since = f"   since {line['routing_since']}" if line["routing_since"] else ""
        click.echo(f"{line['environment']:<12} {served}{since}{', being changed' * line['changing']}")
        for what, release in (("put there by", line["put_there"]), ("under way:", line["under_way"])):
            if release is not None:
                why = release["why"] or release["judgement"].get("reason", "")
                told = f"version {release['version']} by {release['by']} ({release['reason']})"
                click.echo(f"{'':12} {what} {release['kind']} {release['release']}: {told}\n{'':14} {why}")
                for finding in (*release["evidence"], *release["judgement"].get("findings", [])):
                    click.echo(f"{'':14} {finding['name']}: {finding['verdict']}: {finding['reason']}")


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise UsageError(f"{text!r} is no time", help="write it as 2026-03-31T18:30, or with +00:00 for UTC") from None


def _matters(line: dict[str, Any], last: str) -> bool:
    """Say whether *line* is about the environment that counts, the *last*, or why nothing came so far."""
    if line["kind"] in _DOWNTIME:
        return True
    if line["kind"] != "delivery":
        return bool(line["environment"] == last)
    return str(line["ending"]) not in ("promoted", "rolled back", "")


@click.command(cls=Taught)
@JSON
def environments(as_json: bool) -> None:
    """Show where models run, in the order of a promotion, how a version gets there, and what says so.

    \b
    modelcd environments
    """
    found = _control().environments()
    if as_json:
        return emit(found)
    rows = [(line["environment"], line["kind"], line["takes"], line["how"], line["from"]) for line in found]
    click.echo(table(("environment", "kind", "takes", "how", "declared in"), rows))


@click.command(cls=Taught)
@click.argument("model")
@JSON
def versions(model: str, as_json: bool) -> None:
    """List the versions of a model.

    \b
    modelcd versions flight-delay
    """
    found = _control().versions(model)
    if as_json:
        return emit(found)
    rows = [
        (
            line["version"],
            ago(line["built"]),
            f"{line['rows']:,}",
            f"{line['from'][:10]} … {line['until'][:10]}" if line["from"] else "-",
            brief(line["commit"].split("-")[0], line["worktree"]) or "-",
            line["digest"].removeprefix("sha256:")[:8],
            "accepted" if line["accepted"] else "gates passed" if line["proven"] else "not passed",
            ", ".join(line["serves"]) or "-",
        )
        for line in found
    ]
    click.echo(table(("version", "built", "rows", "data", "commit", "digest", "checks", "serves"), rows))


@click.command(cls=Taught)
@click.argument("model")
@click.argument("old", type=int)
@click.argument("new", type=int)
@JSON
def diff(model: str, old: int, new: int, as_json: bool) -> None:
    """Show what is different between two versions: data, parameters, code, commit, toolchain, gates.

    \b
    modelcd diff flight-delay 2 3
    """
    found = _control().diff(model, old, new)
    if as_json:
        return emit(found)
    click.echo(f"{model}: version {old} → version {new}\n")
    for name in ("data", "parameters", "toolchain", "commit", "gates"):
        click.echo("\n".join([name, *_told(found[name], _changes(found[name]["changes"], long=name == "gates"))]))
    click.echo("\n".join(["code", *_told(found["code"], _files(found["code"]["files"]))]))


def _told(part: dict[str, Any], changes: Iterator[str]) -> Iterator[str]:
    if part["verdict"] == "unknown":
        yield f"  unknown: {part['why']}"
    elif part["verdict"] == "same":
        yield "  the same"
    yield from changes


def _changes(changes: dict[str, Any], *, long: bool) -> Iterator[str]:
    for key, (old, new) in changes.items():
        if long:
            yield from (f"  {sign} {key}: {said}" for sign, said in (("-", old), ("+", new)) if said is not None)
        else:
            yield f"  {key:<14} {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    if value in (None, ""):
        return "-"
    digest = str(value).startswith("sha256:")
    return str(value)[7:19] if digest else str(value)[:46]


def _files(files: list[dict[str, Any]]) -> Iterator[str]:
    for file in files:
        yield from (f"  {line}" for line in file["diff"])
        if not file["diff"]:
            sizes = f"{file['sizes'][0]:,} → {file['sizes'][1]:,} bytes"
            yield f"  {file['file']}: {file['kind']}, no text or empty, {sizes}"
