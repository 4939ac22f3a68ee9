"""Writes docs/reference: `python docs/write_reference.py`, whenever a docstring or a command's help changed.

A test compares what is written with what would be.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
from docstrings import Reference, Thing, entry, flat, table

from modelcd.api.app import application
from modelcd.cli.app import COMMANDS, EPILOG, cli
from modelcd.control import Control

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/write_reference.py from docstrings and help texts: change those. -->\n"

PIPELINE_SAYS = "All of it is imported from `modelcd`: `from modelcd import Model`.\n"
CLI_SAYS = """\
`modelcd COMMAND --help` says the same.  {exits}

An error is one paragraph on standard error: what is wrong, and what to do.  With `--json` it is also an object on
standard output: `{{"error": {{"kind": …, "message": …, "help": …, "exit": …}}}}`.
"""
HTTP_SAYS = """\
The control API of a workspace, on the loopback at the port that `modelcd ui` gives.  It asks for the workspace's
credential, as `Authorization: Bearer …` or as the password of the user `modelcd`: `modelcd ui` shows it, and the
workspace's file `token` holds it ([who may ask](../security.md)).  Every error has the form
`{"error": …, "help": …}`.  What a model takes is in [serving](../serving.md).
"""
CONTROL_SAYS = """\
Each verb is also a [command](cli.md).  The examples belong together and are run in this order: `control` is what
`connect()` returned, and `churn` a project in the current folder of which two versions were delivered before.
"""
ERRORS_SAYS = "From `modelcd.errors`.  The three branches are the three exit codes of the command line.\n\n{tree}"
TESTING_SAYS = """\
What an adapter of a port must do (`modelcd.ports`), as pytest classes.  Subclass the suite of your port, give the
fixtures that its module names, add nothing:

```python
import pytest

from modelcd.adapters.memory import MemoryClock
from modelcd.testing.clock import ClockContract


class TestMyClock(ClockContract):
    @pytest.fixture
    def clock(self):
        return MemoryClock()  # yours here
```
"""


def pages() -> dict[str, str]:
    """Return every page of the reference, by its file name."""
    reference = Reference()
    return {
        "pipeline.md": page("What pipeline.py is written with", PIPELINE_SAYS, reference.pipeline()),
        "control.md": page("The verbs in Python", CONTROL_SAYS, reference.control()),
        "errors.md": page("Errors", ERRORS_SAYS.format(tree=tree(reference)), reference.errors()),
        "testing.md": page("Contract suites for backends", TESTING_SAYS, []) + suites(reference),
        "cli.md": page("Commands", CLI_SAYS.format(exits=EPILOG), []) + "\n" + "\n".join(commands()),
        "http.md": page("HTTP", HTTP_SAYS, []) + "\n" + "\n".join(calls()),
    }


def page(title: str, says: str, things: list[Thing]) -> str:
    """Return a page with an entry for each of *things*."""
    contents = ", ".join(f"[{thing.name}](#{thing.name.lower()})" for thing in things)
    head = [MADE, f"# {title}\n", says, f"{contents}\n"] if things else [MADE, f"# {title}\n", says]
    return "\n".join([*head, *(text for thing in things for text in entry(thing, "##"))])


def tree(reference: Reference) -> str:
    """Return the tree of errors as `modelcd.errors` draws it."""
    text = str(reference.named("errors").docstring.value)
    block = text.split("::\n\n")[1].split("\n\nEvery")[0]
    return f"```text\n{textwrap.dedent(block)}\n```\n"


def suites(reference: Reference) -> str:
    """Return the table of contract suites."""
    rows = (
        (f"`{thing.module.path}.{thing.name}`", flat(thing.docstring.value).split(":")[0])
        for thing in reference.suites()
    )
    return "\n" + "".join(table(("suite", "what it checks"), rows))


def commands() -> Iterator[str]:
    """Yield an entry for each command, from its help."""
    with click.Context(cli) as ctx:
        yield "## modelcd\n"
        yield from _options(cli)
        for name in COMMANDS:
            command = cli.get_command(ctx, name)
            assert command is not None, f"there is no command {name}"
            before, _, rest = (command.help or "").partition("\b\n")
            example, _, after = rest.partition("\n\n")
            yield f"## modelcd {name}\n"
            yield from (f"{flat(text)}\n" for text in before.split("\n\n") if text.strip())
            yield f"```sh\n{_commented(textwrap.dedent(example).strip())}\n```\n"
            if arguments := [p.make_metavar(ctx) for p in command.params if isinstance(p, click.Argument)]:
                yield f"Arguments: `{' '.join(arguments)}`\n"
            yield from (f"{flat(text)}\n" for text in after.split("\n\n") if text.strip())
            yield from _options(command)


def _commented(example: str) -> str:
    """Return *example* with what is said of a line behind a `#`."""
    return re.sub(r"(?m)(?<=\S)(  +)(?=\S)", r"\1# ", example)


def _options(command: click.Command) -> Iterator[str]:
    with click.Context(command) as ctx:
        told = [option.get_help_record(ctx) for option in command.params]
    rows = [(f"`{names}`", flat(text)) for names, text in filter(None, told) if text]
    if rows:
        yield from table(("option", "what it does"), iter(rows))


def calls() -> Iterator[str]:
    """Yield an entry for each call of the control API, from its description of itself."""
    api = application(cast(Control, None)).openapi()
    for path, methods in api["paths"].items():
        for method, call in methods.items():
            yield f"## {method.upper()} {path}\n"
            yield call["description"] + "\n"
            body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            rows = [(f"`{p['name']}`", p["in"], _schema(p["schema"], api)) for p in call.get("parameters", ())]
            rows += [(f"`{name}`", "body", text) for name, text in _fields(body, api)] if body else []
            if rows:
                yield from table(("", "where", "what it is"), iter(rows))


def _fields(schema: dict[str, Any], api: dict[str, Any]) -> Iterator[tuple[str, str]]:
    found = _resolved(schema, api)
    for name, field in found.get("properties", {}).items():
        yield name, _schema(field, api)
        inner = _resolved(field.get("items", {}), api)
        yield from ((f"{name}[].{key}", text) for key, text in _fields(inner, api))


def _resolved(schema: dict[str, Any], api: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return dict(api["components"]["schemas"][name]) if name else schema


def _schema(schema: dict[str, Any], api: dict[str, Any]) -> str:
    found = _resolved(schema, api)
    kind = found.get("type", "any JSON value")
    bounds = f", {found['maxItems']:,} at most" if "maxItems" in found else ""
    bounds += f", {found['maxLength']:,} characters at most" if "maxLength" in found else ""
    given = f", by default `{json.dumps(schema['default'])}`" if "default" in schema else ""
    said = f": {flat(found['description'])}" if found.get("description") else ""
    return f"{kind}{bounds}{given}{said}"


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text.rstrip() + "\n", encoding="utf-8")
        print(FOLDER / name)
