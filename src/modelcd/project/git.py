"""At which commit a project stands, and what of the files that make a model that commit does not have.

The commit of a dirty tree is not what was built, so it is never given without its mark.  Dirty is a tree in which a
tracked file of the project's folder was changed, or in which a file that the model is made of is not, as it is, in the
commit: also one that git was told to ignore.  Data that git does not track do not count; they have a digest of their
own.  What git cannot tell is said in its words and never taken for clean.

The patch has only files that the snapshot has as well, so that it holds no secret that was not kept already.  The
objects that git makes on the way go into a folder that is thrown away: the repository is only read.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelcd.domain.versions import CLEAN, DIRTY

PATIENCE = 20.0
"""Seconds that git may take to answer."""


@dataclass(frozen=True)
class Commit:
    """Where a project stands: `worktree` is "clean", "dirty", or why that is not known.

    `id` is empty where there is no commit, `branch` where none is checked out; `patch` leads from the commit to the
    files that were asked for.
    """

    id: str = ""
    worktree: str = ""
    branch: str = ""
    repository: str = ""
    patch: bytes = b""


class _Silent(Exception):
    """Git gave no answer, and this is why."""


def commit_of(project: Path, files: Sequence[str]) -> Commit:
    """Return the commit that *project* stands at, and how its *files* differ from it."""
    try:
        status = _git(project, "status", "--porcelain=v2", "--branch", "-z", "--no-renames", "-uno", "--", ".")
    except _Silent as why:
        return Commit(worktree=str(why))
    lines = status.decode(errors="replace").split("\0")
    said = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    head, branch = said.get("branch.oid", ""), said.get("branch.head", "")
    branch = "" if branch == "(detached)" else branch
    repository = _repository(project)
    if not re.fullmatch(r"[0-9a-f]{40,64}", head):
        return Commit(worktree="there is no commit yet", branch=branch, repository=repository)
    try:
        patch = _patch(project, head, files)
        changed = any(line[:1] in ("1", "u") for line in lines) or bool(patch) or _nested_differ(project, files)
    except _Silent as why:
        return Commit(head, f"what is not committed could not be found out: {why}", branch, repository)
    return Commit(head, DIRTY if changed else CLEAN, branch, repository, patch)


def _repository(project: Path) -> str:
    """Return the address of the remote `origin`, without a password that stands in it."""
    try:
        url = _git(project, "config", "--get", "remote.origin.url").decode(errors="replace").strip()
    except _Silent:
        return ""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", r"\1", url)


def _patch(project: Path, head: str, files: Sequence[str]) -> bytes:
    """Return what leads from the commit *head* to *files* as they are on the disk."""
    own = [name for name in files if not _nested(project, name)]
    if not own:
        return b""
    objects = _git(project, "rev-parse", "--git-path", "objects").decode(errors="surrogateescape").rstrip("\n")
    with tempfile.TemporaryDirectory(prefix="modelcd-") as place:
        apart = {
            "GIT_INDEX_FILE": f"{place}/index",
            "GIT_OBJECT_DIRECTORY": place,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((project / objects).resolve()),
        }
        names = "\0".join(own).encode(errors="surrogateescape")
        _git(project, "add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul", given=names, more=apart)
        how = ("--cached", "--patch", "--binary", "--full-index", "--no-renames", "--no-color")
        return _git(project, "diff-index", *how, "--no-ext-diff", "--no-textconv", head, "--", *own, more=apart)


def _nested(project: Path, name: str) -> str:
    """Return the folder of the repository inside of *project* that the file *name* belongs to, if there is one."""
    folders = (folder.as_posix() for folder in Path(name).parents if folder.parts)
    return next((folder for folder in folders if (project / folder / ".git").exists()), "")


def _nested_differ(project: Path, files: Sequence[str]) -> bool:
    """Say whether *files* in repositories inside of *project* are anything but what its commit says of a submodule."""
    inside: dict[str, list[str]] = {}
    for name in files:
        if folder := _nested(project, name):
            inside.setdefault(folder, []).append(Path(name).relative_to(folder).as_posix())
    return any(
        not _git(project, "ls-files", "--", folder) or commit_of(project / folder, names).worktree != CLEAN
        for folder, names in inside.items()
    )


def _git(project: Path, *words: str, given: bytes = b"", more: Mapping[str, str] | None = None) -> bytes:
    # Whoever calls us from a hook has GIT_DIR and its like set, for another repository than the project's.
    env = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(more or {})}
    call = ["git", "-C", str(project), "--literal-pathspecs", *words]
    try:
        done = subprocess.run(call, check=False, capture_output=True, input=given, timeout=PATIENCE, env=env)
    except FileNotFoundError:
        raise _Silent("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise _Silent(f"git did not answer within {PATIENCE:g} s") from None
    except OSError as error:
        raise _Silent(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        ended = f"git {words[0]} ended with {done.returncode}"
        said = done.stderr.decode(errors="replace").strip().splitlines() or [ended]
        raise _Silent(said[0].removeprefix("fatal: ").split(" (or any")[0])
    return done.stdout


_OF_ANOTHER = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_EXTERNAL_DIFF",
        "GIT_DIFF_OPTS",
    }
)
