"""What is being delivered: a named model and its immutable versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_PART = r"(?!.*--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
LONGEST = 63
"""Characters of a name, and of a team's, at most."""

_MODEL = re.compile(rf"(?:{_PART}/)?{_PART}")


def valid_model_name(name: str) -> bool:
    """Say whether *name* is `[team/]name` in lower case letters, digits and single inner dashes."""
    return _MODEL.fullmatch(name) is not None


def misnamed(name: object) -> str:
    """Say what a model's name is, where *name* is none."""
    long = next((part for part in str(name).split("/") if len(part) > LONGEST), "")
    if long:
        return f"a model's name has at most {LONGEST} characters, and {long[:20]}… has {len(long)}"
    return f"a model's name is [team/]name in lower case letters, digits and dashes, got {name!r}"


def slug(model: str) -> str:
    """Return *model* as one path segment; distinct names give distinct slugs."""
    return model.replace("/", "--")


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from; two builds with the same `training` digest are the same version.

    `training` covers the project's code that training reaches, its parameters, its data and its toolchain
    (not the policy).  `toolchain` maps `python` and each distribution that was imported to its version.  `snapshot`
    and `patch` are the digests of the project's code and of what the `commit` does not have of it (see
    `modelcd.snapshot`); `worktree` is "clean", "dirty", or why that is not known.
    """

    training: str
    code: str
    data: str
    snapshot: str = ""
    commit: str = ""
    worktree: str = ""
    patch: str = ""
    branch: str = ""
    repository: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    toolchain: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    data_from: str = ""
    data_until: str = ""


CLEAN, DIRTY = "clean", "dirty"


def marked(commit: str, worktree: str) -> str:
    """Return *commit* as people write it: with `-dirty` behind it unless the tree is known to have been clean."""
    if not commit or worktree == CLEAN:
        return commit
    return f"{commit}-dirty" if worktree == DIRTY else f"{commit}-unknown"


def brief(commit: str, worktree: str) -> str:
    """Return *commit* short, with its mark."""
    return marked(commit[:8], worktree)


@dataclass(frozen=True)
class ModelVersion:
    """One immutable build: `number` is given by the registry, `digest` (sha256 of the artifact) is its identity."""

    model: str
    number: int
    digest: str
    lineage: Lineage
    created: str = ""
    aliases: tuple[str, ...] = ()
