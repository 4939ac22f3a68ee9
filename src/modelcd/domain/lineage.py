"""What is different between two versions, part by part: the same, something else, or not known and why.

What was not recorded is unknown.  Nothing here is ever called the same because nothing was found to compare.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelcd.domain.delivery import Builds
from modelcd.domain.versions import CLEAN, DIRTY, brief, marked

SAME, DIFFERS, UNKNOWN = "same", "differs", "unknown"

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Part:
    """How a part of two versions compares: `verdict` is same, differs or unknown, `why` says what is not known.

    `changes` maps what differs to what it was and what it is.
    """

    verdict: str
    why: str = ""
    changes: Mapping[str, Pair] = field(default_factory=dict)


@dataclass(frozen=True)
class FileChange:
    """A file that differs: `kind` is added, removed or changed; `diff` has unified lines, of a text."""

    file: str
    kind: str
    added: int = 0
    removed: int = 0
    diff: tuple[str, ...] = ()
    sizes: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Code:
    """How the code of two versions compares, as `Part`; `files` are those that differ."""

    verdict: str
    why: str = ""
    files: tuple[FileChange, ...] = ()


# -- the parts ---------------------------------------------------------------------------------------------------------


def compared(builds: Builds, old: int, new: int) -> dict[str, Part]:
    """Return how data, parameters, toolchain, commit and gates of the versions *old* and *new* compare."""
    a, b = builds.built[old], builds.built[new]
    return {
        "data": _data(a, b),
        "parameters": _mapping("parameters", a, b),
        "toolchain": _mapping("toolchain", a, b, empty_is_unknown=True),
        "commit": _commit(a, b),
        "gates": _gates(builds, old, new),
    }


def _data(a: Mapping[str, Any], b: Mapping[str, Any]) -> Part:
    named = {"digest": "data", "rows": "rows", "from": "data_from", "until": "data_until"}
    changes = {shown: (a.get(key), b.get(key)) for shown, key in named.items() if a.get(key) != b.get(key)}
    if not (a.get("data") and b.get("data")):
        return Part(UNKNOWN, "the digest of the data was not recorded", changes)
    return Part(DIFFERS if changes else SAME, "", changes)


def _mapping(name: str, a: Mapping[str, Any], b: Mapping[str, Any], *, empty_is_unknown: bool = False) -> Part:
    one, other = a.get(name), b.get(name)
    if one is None or other is None or (empty_is_unknown and not (one and other)):
        return Part(UNKNOWN, f"version {(b if one else a)['version']} has no {name} on record")
    changes = {key: (one.get(key), other.get(key)) for key in sorted({*one, *other}) if one.get(key) != other.get(key)}
    return Part(DIFFERS if changes else SAME, "", changes)


def _commit(a: Mapping[str, Any], b: Mapping[str, Any]) -> Part:
    pair = (marked(a.get("commit", ""), a.get("worktree", "")), marked(b.get("commit", ""), b.get("worktree", "")))
    unknown = [
        f"version {body['version']}: {body.get('worktree') or 'no commit was recorded'}"
        for body in (a, b)
        if not body.get("commit") or body.get("worktree") not in (CLEAN, DIRTY)
    ]
    if unknown:
        return Part(UNKNOWN, "; ".join(unknown), {"commit": pair} if pair[0] != pair[1] else {})
    changes = {key: (a[key], b[key]) for key in ("patch", "branch") if a.get(key) != b.get(key)}
    changes = ({"commit": pair} if pair[0] != pair[1] else {}) | changes
    return Part(DIFFERS if {"commit", "patch"} & set(changes) else SAME, "", changes)


def _gates(builds: Builds, old: int, new: int) -> Part:
    found = [gates_of(builds, number) for number in (old, new)]
    unknown = [
        f"no gate was checked on version {n}" for n, gates in zip((old, new), found, strict=True) if gates is None
    ]
    said = [{f["name"]: f"{f['verdict']}: {f['reason']}" for f in (gates or {}).get("findings", ())} for gates in found]
    names = list(dict.fromkeys([*said[0], *said[1]]))
    changes = {name: (said[0].get(name), said[1].get(name)) for name in names if said[0].get(name) != said[1].get(name)}
    if unknown:
        return Part(UNKNOWN, "; ".join(unknown), changes)
    return Part(DIFFERS if changes else SAME, "", changes)


def gates_of(builds: Builds, version: int) -> Mapping[str, Any] | None:
    """Return what the newest check of the gates found of *version*: findings, metrics, champion; None without one."""
    for delivery in reversed(builds.deliveries):
        if delivery.version == version:
            step = next((step for step in reversed(delivery.steps) if step["name"] == "gates"), None)
            if step is not None:
                return {"verdict": step["verdict"], **step["evidence"]}
    return None


def commit_of(built: Mapping[str, Any]) -> str:
    """Name the commit of a version for people: short and marked, or why there is none."""
    if built.get("commit"):
        return f"commit {brief(built['commit'], built.get('worktree', ''))}"
    return f"no commit ({built.get('worktree') or 'none was recorded'})"


# -- the code ----------------------------------------------------------------------------------------------------------


def compared_code(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Code:
    """Compare two snapshots, as content by file name."""
    changed = tuple(
        _file(name, old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name)
    )
    return Code(DIFFERS if changed else SAME, "", changed)


def _file(name: str, old: bytes | None, new: bytes | None) -> FileChange:
    kind = "added" if old is None else "removed" if new is None else "changed"
    sizes = (len(old or b""), len(new or b""))
    before, after = _text(old), _text(new)
    if before is None or after is None:
        return FileChange(name, kind, sizes=sizes)
    lines = list(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="", n=1))
    added, removed = (sum(line.startswith(sign) for line in lines[2:]) for sign in "+-")
    return FileChange(name, kind, added, removed, tuple(lines), sizes)


def _text(content: bytes | None) -> Sequence[str] | None:
    """Return the lines of *content*, or None when it is no text; a last line without an end is marked as git does."""
    if content is None:
        return []
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else [*lines[:-1], f"{lines[-1]}\n\\ No newline at end of file"]


def diffstat(code: Code) -> str:
    """Say in one line which files differ, and by how many lines."""
    if code.verdict == UNKNOWN:
        return f"not known: {code.why}"
    if not code.files:
        return "the same"
    told = [f"{f.file} {_by(f)}" for f in code.files[:8]] + [f"{len(code.files) - 8} more"] * (len(code.files) > 8)
    return f"{len(code.files)} file{'s' * (len(code.files) != 1)}: {', '.join(told)}"


def _by(change: FileChange) -> str:
    if change.diff or (change.kind == "changed" and not any(change.sizes)):
        return f"+{change.added} −{change.removed}"
    return f"({change.kind}, {change.sizes[0]:,} → {change.sizes[1]:,} bytes)"
