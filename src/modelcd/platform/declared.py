"""Which environments a workspace has, and in which order: what its `environments.py` says.

It is the code of whoever owns the platform, run in our process, and read where they put it: in the workspace, or where
`MODELCD_ENVIRONMENTS` names it.  The workspace remembers that name, so that every process of it reads the same file.
The file beside a person's own `pipeline.py` becomes a new workspace's; nothing that a server runs ever reads one.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from modelcd.domain.promotion import RESERVED
from modelcd.domain.versions import LONGEST, valid_model_name
from modelcd.environments.kind import Kind
from modelcd.environments.laptop import Laptop
from modelcd.errors import ConfigurationError
from modelcd.workspace import Workspace

VARIABLE = "MODELCD_ENVIRONMENTS"
FILE = "environments.py"
DEFAULT: tuple[Kind, ...] = (Laptop("staging"), Laptop("production"))
"""What a workspace has without a file."""

MEND = "put that right; until then all that runs goes on as before"
AN_EXAMPLE = 'environments = [Laptop("staging"), Laptop("production")]'


def declared(workspace: Workspace) -> tuple[Kind, ...]:
    """Return the environments of *workspace* in the order of a promotion.

    Raises `ConfigurationError` for a file that cannot be read as such, with the line that is wrong in it.
    """
    file = file_of(workspace)
    return _read(file) if file is not None else DEFAULT


def whence(workspace: Workspace) -> list[str]:
    """Return for each environment of *workspace* which file and line says that it is there."""
    file = file_of(workspace)
    if file is None:
        return ["the default"] * len(DEFAULT)
    lines = _lines(_text(file))
    return [f"{file}{_line(lines, place)}" for place, _ in enumerate(_read(file))]


def file_of(workspace: Workspace) -> Path | None:
    """Return the file that says which environments *workspace* has, if there is one.

    Raises `ConfigurationError` when `MODELCD_ENVIRONMENTS` names another file than the workspace knows.
    """
    given, own = os.environ.get(VARIABLE, ""), workspace.path / FILE
    known = workspace.environments or (str(own) if own.is_file() else "")
    if given:
        wanted = str(Path(given).expanduser().resolve())
        if known and wanted != known and Path(known).is_file():
            raise ConfigurationError(
                f"the environments of the workspace {workspace.path} are those of {known}, not of {wanted}",
                help="change that file, or use another workspace with --workspace",
            )
        if wanted != known:
            _read(Path(wanted))
            workspace.use_environments(Path(wanted))
        known = wanted
    return Path(known) if known else None


def adopt(workspace: Workspace, project: Path, used: Callable[[], bool]) -> None:
    """Let the file beside the `pipeline.py` in *project* say which environments a new *workspace* has.

    Raises `ConfigurationError` when others hold already: those of another file, or the usual ones of a workspace that
    is *used*.
    """
    beside, known = project / FILE, file_of(workspace)
    if not beside.is_file() or (known is not None and _same(beside, known)):
        return
    if known is not None or used():
        what = f"those of {known}" if known else "the usual ones, and models stand there"
        raise ConfigurationError(
            f"{beside} names environments, and those of the workspace {workspace.path} are {what}",
            help="deliver into a workspace of its own with --workspace, or remove that file from the project",
        )
    _read(beside)
    workspace.use_environments(beside)


def _same(one: Path, other: Path) -> bool:
    return one.samefile(other) if other.is_file() else False


def _read(file: Path) -> tuple[Kind, ...]:
    return _kinds(file, _text(file))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"{file}, which says which environments there are, cannot be read: {why}",
            help=f"put it there, or name the file that there is: --environments FILE, or {VARIABLE}",
        ) from error


@lru_cache(maxsize=8)
def _kinds(file: Path, text: str) -> tuple[Kind, ...]:
    """Return what *text* of *file* says: the very same objects as long as it is the same text."""
    found = _run(file, text)
    if "environments" not in found:
        raise ConfigurationError(f"{file} has no `environments`", help=f"write {AN_EXAMPLE}")
    kinds, lines = found["environments"], _lines(text)
    if not isinstance(kinds, (list, tuple)) or not kinds:
        raise ConfigurationError(
            f"{file}{_line(lines, 0)}: environments is a list with at least one environment", help=f"write {AN_EXAMPLE}"
        )
    seen: set[str] = set()
    for place, kind in enumerate(kinds):
        at = f"{file}{_line(lines, place)}"
        name = getattr(kind, "name", None)
        if not isinstance(name, str) or not callable(getattr(kind, "bind", None)):
            raise ConfigurationError(
                f"{at}: {kind!r} is no environment", help="an environment has a name and bind(site); write Laptop(…)"
            )
        if "/" in name or not valid_model_name(name) or name in RESERVED:
            what = f"{name!r} is kept for other things" if name in RESERVED else f"{name!r} is no name"
            raise ConfigurationError(
                f"{at}: {what}",
                help=f"a name has at most {LONGEST} lower case letters, digits and dashes: production, canary-eu",
            )
        if name in seen:
            raise ConfigurationError(f"{at}: a second environment {name!r}", help="give each a name of its own")
        seen.add(name)
    return tuple(kinds)


def _run(file: Path, text: str) -> Mapping[str, Any]:
    """Run the *text* of *file* and return what it defines; what lies beside it can be imported by it."""
    try:
        code = compile(text, str(file), "exec")
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigurationError(f"{file}{line}: {getattr(error, 'msg', error)}", help=MEND) from error
    found: dict[str, Any] = {"__name__": "environments", "__file__": str(file)}
    with _beside(file):
        try:
            exec(code, found)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((f", line {frame.lineno}" for frame in reversed(frames) if frame.filename == str(file)), "")
            raise ConfigurationError(f"{file}{line}: {type(error).__name__}: {error}", help=MEND) from error
    return found


@contextlib.contextmanager
def _beside(file: Path) -> Iterator[None]:
    sys.path.insert(0, str(file.parent))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(file.parent))


def _lines(text: str) -> Sequence[int]:
    """Return the line of each environment in *text*, as far as they stand there as a list."""
    for statement in reversed(ast.parse(text).body):
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, (ast.List, ast.Tuple)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "environments" for target in targets):
                return [element.lineno for element in statement.value.elts] or [statement.lineno]
    return []


def _line(lines: Sequence[int], place: int) -> str:
    return f", line {lines[place]}" if place < len(lines) else ""
