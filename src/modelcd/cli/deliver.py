"""The commands that move versions."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from modelcd.cli import exit_after
from modelcd.cli.app import Taught, emit
from modelcd.domain.telling import counted
from modelcd.domain.verdict import Verdict
from modelcd.errors import ModelcdError

ENVIRONMENT = click.option("--to", "environment", default="", help="The environment; by default the last one.")
IN = click.option("--in", "environment", default="", help="The environment; by default the last one.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
PROJECT = click.argument("project", type=click.Path(path_type=Path), default=Path())
GOOD = ("promoted", "nothing new")

ENDINGS = (signal.SIGINT, signal.SIGTERM)
LAST_WORDS = 3.0
"""Seconds that what runs inside an interrupted command has for its own ending."""


@click.command(cls=Taught)
@PROJECT
@click.option("--reason", default="", help="Why; it stands in the history.")
@click.option("--again", default="", metavar="REASON", help="Try a version again that was rejected, and why.")
@JSON
def deliver(project: Path, reason: str, again: str, as_json: bool) -> None:
    """Build, validate and release a project.

    \b
    modelcd deliver                          the project in this folder
    modelcd deliver flights --again "fixed the feature store"
    """
    _run(as_json, lambda control: control.deliver(project, reason=reason, again=again))


@click.command(cls=Taught)
@PROJECT
@JSON
def retrain(project: Path, as_json: bool) -> None:
    """Deliver the project if there are data that its champion has not seen.

    \b
    modelcd retrain                          the project in this folder
    """
    _run(as_json, lambda control: control.retrain(project))


@click.command(cls=Taught)
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


@click.command(cls=Taught)
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
    _run(as_json, lambda c: c.rollback(model, environment, to=to, reason=reason), good=("rolled back",))


@click.command(cls=Taught)
@click.argument("model")
@IN
@click.option("--reason", default="", help="Why; it stands in the history.")
def hold(model: str, environment: str, reason: str) -> None:
    """Take over: nothing moves and nothing is put right; guards keep running.

    \b
    modelcd hold flight-delay
    """
    from modelcd.control import connect

    line = connect().hold(model, environment, reason=reason)
    release = line["under_way"]
    what = f"release {release['release']} is held at {release['share']:g} %" if release else f"{model} is held"
    click.echo(f"{what}; let modelcd go on: modelcd release {model}")


@click.command(cls=Taught)
@click.argument("model")
@IN
def release(model: str, environment: str) -> None:
    """End a hold: modelcd goes on where it stood.

    \b
    modelcd release flight-delay
    """
    from modelcd.control import connect

    release = connect().release(model, environment)["under_way"]
    click.echo(f"release {release['release']} goes on" if release else f"{model} is in modelcd's hands again")


def _run(as_json: bool, verb: Callable[[Any], dict[str, Any]], good: tuple[str, ...] = GOOD) -> None:
    from modelcd.cli.progress import Progress
    from modelcd.control import Control
    from modelcd.workspace import open_workspace

    logging.raiseExceptions = False  # Prefect's log handler says on stderr when its server cannot be told
    progress = Progress()
    control = Control(open_workspace(), progress, progress.starting)
    try:
        with _signals(progress, control):
            told = verb(control)
    finally:
        progress.close()
    if as_json:
        emit(told)
    else:
        click.echo(outcome(told))
    sys.exit(0 if told["ending"] in good else 1)


@contextmanager
def _signals(progress: Any, control: Any) -> Iterator[None]:
    """Answer Ctrl-C and SIGTERM: say where things stand and be gone soon; the second time at once."""
    code = 0

    def stop(number: int, _: object) -> None:
        nonlocal code
        code = 128 + number
        for ending in ENDINGS:
            signal.signal(ending, lambda *_: os._exit(code))
        progress.close()
        # Raised wherever the main thread happens to be, in a callback of the interpreter's as well: no news for people.
        sys.unraisablehook = lambda _: None
        with suppress(ModelcdError):
            interrupted(control)
        exit_after(LAST_WORDS, code)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in ENDINGS}
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(code or 128 + signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outcome(told: dict[str, Any]) -> str:
    """Say in one or two lines how a flow ended; what its steps have said already is not said again."""
    version = f"version {told['version']} of {told['model']}" if told.get("version") else told.get("model", "")
    ending = str(told["ending"])
    lines = [f"{ending.upper()}  {version}   {_stopped(told) if ending == 'stopped' else told['why']}"]
    exposed = told.get("exposed") or {}
    if ending == "rolled back" and told.get("takes_out"):
        out = f"version {told['takes_out']} of {told['model']}"
        lines = [f"ROLLED BACK  {out}: version {told['version']} serves   {told['why']}"]
    elif ending == "rolled back" and exposed.get("requests"):
        seen = exposed["failures"] - exposed["rescued"]
        lines.append(
            f"  {counted(exposed['requests'], 'request')} went to it, {exposed['failures']:,} failed:"
            f" {exposed['rescued']:,} of them were answered by the champion, {seen:,} failed for users"
        )
    if found := told.get("release") or (ending == "stopped" and told["delivery"]):
        lines.append(f"  modelcd explain {found}")
    return "\n".join(lines)


def _stopped(told: dict[str, Any]) -> str:
    """Say at which step, and which of several checks said no."""
    findings = told["findings"]
    bad = [str(finding["name"]) for finding in findings if finding["verdict"] != Verdict.PASS]
    which = f": {len(bad)} of {len(findings)} did not pass ({', '.join(bad)})" if len(findings) > 1 else ""
    return f"at {told['at']}{which}"


def interrupted(control: Any) -> None:
    """Say where the releases under way stand, and who goes on with them."""
    lives = control.services()["control"]["alive"]
    onward = "goes on in the background" if lives else "goes on with the next: modelcd up"
    under_way = [line for line in control.status() if line["under_way"]]
    for line in under_way:
        release = line["under_way"]
        click.echo(
            f"\nrelease {release['release']} of version {release['version']} stands at {release['share']:g} % in"
            f" {line['environment']} and {onward}.\n"
            f"  watch it: modelcd status   end it: modelcd rollback {line['model']}",
            err=True,
        )
    if not under_way:
        click.echo("\nstopped; no release was under way. Start again: modelcd deliver", err=True)
