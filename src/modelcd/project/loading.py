"""Loads `pipeline.py` in the child and says of a mistake in it where it is and what to do.

This is the one door through which the user's file comes in: whatever it raises while it is read becomes a
`ProjectError` with file and line.  What its functions raise when they are called is another matter: see `calling`.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelcd.domain.policy import Canary, by_environment, for_environment
from modelcd.errors import ChildError, ModelcdError, ProjectError
from modelcd.project.declare import Dataset, Model, guard, nearest

PIPELINE = "pipeline.py"
UNREADABLE = f"is {PIPELINE} a text file (UTF-8), and can it be read?"
SAID = 300
"""Characters of what an error says that are told; the traceback, shown with --debug, has all of it."""


def load(project: Path) -> Model:
    """Run the project's `pipeline.py` and return its model; raises `ProjectError` with file and line."""
    if not (project / PIPELINE).is_file():
        raise ProjectError(f"there is no {PIPELINE} in {project.name}/", help="go to the project's folder, or name it")
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    with reading(project):
        module = importlib.import_module("pipeline")
    model = getattr(module, "model", None)
    others = [name for name, value in vars(module).items() if isinstance(value, Model) and value is not model]
    if isinstance(model, Model) and others:
        raise ProjectError(
            f"{PIPELINE} has two models, model and {others[0]}, and a project delivers one",
            help=f"give {others[0]} a project of its own: a folder with its own {PIPELINE}",
        )
    if isinstance(model, Model):
        _refuse_lost(ast.parse((project / PIPELINE).read_bytes()).body)
        return model
    if others:
        raise ProjectError(f"{PIPELINE} calls its model {others[0]!r}", help=f"name it model: model = {others[0]}")
    raise ProjectError(f"{PIPELINE} defines no model", help='end it with model = Model(name="…", …)')


def _refuse_lost(statements: Sequence[ast.stmt]) -> None:
    """Raise `ProjectError` for a Model that another one replaces before anything has read it."""
    unread: ast.stmt | None = None
    for statement in statements:
        if unread is not None and _reads_model(statement):
            unread = None
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _assigned(statement):
            if unread is not None:
                raise ProjectError(
                    f"{PIPELINE}, line {statement.lineno} replaces the model of line {unread.lineno},"
                    " and a project delivers one",
                    help=f"take one of the two away, or give it a project of its own: a folder with its own {PIPELINE}",
                )
            value = statement.value
            made = isinstance(value, ast.Call) and getattr(value.func, "attr", getattr(value.func, "id", "")) == "Model"
            unread = statement if made else None


def _assigned(statement: ast.Assign | ast.AnnAssign) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return any(isinstance(target, ast.Name) and target.id == "model" for target in targets)


def _reads_model(node: ast.AST) -> bool:
    """Say whether *node* reads the name `model`; a function that has a local one of that name does not."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        inside = list(ast.walk(node))
        names = {name.id for name in inside if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
        if "model" in names | {argument.arg for argument in inside if isinstance(argument, ast.arg)}:
            return False
    if isinstance(node, ast.Name):
        return node.id == "model" and isinstance(node.ctx, ast.Load)
    return any(map(_reads_model, ast.iter_child_nodes(node)))


def load_policy(file: Path, environment: str) -> Canary:
    """Run *file* and return its rollout into *environment*, or that of its model.

    Raises `ProjectError` with file and line.
    """
    if not file.is_file():
        raise ProjectError(f"there is no file {file.name} in {file.parent.name}/", help="rollout = Canary(…) is enough")
    sys.path.insert(0, str(file.parent))
    with reading(file.parent, file.name):
        spec = importlib.util.spec_from_file_location("modelcd_policy", file)
        if spec is None or spec.loader is None:
            raise ProjectError(f"{file.name} is no Python file", help="a policy is a file like other.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    found = getattr(module, "rollout", None)
    if isinstance(model := getattr(module, "model", None), Model) and not isinstance(found, Canary | Mapping):
        found = model.rollout
    found = for_environment(environment, by_environment(found or {}))
    if not isinstance(found, Canary):
        raise ProjectError(
            f"{file.name} has no rollout into {environment}",
            help="write rollout = Canary(shares=…, guards=[…]), or name a pipeline.py",
        )
    return found


@contextmanager
def reading(project: Path, file: str = PIPELINE) -> Iterator[None]:
    """Translate whatever the project's files, *file* first, raise while they are imported."""
    try:
        yield
    except MemoryError:
        raise
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        where = f"{_name(error.filename or file, project)}{line}"
        raise ProjectError(f"{where}: {error.msg}", help=(error.text or "").strip()) from error
    except ModelcdError as error:
        raise ProjectError(_at(error, project, file) + error.message, help=error.help) from error
    except SystemExit as error:
        raise ProjectError(
            f"{_at(error, project, file)}called exit({'' if error.code is None else error.code}) while it was read",
            help=f"{PIPELINE} only describes: what is to happen stands in functions",
        ) from error
    except Exception as error:
        message, advice = _explained(error)
        raise ProjectError(
            _at(error, project, file) + message, help=advice or _context(error, project) or UNREADABLE
        ) from error


