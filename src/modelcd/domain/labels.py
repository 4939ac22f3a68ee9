"""What a label may be: the kind that a guard declares, or one of its classes; and what no label can be.

A label is checked when it arrives, because a wrong one that is found when it is judged would stand in the way of the
honest ones behind it.  Trade-off: a kind says little (a bool, a list of numbers), so that it can be declared in a word
and checked a hundred thousand times in a blink; what lies between is the guard's function's to refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import GenericAlias
from typing import Any, Final, get_args, get_origin

from modelcd.domain.policy import FROM_LABELS, Guard
from modelcd.domain.words import truth

ID_LIMIT = 200
"""Characters of a prediction's id at most; ours have 32, and the number of the row."""

SIZE_LIMIT = 65_536
"""Bytes of a label as JSON at most: a class, a number, a vector; what is larger is data, not a truth."""

DEEPEST = 20
"""How deep lists and mappings of a label lie in one another at most."""

SHOWN = 60
"""Characters of a refused label that are shown."""

_KINDS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "float": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "str": ("text", lambda value: isinstance(value, str)),
    "list": ("a list", lambda value: isinstance(value, list)),
    "dict": ("a mapping", lambda value: isinstance(value, dict)),
}
_EXAMPLES: Final[Mapping[str, str]] = {
    **(one := {"bool": "true", "int": "3", "float": "0.5", "str": '"late"', "list": "[1, 2]", "dict": '{"a": 1}'}),
    **{f"list[{kind}]": f"[{example}, {example}]" for kind, example in one.items()},
}
_BY_TYPE = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}

_HOW = "label=bool, int, float, str, dict, list[float], or the classes: label=('cat', 'dog')"


def declared(given: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the kind (`"bool"`, `"list[float]"`) and the classes that *given*, what a project wrote, stands for.

    One of the two is empty; both are for None.  Raises `ValueError` for what declares nothing.
    """
    if given is None:
        return "", ()
    if isinstance(given, type) and not isinstance(given, GenericAlias):
        if (kind := _BY_TYPE.get(given)) is None:
            raise ValueError(f"no label is a {given.__name__}: {_HOW}")
        return kind, ()
    if get_origin(given) is list:
        inner, classes = declared(get_args(given)[0])
        if classes or "[" in inner or inner == "dict":
            raise ValueError(f"a list of labels has bool, int, float or str in it: {_HOW}")
        return f"list[{inner}]", ()
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"{given!r} declares no label: {_HOW}")
    classes = tuple(sorted(given, key=str) if isinstance(given, set | frozenset) else given)
    if len(classes) < 2 or not all(isinstance(value, str | int) for value in classes):
        raise ValueError(f"the classes of a label are two or more texts or whole numbers, got {classes!r}")
    return "", classes


def unfit(value: Any, guards: Iterable[Guard]) -> str:
    """Say why *value* is no label for *guards*, in a few words that follow its name; empty when it is one.

    Where none of them declares what a label is, it is true, false, a number or a text.
    """
    if wrong := impossible(value):
        return wrong
    judging = [guard for guard in guards if guard.kind in FROM_LABELS]
    for guard in judging:
        if guard.classes and not any(same(value, known) for known in guard.classes):
            known = ", ".join(json.dumps(one, ensure_ascii=False) for one in guard.classes[:8])
            more = f" and {len(guard.classes) - 8} more" if len(guard.classes) > 8 else ""
            return f"is {shown(value)}, and guard {guard.name!r} knows the classes {known}{more}"
        if guard.label and not _is(guard.label, value):
            return f"is {shown(value)}, and guard {guard.name!r} takes {_said(guard.label)}"
    if not any(guard.classes or guard.label for guard in judging) and isinstance(value, list | dict):
        what = "lists" if isinstance(value, list) else "mappings"
        return f"is {shown(value)}, and nothing says that labels are {what} (a guard does, with label=…)"
    return ""


def instead(value: Any, guards: Iterable[Guard]) -> str:
    """Say what to send instead of *value*, which is `unfit` for *guards*."""
    for guard in (one for one in guards if one.kind in FROM_LABELS and (one.classes or one.label)):
        if guard.classes and not any(same(value, known) for known in guard.classes):
            return f"send one of the classes, such as {json.dumps(guard.classes[0], ensure_ascii=False)}"
        if guard.label == "bool" and isinstance(value, str):
            meant = truth(value)
            if meant is not None:
                return f"{shown(value)} means {json.dumps(meant)}: send {json.dumps(meant)}"
            return (
                "send true or false: prepare in pipeline.py says which word is true, as rows[…] == …"
                f"; if that is {shown(value)}, send true"
            )
        if guard.label and not _is(guard.label, value):
            return f"send {_said(guard.label)}, such as {_EXAMPLES[guard.label]}"
    return "send true, false, a number, a text, or what the guard declares"


def impossible(value: Any) -> str:
    """Say why *value* is no truth at all, whatever a project declares; empty when it may be one."""
    if value is None:
        return "is null, which says nothing: leave the prediction out until its truth is known"
    if isinstance(value, bool) or (isinstance(value, int) and value.bit_length() < 64):
        return ""  # most are; a batch has a hundred thousand
    try:
        if not _shallow(value, DEEPEST):
            return f"has lists or mappings in one another, more than {DEEPEST} deep"
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return "is text that is not Unicode (half a surrogate pair)"
    except ValueError:
        return f"is {shown(value)}: NaN and infinity are no truths"
    except TypeError:
        return f"is no JSON value but a {type(value).__name__}"
    return f"has {size:,} bytes, and {SIZE_LIMIT:,} is the most" if size > SIZE_LIMIT else ""


def _shallow(value: Any, left: int) -> bool:
    if not isinstance(value, list | tuple | dict):
        return True
    items = value.values() if isinstance(value, dict) else value
    return left > 0 and all(_shallow(item, left - 1) for item in items)


def nameless(id: Any) -> str:
    """Say why *id* can be no prediction's; empty when it may be one."""
    if not isinstance(id, str):
        return f"an id is text, got {shown(id)}"
    if not id:
        return "its id is empty: send the one that came with the answer (X-Prediction-Id)"
    if len(id) > ID_LIMIT:
        return f"an id has at most {ID_LIMIT} characters, this one has {len(id):,}"
    return "" if id.isprintable() and id.strip() == id else f"an id is one printable word, got {shown(id)}"


def shown(value: Any) -> str:
    """Return the beginning of *value* as JSON, or as Python writes it."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def same(one: Any, other: Any) -> bool:
    """Say whether two labels are the same truth: true is not 1, but 1 is 1.0."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is(kind: str, value: Any) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_is(kind[5:-1], item) for item in value)
    return _KINDS[kind][1](value)


def _said(kind: str) -> str:
    plural = {"bool": "true and false", "int": "whole numbers", "float": "numbers", "str": "texts"}
    return f"a list of {plural[kind[5:-1]]}" if kind.startswith("list[") else _KINDS[kind][0]
