"""What a version was built from, kept by content: the project's code, and the patch that leads from its commit to it.

A snapshot is a folder, a patch a file, each named by the digest of what is in it; the digest stands in the journal.
Reading one checks it again: what is gone, or is not what was recorded, is said to be unknown and never taken for the
code of the version.  A patch is a convenience beside the snapshot, which has every file whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modelcd.artifact import digest_of
from modelcd.domain.lineage import SAME, UNKNOWN, Code, compared_code
from modelcd.errors import CannotTell

PATCH_LIMIT = 1_000_000
"""Bytes of a patch that are kept; of a longer one, only the digest is."""


def place_of(root: Path, digest: str) -> Path:
    """Return where below *root* the snapshot with this *digest* is kept."""
    return root / digest.removeprefix("sha256:")[:32]


def patch_of(root: Path, digest: str) -> Path:
    """Return where below *root* the patch with this *digest* is kept."""
    return place_of(root, digest).with_suffix(".patch")


def keep(project: Path, names: Iterable[str], root: Path) -> str:
    """Copy the files *names* of *project* below *root* and return their digest; a spoilt copy is replaced."""
    fresh = root / f"fresh.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in names:
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project / name, fresh / name)
    digest = digest_of(fresh)
    folder = place_of(root, digest)
    if folder.exists() and digest_of(folder) != digest:
        folder.rename(folder.with_suffix(f".spoilt.{os.getpid()}"))
    try:
        fresh.rename(folder)
    except OSError:  # the very same folder is there already
        shutil.rmtree(fresh)
    return digest


def keep_patch(patch: bytes, root: Path) -> str:
    """Keep *patch* below *root* and return its digest; of one longer than `PATCH_LIMIT`, only return the digest."""
    digest = f"sha256:{hashlib.sha256(patch).hexdigest()}"
    if len(patch) <= PATCH_LIMIT:
        root.mkdir(parents=True, exist_ok=True)
        fresh = root / f"fresh.{os.getpid()}.patch"
        fresh.write_bytes(patch)
        fresh.replace(patch_of(root, digest))
    return digest


def read(root: Path, digest: str) -> Mapping[str, bytes]:
    """Return the content of each file of the snapshot *digest*; raises `CannotTell` unless it is what was recorded."""
    if not digest:
        raise CannotTell("no snapshot of its code was recorded")
    folder = place_of(root, digest)
    if not folder.is_dir():
        raise CannotTell(f"the snapshot of its code is gone: there is no {folder}")
    try:
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if _counts(p)}
        found = digest_of(folder)
    except OSError as error:
        raise CannotTell(f"the snapshot of its code cannot be read: {error.strerror}: {folder}") from error
    if found != digest:
        raise CannotTell(f"the snapshot of its code was changed: {folder} is not what was recorded")
    return dict(sorted(files.items()))


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def compared(root: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> Code:
    """Compare the code of two versions, by what was recorded when they were *built*; equal digests need no folder."""
    digests = old.get("snapshot", ""), new.get("snapshot", "")
    if digests[0] and digests[0] == digests[1]:
        return Code(SAME)
    found, unknown = [], []
    for built, digest in zip((old, new), digests, strict=True):
        try:
            found.append(read(root, digest))
        except CannotTell as error:
            unknown.append(f"version {built['version']}: {error.message}")
    return Code(UNKNOWN, "; ".join(unknown)) if unknown else compared_code(*found)