@contextmanager
def calling(what: str, project: Path) -> Iterator[None]:
    """Translate whatever a function of the project, described by *what*, raises into a `ChildError`."""
    try:
        yield
    except (MemoryError, ModelcdError):
        raise
    except SystemExit as error:
        where = location(error, project)
        called = f"{what} called exit({'' if error.code is None else error.code})"
        raise ChildError(called + (f" ({where})" if where else ""), help=_context(error, project)) from error
    except BaseException as error:
        where = location(error, project)
        said = " ".join(str(error).split())
        said = said if len(said) <= SAID else said[: SAID - 1] + "…"
        message = f"{what} raised {type(error).__name__}" + (f": {said}" if said else "")
        failed = ChildError(message + (f" ({where})" if where else ""), help=_context(error, project))
        failed.add_note("".join(traceback.format_exception(error)))
        raise failed from error


def location(error: BaseException, project: Path) -> str:
    """Return `file, line N` of the innermost of the project's lines that *error* passed; empty without one."""
    frames = _own(error, project)
    return f"{_name(frames[-1].filename, project)}, line {frames[-1].lineno}" if frames else ""


def _own(error: BaseException, project: Path) -> list[traceback.FrameSummary]:
    """Return the project's own lines that *error* passed; an environment inside its folder is not the project's."""
    root, passed = f"{project}/", traceback.extract_tb(error.__traceback__)
    return [f for f in passed if f.filename.startswith(root) and "site-packages" not in Path(f.filename).parts]


def _at(error: BaseException, project: Path, file: str) -> str:
    return f"{location(error, project) or file}: "


def _name(filename: str, project: Path) -> str:
    path = Path(filename)
    return path.relative_to(project).as_posix() if path.is_relative_to(project) else path.name


def _context(error: BaseException, project: Path) -> str:
    """Return the project's own lines that *error* passed; how Python and modelcd read them helps nobody."""
    frames = _own(error, project)
    if not frames:
        return ""
    if len(frames) == 1:
        return frames[0].line or ""
    return "\n".join(f"{_name(f.filename, project)}, line {f.lineno}: {f.line}" for f in frames)


def _explained(error: Exception) -> tuple[str, str]:
    """Return what is wrong and, where it can be known, what to do."""
    text = str(error) or type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return f"no module is named {error.name!r}", f"install it, or put {error.name}.py beside {PIPELINE}"
    if isinstance(error, ImportError) and (match := re.match(r"cannot import name '(\w+)' from '([\w.]+)'", text)):
        return f"{match[2]} has no {match[1]!r}", nearest(match[1], _names_in(match[2]))
    if isinstance(error, AttributeError) and error.obj is not None and error.name:
        owner = getattr(error.obj, "__name__", type(error.obj).__name__)
        return f"{owner} has no {error.name!r}", nearest(error.name, _public(error.obj))
    if isinstance(error, NameError) and error.name:
        return f"nothing is named {error.name!r}", nearest(error.name, _names_around(error)) or "import or define it"
    if isinstance(error, TypeError) and (
        match := re.match(r"(\w+)\S* got an unexpected keyword argument '(\w+)'", text)
    ):
        return _unknown_keyword(text, match[2])
    if isinstance(error, TypeError) and (match := re.match(r"(\w+)\.__init__\(\) missing", text)):
        advice = "see the first example for a whole model" if match[1] in ("Model", "Dataset") else ""
        return re.sub(r"\.__init__\(\)|keyword-only |positional ", "", text), advice
    if isinstance(error, ValueError):
        message, _, advice = text.partition("; ")
        return message, advice
    return f"{type(error).__name__}: {text}", ""


def _unknown_keyword(text: str, keyword: str) -> tuple[str, str]:
    called = text.split("(")[0].removesuffix(".__init__")
    known = _CALLABLES.get(called)
    if known is None:
        return f"{called} takes no {keyword!r}", ""
    return f"{called} takes no {keyword!r}", nearest(keyword, known)


def _parameters(function: Any) -> list[str]:
    import inspect

    return [name for name in inspect.signature(function).parameters if name != "self"]


def _callables() -> dict[str, list[str]]:
    import modelcd

    classes = (Model, Dataset, modelcd.Canary, modelcd.Gate, modelcd.Acceptance, modelcd.Budgets, modelcd.Retrain)
    known = {cls.__name__: _parameters(cls) for cls in classes}
    for namespace in (guard, modelcd.Gate):
        for name in _public(namespace):
            function = getattr(namespace, name)
            if callable(function):
                known[f"{namespace.__name__}.{name}"] = _parameters(function)
    return known


def _public(owner: Any) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_")]


def _names_in(module: str) -> list[str]:
    found = sys.modules.get(module)
    return [] if found is None else list(getattr(found, "__all__", None) or _public(found))


def _names_around(error: BaseException) -> list[str]:
    step = error.__traceback__
    names: set[str] = set(dir(builtins))
    while step is not None:
        names |= set(step.tb_frame.f_locals)
        if step.tb_next is None:
            names |= set(step.tb_frame.f_globals)
        step = step.tb_next
    return sorted(name for name in names if not name.startswith("_"))


_CALLABLES = _callables()
