"""Which part of a project does training reach, and which the policy: two digests, so that one can change alone.

From `pipeline.py` the policy's arguments of `Model(…)` and `Dataset(…)` are cut out; of what remains, only the
top-level statements stay that the model reaches by name.  Files of the project that those import, also inside
functions, belong as a whole.  Comments, docstrings and formatting do not count.  Everything is read, nothing is run.

Wherever reading is not knowing (a statement that could do anything, `eval`, a star import), it stays: training once
too often is cheap, a stale model that is taken for new is not.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import metadata
from pathlib import Path

from modelcd.errors import ProjectError

PIPELINE = "pipeline.py"
ROOT = "model"


class Part(StrEnum):
    """What of a project is looked at."""

    TRAINING = "training"
    POLICY = "policy"
    ALL = "all"


POLICY_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "Model": frozenset({"gates", "acceptance", "rollout", "budgets", "tests"}),
    "Dataset": frozenset({"expectations"}),
}
KEPT_BY_BOTH = frozenset({"name", "data", "pattern", "target"})
"""Arguments without which `Model(…)` or `Dataset(…)` would not be one."""

CANNOT_BE_READ = frozenset({"eval", "exec", "globals", "locals", "vars"})
"""Names with which code reaches what its text does not show."""


@dataclass(frozen=True)
class Slice:
    """A part of a project: `sources` maps its files (relative, `pipeline.py` reduced) to their normalised text.

    `distributions` maps what these files import from outside to the installed version.
    """

    sources: Mapping[str, str]
    distributions: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the project in this part, sorted."""
        return tuple(sorted(self.sources))

    def digest(self, *more: object) -> str:
        """Return sha256 over the sources, the Python and distributions they run with, and *more* JSON values."""
        python = ".".join(map(str, sys.version_info[:3]))
        whole = [dict(self.sources), dict(self.distributions), python, *more]
        text = json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def cut(project: Path, part: Part = Part.TRAINING, seen: Iterable[str] = ()) -> Slice:
    """Read the *part* of *project*; raises `ProjectError` for a file that cannot be parsed.

    *seen* names files that are known to belong although no import shows it.
    """
    trees, outside = _trees(project, part, seen)
    return Slice({name: ast.unparse(_plain(tree)) + "\n" for name, tree in trees.items()}, versions_of(outside))


def _trees(project: Path, part: Part, seen: Iterable[str] = ()) -> tuple[dict[str, ast.Module], set[str]]:
    """Return the files in *part*, parsed, and the top-level modules from outside that they import."""
    pipeline = reduced(_parse(project, PIPELINE), part)
    trees = {PIPELINE: pipeline}
    outside = _reach(project, PIPELINE, pipeline, trees)
    for name in seen:
        if name not in trees:
            trees[name] = _parse(project, name)
            outside |= _reach(project, name, trees[name], trees)
    return trees, outside


def modules_named(project: Path) -> set[str]:
    """Return the dotted names of all that the project's files may import; raises what `cut` raises."""
    trees, _ = _trees(project, Part.ALL)
    return {module for name, tree in trees.items() for module in _imports(name, tree)}


