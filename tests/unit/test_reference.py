"""The reference says what the docstrings say, of everything that is public, and its examples run."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import griffe
import pytest
from docstrings import Reference, Thing, doctests, methods, missing
from write_reference import FOLDER, pages

PUBLIC = Reference()
HERE = [*PUBLIC.pipeline(), *PUBLIC.errors(), PUBLIC.named("planning.Given")]
"""What needs no workspace; the verbs are run in tests/e2e/test_reference_examples.py."""


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return {name: text.rstrip() + "\n" for name, text in pages().items()}


def test_the_reference_says_what_docstrings_and_help_say(written: dict[str, str]) -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}

    stale = sorted(name for name in kept.keys() | written.keys() if kept.get(name) != written.get(name))
    assert stale == [], "run: python docs/write_reference.py"


def test_everything_public_has_a_docstring_with_its_arguments_and_an_example() -> None:
    assert [gap for thing in (*HERE, *PUBLIC.control()) for gap in missing(thing)] == []
    assert [suite.path for suite in PUBLIC.suites() if not suite.docstring] == []


def test_whatever_a_public_signature_names_of_ours_is_public_too() -> None:
    known = {thing.path for thing in (*HERE, *PUBLIC.control())}
    internal = {"modelcd.domain.policy.GuardKind", "modelcd.domain.policy.Bound", "modelcd.domain.routing.Unit"}
    behind = {"modelcd.workspace.Workspace", "modelcd.control.Plain"}
    things = [thing for owner in (*HERE, *PUBLIC.control()) for thing in (owner, *methods(owner))]

    assert {name for thing in things for name in named_by(thing)} - known - internal - behind == set()


def named_by(thing: Thing) -> set[str]:
    """Return what is ours in the signature of *thing*."""
    said = [p.annotation for p in thing.parameters] if not thing.is_attribute else []
    said += [thing.returns] if thing.is_function else []
    parts = [part for part in said if isinstance(part, griffe.Expr)]
    names = [name for part in parts for name in (part, *part.iterate()) if isinstance(name, griffe.ExprName)]
    return {path for name in names if (path := name.canonical_path).startswith("modelcd.")}


@pytest.mark.parametrize("name", [thing.path for thing in HERE])
def test_the_examples_of_the_reference_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    thing = PUBLIC.named(name.removeprefix("modelcd."))
    names: dict[str, Any] = {}
    for each in (thing, *methods(thing)):
        ran = run(each, names)

        assert ran.failed == 0


def run(thing: Thing, names: dict[str, Any]) -> doctest.TestResults:
    """Run the examples of *thing* over *names*, which keep what they define."""
    test = doctest.DocTestParser().get_doctest(doctests(thing), names, thing.path, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    ended = runner.run(test, clear_globs=False)
    names.update(test.globs)
    return ended


@pytest.mark.parametrize(
    ("docstring", "gap"),
    [
        ('"""Do it."""', "has no Examples"),
        ('"""Do it.\n\n    Examples:\n        >>> 1\n        1\n    """', "do not match its signature: wish"),
        ('"""Do it.\n\n    Args:\n        wihs: It.\n\n    Examples:\n        >>> 1\n        1\n    """', "wihs"),
        ("...", "has no docstring"),
    ],
)
def test_a_docstring_that_lacks_something_is_named(docstring: str, gap: str) -> None:
    code = f"def do(wish):\n    {docstring}\n"
    with griffe.temporary_visited_module(code, docstring_parser="google") as module:
        assert any(gap in said for said in missing(module["do"]))
