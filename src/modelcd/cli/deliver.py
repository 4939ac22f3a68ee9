"""The commands that move versions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from modelcd.cli.app import emit

ENVIRONMENT = click.option("--to", "environment", default="production", show_default=True, help="The environment.")
IN = click.option("--in", "environment", default="production", show_default=True, help="The environment.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
PROJECT = click.argument("project", type=click.Path(path_type=Path), default=Path())
GOOD = ("promoted", "nothing new")


@click.command()
@PROJECT
@click.option("--reason", default="", help="Why; it stands in the history.")
@click.option("--again", default="", metavar="REASON", help="Try a version again that was rejected, and why.")
@JSON
def deliver(project: Path, reason: str, again: str, as_json: bool) -> None:
    """Walk a project from its data to production.

    \b
    modelcd deliver                          the project in this folder
    modelcd deliver flights --again "fixed the feature store"
    """
    _run(as_json, lambda control: control.deliver(project, reason=reason, again=again))


@click.command()
@PROJECT
@JSON
def retrain(project: Path, as_json: bool) -> None:
    """Deliver the project if there are data that its champion has not seen.

    \b
    modelcd retrain                          the project in this folder
    """
    _run(as_json, lambda control: control.retrain(project))


@click.command()
@click.argument("model")
@click.argument("version", type=int)
@ENVIRONMENT
@click.option("--reason", default="", help="Why; it stands in the history.")
@click.option("--again", default="", metavar="REASON", help="Try a version again that was rejected, and why.")
@JSON
def promote(model: str, version: int, environment: str, reason: str, again: str, as_json: bool) -> None:
    """Release a version that passed its gates.

    \b
    modelcd promote flight-delay 3 --to production --reason "the fix is in"
    """
    _run(as_json, lambda c: c.promote(model, version, environment, reason=reason, again=again))


@click.command()
@click.argument("model")
@IN
@click.option("--version", "to", type=int, help="The version to go back to (default: the one before).")
@click.option("--reason", default="", help="Why; it stands in the history.")
@JSON
def rollback(model: str, environment: str, to: int | None, reason: str, as_json: bool) -> None:
    """End the release under way, or bring back the version before.

    \b
    modelcd rollback flight-delay --reason "complaints from the airport"
    """
    _run(as_json, lambda c: c.rollback(model, environment, to=to, reason=reason), good=("promoted", "rolled back"))


@click.command()
@click.argument("model")
@IN
@click.option("--reason", default="", help="Why; it stands in the history.")
def hold(model: str, environment: str, reason: str) -> None:
    """Keep the release under way where it is; guards keep running.

    \b
    modelcd hold flight-delay
    """
    from modelcd.control import connect

    release = connect().hold(model, environment, reason=reason)
    click.echo(f"release {release['release']} is held at {release['share']:g} %; go on: modelcd resume {model}")


@click.command()
@click.argument("model")
@IN
def resume(model: str, environment: str) -> None:
    """Let a held release go on.

    \b
    modelcd resume flight-delay
    """
    from modelcd.control import connect

    release = connect().resume(model, environment)
    click.echo(f"release {release['release']} goes on")


def _run(as_json: bool, verb: Callable[[Any], dict[str, Any]], good: tuple[str, ...] = GOOD) -> None:
    from modelcd.cli.progress import Progress
    from modelcd.control import Control
    from modelcd.workspace import open_workspace

    progress = Progress()
    control = Control(open_workspace(), progress, progress.starting)
    try:
        told = verb(control)
    except KeyboardInterrupt:
        progress.close()
        interrupted(control)
        raise
    finally:
        progress.close()
    if as_json:
        emit(told)
    else:
        click.echo(outcome(told))
    sys.exit(0 if told["ending"] in good else 1)


def outcome(told: dict[str, Any]) -> str:
    """Say in one or two lines how a flow ended."""
    version = f"version {told['version']} of {told['model']}" if told.get("version") else told.get("model", "")
    ending = str(told["ending"])
    lines = [f"{ending.upper()}  {version}   {told['why']}"]
    exposed = told.get("exposed") or {}
    if ending == "rolled back" and exposed.get("requests"):
        seen = exposed["failures"] - exposed["rescued"]
        lines.append(
            f"  {exposed['requests']:,} requests were given to it, {exposed['failures']:,} failed:"
            f" {exposed['rescued']:,} of them were answered by the champion, {seen:,} failed for users"
        )
    if told.get("release"):
        lines.append(f"  modelcd explain {told['release']}")
    return "\n".join(lines)


def interrupted(control: Any) -> None:
    """Say where the releases under way stand after Ctrl-C."""
    for line in control.status():
        if release := line["under_way"]:
            click.echo(
                f"\nrelease {release['release']} of version {release['version']} stands at {release['share']:g} % in"
                f" {line['environment']} and goes on in the background.\n"
                f"  watch it: modelcd status   end it: modelcd rollback {line['model']}",
                err=True,
            )
            return
    click.echo("\nstopped; nothing was under way in production. Start again: modelcd deliver", err=True)
