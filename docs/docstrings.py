"""The public surface as its docstrings tell it: what is in it, what is missing in them, and how they are rendered.

griffe reads them (Google's sections).  What renders them stands here, since the pages are read in the repository and
not on a site: ready-made renderers give every field a heading of its own, and repeat each name in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

import modelcd

PIPELINE = (
    "Model",
    "Dataset",
    "Gate",
    "Canary",
    "guard",
    "domain.policy.Guard",
    "OnDoubt",
    "Acceptance",
    "Budgets",
    "Retrain",
)
CONTROL = ("connect", "control.Control", "planning.Given")
"""What is public, in the order in which one meets it; what else `modelcd.__all__` has comes after the first."""

SECTIONS = griffe.DocstringSectionKind
KEYWORD, STARRED = (
    griffe.ParameterKind.keyword_only,
    (
        griffe.ParameterKind.var_positional,
        griffe.ParameterKind.var_keyword,
    ),
)

Thing = Any
"""A class, function or attribute as griffe sees it."""


class Reference:
    """The public surface of the package, read from its source."""

    def __init__(self) -> None:
        self.package = griffe.load(
            "modelcd", search_paths=[Path(__file__).parents[1] / "src"], docstring_parser="google"
        )

    def named(self, name: str) -> Thing:
        """Return the thing of that *name*, wherever it is defined."""
        found = self.package[name]
        return found.final_target if found.is_alias else found

    def pipeline(self) -> list[Thing]:
        """Return what a `pipeline.py` is written with."""
        others = [name for name in modelcd.__all__ if name not in (*PIPELINE, *CONTROL)]
        return [self.named(name) for name in (*PIPELINE, *others)]

    def control(self) -> list[Thing]:
        """Return the verbs in Python."""
        return [self.named(name) for name in CONTROL]

    def errors(self) -> list[Thing]:
        """Return every error, in the order of the tree."""
        return list(self.named("errors").classes.values())

    def suites(self) -> list[Thing]:
        """Return the contract suites for authors of backends."""
        modules = sorted(self.named("testing").modules.items())
        things = (thing for _, module in modules for thing in module.classes.values() if not thing.is_alias)
        return [thing for thing in things if thing.name.endswith("Contract")]


def methods(thing: Thing) -> list[Thing]:
    """Return the public functions and properties of the class *thing*, in the order of its source."""
    members = thing.members.values() if thing.is_class else ()
    public = [m for m in members if not m.name.startswith("_") and not m.is_alias]
    return [m for m in public if m.is_function or "property" in m.labels]


def parameters(thing: Thing) -> list[Thing]:
    """Return what a caller gives: no self, no class."""
    if thing.is_attribute:
        return []
    return [p for p in thing.parameters if p.name not in ("self", "cls")]


def sections(thing: Thing) -> dict[griffe.DocstringSectionKind, Any]:
    """Return the parts of the docstring of *thing* by their kind."""
    return {part.kind: part.value for part in thing.docstring.parsed} if thing.docstring else {}


# -- what is missing ---------------------------------------------------------------------------------------------------


def missing(thing: Thing) -> Iterator[str]:
    """Say what the docstring of *thing*, or of one of its methods, lacks."""
    said = sections(thing)
    if SECTIONS.text not in said:
        yield f"{thing.path} has no docstring"
    if SECTIONS.examples not in said and not _error(thing):
        yield f"{thing.path} has no Examples"
    told = [argument.name for argument in said.get(SECTIONS.parameters, ())]
    taken = [argument.name for argument in parameters(thing)]
    if told != taken and not _error(thing):
        wrong = [name for name in told if name not in taken] or [name for name in taken if name not in told]
        yield f"{thing.path}: its Args do not match its signature: {', '.join(wrong) or 'another order'}"
    for method in methods(thing):
        yield from missing(method)


def _error(thing: Thing) -> bool:
    """The example and the arguments of an error are those of the root."""
    return bool(thing.module.path == "modelcd.errors" and thing.name != "ModelcdError")


def doctests(thing: Thing) -> str:
    """Return the examples of *thing*, as one text for doctest."""
    texts = [value for kind, value in sections(thing).get(SECTIONS.examples, ()) if kind is SECTIONS.examples]
    return "\n\n".join(texts)


# -- pages -------------------------------------------------------------------------------------------------------------


def entry(thing: Thing, level: str, owner: str = "") -> Iterator[str]:
    """Yield the lines of *thing*: what it is called with, what it says, an example; then its methods."""
    said = sections(thing)
    name = f"{owner}.{thing.name}" if owner else thing.name
    yield f"{level} {name}\n"
    if parameters(thing) and not _error(thing):
        yield f"```python\n{signature(thing, name)}\n```\n"
    yield said[SECTIONS.text] + "\n"
    if told := said.get(SECTIONS.parameters):
        yield from table(("", "type", "default", "what it is"), (_row(thing, argument) for argument in told))
    if told := said.get(SECTIONS.attributes):
        yield from table(("", "what it is"), ((f"`{a.name}`", flat(a.description)) for a in told))
    for returned in said.get(SECTIONS.returns, ()):
        yield f"**Returns** {flat(returned.description)}\n"
    if told := said.get(SECTIONS.raises):
        yield "**Raises**\n\n" + "".join(f"- `{e.annotation}`: {flat(e.description)}\n" for e in told)
    for kind, text in said.get(SECTIONS.examples, ()):
        yield f"```pycon\n{text}\n```\n" if kind is SECTIONS.examples else f"{text}\n"
    for method in methods(thing):
        yield from entry(method, level + "#", thing.name)


def signature(thing: Thing, name: str) -> str:
    """Return how *thing* is called, over several lines when it is long."""
    given, starred = [], False
    for parameter in parameters(thing):
        if parameter.kind is KEYWORD and not starred:
            given.append("*")
            starred = True
        value = default(thing, parameter)
        given.append(f"{parameter.name}={value}" if value else parameter.name)
    returns = f" -> {thing.returns}" if thing.is_function and thing.returns is not None else ""
    short = f"{name}({', '.join(given)}){returns}"
    lines = "".join(f"    {argument},\n" for argument in given)
    return short if len(short) <= 110 else f"{name}(\n{lines}){returns}"


def default(thing: Thing, parameter: Thing) -> str:
    """Return the default of *parameter* as it is written, of a field if need be; empty when it must be given."""
    value = "" if parameter.default is None else str(parameter.default)
    if thing.is_class and parameter.name in thing.members and value in ("", "..."):
        value = str(thing.members[parameter.name].value or "")
    if value.startswith("field("):
        said = re.search(r"default(_factory)?=(.+?)(?:, (?:kw_only|compare|repr|init)=|\)$)", value)
        value = f"{said[2]}()" if said and said[1] else said[2] if said else ""
    value = re.sub(r"lambda.*", "…", value)
    return {"dict()": "{}", "list()": "[]"}.get(value, value)


def _row(thing: Thing, argument: Any) -> tuple[str, ...]:
    parameter = next(p for p in parameters(thing) if p.name == argument.name)
    value = default(thing, parameter)
    return f"`{argument.name}`", f"`{parameter.annotation}`", f"`{value}`" if value else "", flat(argument.description)


def flat(text: str) -> str:
    """Return *text* on one line."""
    return " ".join(text.split())


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table, a bar inside of a cell escaped."""
    lines = [head, ("---",) * len(head), *rows]
    yield "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
