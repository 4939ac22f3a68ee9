"""The commands that talk to a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from modelcd.cli.app import Taught, emit
from modelcd.errors import UsageError

IN = click.option("--in", "environment", default="production", show_default=True, help="The environment.")


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
def feedback(model: str, labels: tuple[str, ...], environment: str) -> None:
    """Attach the truth to predictions: ID=LABEL pairs, or JSON lines {"id", "label"} on standard input.

    \b
    modelcd feedback flight-delay 8f3a…=true
    """
    from modelcd.control import connect

    pairs = [_pair(text) for text in labels] or [_line(text) for text in sys.stdin if text.strip()]
    if not pairs:
        raise UsageError("there are no labels", help="modelcd feedback MODEL ID=LABEL …")
    emit(connect().feedback(model, pairs, environment))


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


def _line(text: str) -> tuple[str, Any]:
    try:
        found = json.loads(text)
        return str(found["id"]), found["label"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f'a line is not {{"id": …, "label": …}}: {text.strip()[:60]}') from error
