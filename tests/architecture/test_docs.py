"""What the documents and our own messages tell people to type exists, and the files they name are there."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.testing import CliRunner
from documents import DOCUMENTS, LINES, ROOT

from modelcd.cli.app import COMMANDS, SUMMARIES, cli


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that *words* begin with, and the rest of them."""
    with click.Context(cli) as ctx:
        if words[0].startswith("--"):
            return cli, words
        found = cli.get_command(ctx, words[0])
    assert found is not None, f"there is no command {words[0]!r}"
    return found, words[1:]


@pytest.mark.parametrize(("document", "line"), LINES, ids=[f"{name}: {line}" for name, line in LINES])
def test_what_a_document_tells_people_to_type_can_be_typed(document: str, line: str) -> None:
    command, rest = command_of(shlex.split(line))

    with click.Context(command, ignore_unknown_options=False) as ctx:
        left = command.make_parser(ctx).parse_args(rest)[1] if command is not cli else []

    assert left == []


def test_the_readme_names_enough_commands_to_find_them_all() -> None:
    named = {line.split()[0] for document, line in LINES if document == "README.md"}

    assert {"demo", "init", "check", "deliver", "status", "explain", "rollback", "down"} <= named


def test_every_command_has_a_summary_and_help_that_begins_with_an_example() -> None:
    assert set(SUMMARIES) == set(COMMANDS)
    for name in COMMANDS:
        said = CliRunner().invoke(cli, [name, "--help"])

        assert said.exit_code == 0, said.output
        assert f"modelcd {name}" in said.output


def test_every_command_that_a_message_of_ours_names_exists() -> None:
    unknown = {
        f"{path.relative_to(ROOT)}: modelcd {name}"
        for folder in ("src", "flows", "environments")
        for path in (ROOT / folder).rglob("*.py")
        for text in re.findall(r'help=f?"([^"]*)"', path.read_text(encoding="utf-8"))
        for name in re.findall(r"(?:^|: |; |`)modelcd ([a-z]+)", text)
        if name not in COMMANDS
    }

    assert unknown == set()


def test_every_link_inside_the_documents_leads_to_a_file() -> None:
    broken = [
        f"{document.name}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]

    assert broken == []


def test_every_file_and_test_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    places = (ROOT, ROOT / "src" / "modelcd", ROOT / "examples" / "01-flights")
    files = [name for name in re.findall(r"`([\w./-]+\.py)`", text) if not any((p / name).is_file() for p in places)]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in tests]

    assert files + named == []


def test_the_architecture_stays_short_enough_to_be_read() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 250
