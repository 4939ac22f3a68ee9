"""Which variables of the environment a project wants, read from `pipeline.py` before any of its code runs.

The child that runs the code gets them when it is started, so they have to be known by then; therefore
`Model(environment=("FEATURES_URL",))` is read as text, and has to be written out.  Only names are read, kept and
recorded, never values.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from pathlib import Path

from modelcd.errors import ProjectError
from modelcd.project.slicing import PIPELINE, parsed


def named(project: Path) -> tuple[str, ...]:
    """Return the names in `Model(environment=…)` of the project at *project*; none where nothing can be read."""
    try:
        tree = parsed((project / PIPELINE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return ()  # running it says what is wrong with it, and where
    given = [
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and "Model" in (getattr(call.func, "id", ""), getattr(call.func, "attr", ""))
        for keyword in call.keywords
        if keyword.arg == "environment"
    ]
    constants = [one for value in given for one in getattr(value, "elts", ())]
    return tuple(dict.fromkeys(str(c.value) for c in constants if isinstance(c, ast.Constant)))


def refuse_unread(project: Path, declared: Collection[str]) -> None:
    """Raise `ProjectError` when a name of *declared* does not stand in the text, and so was not passed."""
    if unread := sorted({*declared} - {*named(project)}):
        raise ProjectError(
            f"environment= names {', '.join(unread)}, which does not stand there as text",
            help='write the names out in Model(…): environment=("FEATURES_URL", "FEATURES_KEY")',
        )


def missing(project: Path, environment: Mapping[str, str]) -> list[str]:
    """Return which of the named variables are not in *environment*."""
    return [name for name in named(project) if name not in environment]