def reduced(module: ast.Module, part: Part) -> ast.Module:
    """Return `pipeline.py`'s *module* with only what *part* reaches; *module* itself is changed."""
    if part is Part.ALL:
        return module
    used = _used(module.body)
    module = _WithoutArguments(_imported_names(module), part).visit(module)
    statements = [s for s in module.body if not _is_text(s)]
    defines = [_defines(statement, used) for statement in statements]
    kept: set[int] = set()
    wanted = {ROOT}
    while new := [k for k, d in enumerate(defines) if k not in kept and (d is None or d & wanted)]:
        kept.update(new)
        wanted |= _used(statements[k] for k in new)
    if wanted & CANNOT_BE_READ:
        return module
    return ast.Module([_narrowed(statements[k], wanted, used) for k in sorted(kept)], [])


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Map the distributions that hold these top-level *modules* to their versions, modelcd left out."""
    found = {name for module in modules for name in distributions().get(module, ())}
    return {name: metadata.version(name) for name in sorted(found) if name != "modelcd"}


@cache
def distributions() -> Mapping[str, list[str]]:
    """Map each top-level module to the distributions that hold it; reading that takes a moment, once."""
    return metadata.packages_distributions()


def parsed(source: bytes | str, name: str = PIPELINE) -> ast.Module:
    """Parse *source*, one at a time: Python 3.11 loses count of the depth when two threads do so (gh-106905)."""
    with _PARSING:
        return ast.parse(source, filename=name)


_PARSING = threading.Lock()


# -- reducing ----------------------------------------------------------------------------------------------------------


def _imported_names(module: ast.Module) -> dict[str, str]:
    """Map names that stand for `Model` and `Dataset` here to these."""
    names = {name: name for name in POLICY_ARGUMENTS}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "modelcd":
            names.update({a.asname or a.name: a.name for a in node.names if a.name in POLICY_ARGUMENTS})
    return names


class _WithoutArguments(ast.NodeTransformer):
    """Drops the arguments of `Model(…)` and `Dataset(…)` that belong to the other part."""

    def __init__(self, names: Mapping[str, str], part: Part) -> None:
        self.names = names
        self.part = part

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        policy = POLICY_ARGUMENTS.get(self.names.get(called, ""))
        if policy is not None:
            node.keywords = [k for k in node.keywords if k.arg is None or self._stays(k.arg, policy)]
        return self.generic_visit(node)

    def _stays(self, argument: str, policy: frozenset[str]) -> bool:
        if self.part is Part.TRAINING:
            return argument not in policy
        return argument in policy or argument in KEPT_BY_BOTH


def _defines(statement: ast.stmt, used: set[str]) -> set[str] | None:
    """Return the names for whose sake *statement* stands there; None when it could do anything.

    An import whose name is *used* nowhere in the file stands there for what it does.
    """
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            names = {_bound(alias) for alias in statement.names}
            return names if names <= used else None
        case ast.Assign():
            return _targets(statement.targets)
        case ast.AnnAssign() | ast.AugAssign():
            return _targets([statement.target])
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return set()
        case _:
            return None


def _narrowed(statement: ast.stmt, wanted: set[str], used: set[str]) -> ast.stmt:
    """Leave away what an import binds for the other part only."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        statement.names = [a for a in statement.names if _bound(a) in wanted or _bound(a) not in used]
    return statement


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _targets(targets: Iterable[ast.expr]) -> set[str] | None:
    names: set[str] = set()
    for target in targets:
        for one in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
            name = _root(one)
            if name is None:
                return None
            names.add(name)
    return names


def _root(target: ast.expr) -> str | None:
    """Return the name in `name`, `*name`, `name[...]`; None for anything else."""
    if isinstance(target, (ast.Subscript, ast.Starred)):
        return _root(target.value)
    return target.id if isinstance(target, ast.Name) else None


def _used(statements: Iterable[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for statement in statements:
        for node in ast.walk(statement):
            match node:
                case ast.Name():
                    names.add(node.id)
                case ast.Global() | ast.Nonlocal():
                    names.update(node.names)
                case _:
                    pass
    return names


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _plain(tree: ast.Module) -> ast.Module:
    """Drop docstrings; comments and formatting are gone already."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            node.body = [s for s in node.body if not _is_text(s)] or (
                [] if isinstance(node, ast.Module) else [ast.Pass()]
            )
    return tree


# -- reaching ----------------------------------------------------------------------------------------------------------


def _reach(project: Path, name: str, tree: ast.Module, trees: dict[str, ast.Module]) -> set[str]:
    """Add the project's files that *tree* imports to *trees*; return the top-level modules from outside."""
    outside: set[str] = set()
    for module in _imports(name, tree):
        inside = _files_of(project, module)
        if inside is None:
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top != "modelcd":
                outside.add(top)
            continue
        for file in inside:
            if file not in trees:
                trees[file] = _parse(project, file)
                outside |= _reach(project, file, trees[file], trees)
    return outside


def _imports(name: str, tree: ast.Module) -> Iterable[str]:
    """Yield the dotted names of every module that *tree*, the file *name*, may import."""
    package = Path(name).parent.parts
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (a.name for a in node.names)
            case ast.ImportFrom():
                above = package[: len(package) - node.level + 1] if node.level else ()
                start = ".".join((*above, *([node.module] if node.module else [])))
                yield from ([start] if start else [])
                yield from (f"{start}.{a.name}".lstrip(".") for a in node.names if a.name != "*")
            case ast.Call(args=[ast.Constant(value=str() as module), *_]) if _is_import_call(node.func):
                yield module


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _files_of(project: Path, module: str) -> list[str] | None:
    """Return the project's files that importing *module* runs; None when it comes from outside."""
    parts = module.split(".")
    if not (project / parts[0]).is_dir() and not (project / f"{parts[0]}.py").is_file():
        return None
    files = []
    for depth in range(1, len(parts) + 1):
        path = Path(*parts[:depth])
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if (project / candidate).is_file():
                files.append(candidate.as_posix())
                break
    return files


def _parse(project: Path, name: str) -> ast.Module:
    try:
        return parsed((project / name).read_bytes(), name)
    except SyntaxError as error:
        raise ProjectError(f"{name}, line {error.lineno}: {error.msg}", help=(error.text or "").strip()) from error
    except (OSError, ValueError) as error:
        raise ProjectError(f"{name} cannot be read: {error}") from error
