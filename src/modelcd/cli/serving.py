"""The commands that talk to a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from modelcd.cli.app import Taught, emit
from modelcd.errors import UsageError

SHOWN = 5
"""Refused labels that are told on standard error; the answer itself names more."""

IN = click.option("--in", "environment", default="", help="The environment; by default the last one.")


@click.command(cls=Taught)
@click.argument("model")
@click.argument("rows", default="-")
@IN
def predict(model: str, rows: str, environment: str) -> None:
    """Ask a model's endpoint for one score per row; ROWS is JSON, a file with JSON, or - for standard input.

    \b
    modelcd predict flight-delay '{"carrier": "UA", "dep_delay": 42}'
    """
    from modelcd.control import connect

    emit(connect().predict(model, _rows(rows), environment))


@click.command(cls=Taught)
@click.argument("model")
@click.argument("labels", nargs=-1)
@IN
@click.option("--correct", is_flag=True, help="Replace labels that were told before.")
@click.option("--withdraw", is_flag=True, help="Take the labels of these ids back.")
@click.option("--reason", default="", help="Why labels are changed; verdicts that used them say so.")
def feedback(model: str, labels: tuple[str, ...], environment: str, correct: bool, withdraw: bool, reason: str) -> None:
    """Attach the truth to predictions: ID=LABEL pairs, or JSON lines {"id", "label"} on standard input.

    \b
    modelcd feedback flight-delay 8f3a…=true
    modelcd feedback flight-delay 8f3a…=false --correct --reason "landed after all"
    modelcd feedback flight-delay 8f3a… --withdraw --reason "of another flight"

    Each label is checked by itself: what is refused is told, and keeps no other one out (exit code 1).
    """
    from modelcd.control import connect

    if correct and withdraw:
        raise UsageError("--correct and --withdraw exclude each other", help="run it once for each")
    lines: list[int] = []
    if labels:
        given = [text if withdraw else _pair(text) for text in labels]
    else:
        numbered = [(number, text) for number, text in enumerate(sys.stdin, 1) if text.strip()]
        lines, given = [number for number, _ in numbered], [_line(text) for _, text in numbered]
        given = [_id(item) for item in given] if withdraw else given
    if not given:
        raise UsageError("there are no labels", help="modelcd feedback MODEL ID=LABEL …")
    changed: dict[str, Any] = {"withdraw": given} if withdraw else {"labels": given}
    told = connect().feedback(model, environment=environment, correct=correct, reason=reason, **changed)
    emit(told)
    if told["refused"]:
        _tell_refused(told, lines)
        sys.exit(1)


def _tell_refused(told: dict[str, Any], lines: list[int]) -> None:
    """Say on standard error how many labels were refused, and why the first of them were."""
    kept = len(lines) - told["refused"] if lines else None
    rest = {None: "", 0: "; none was kept", 1: "; the other one was kept"}.get(
        kept, f"; the other {kept or 0:,} were kept"
    )
    count = f"{told['refused']:,} label{'s were' if told['refused'] > 1 else ' was'} refused"
    click.echo(f"error: {count}{rest}", err=True)
    for problem in told["problems"][:SHOWN]:
        where = f"line {lines[problem['index']]:,}: " if lines else ""
        click.echo(f"  {where}{problem['id'] or '(no id)'}: {problem['why']}\n    help: {problem['help']}", err=True)
    if (more := told["refused"] - SHOWN) > 0:
        click.echo(f"  and {more:,} more", err=True)


@click.command(cls=Taught)
@click.argument("model")
@click.argument("version", type=int)
@IN
@click.option("--lines", default=50, show_default=True, help="How many of the newest lines.")
def logs(model: str, version: int, environment: str, lines: int) -> None:
    """Show what a version printed.

    \b
    modelcd logs flight-delay 3
    """
    from modelcd.control import connect

    click.echo(connect().log(model, version, environment, lines))


def _rows(text: str) -> list[dict[str, Any]]:
    if text == "-":
        text = sys.stdin.read()
    elif not text.lstrip().startswith(("{", "[")):
        path = Path(text)
        if not path.is_file():
            raise UsageError(f"{text!r} is neither JSON nor a file", help="give a row as JSON, a file, or - for stdin")
        text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the rows are not JSON: {error}", help='a row is like {"carrier": "UA"}') from error
    rows = found.get("rows", [found]) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError("rows are JSON objects, alone or in a list")
    return rows


def _pair(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found:
        raise UsageError(f"{text!r} is not ID=LABEL", help="modelcd feedback MODEL ID=LABEL …")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _line(text: str) -> Any:
    """Return what a line says; one that is no JSON as it stands, to be refused by name."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def _id(item: Any) -> Any:
    return item["id"] if isinstance(item, dict) and "id" in item else item
