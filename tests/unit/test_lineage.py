"""Two versions compared: the same only where that is known, and otherwise why it is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from modelcd import snapshot
from modelcd.domain.delivery import Builds, fold_builds
from modelcd.domain.lineage import Part, compared, diffstat
from modelcd.domain.records import Entry, Record
from modelcd.domain.versions import brief
from modelcd.errors import CannotTell

LINEAGE: dict[str, Any] = {
    "data": "sha256:d",
    "rows": 10,
    "data_from": "",
    "data_until": "",
    "parameters": {"C": "1"},
    "toolchain": {"python": "3.12.1"},
    "commit": "a" * 40,
    "worktree": "clean",
    "patch": "",
    "branch": "main",
}
PASSED = {
    "name": "gates",
    "verdict": "pass",
    "evidence": {"findings": [{"name": "auc", "verdict": "pass", "reason": "0.9"}]},
}


def builds(old: dict[str, Any], new: dict[str, Any], *steps: dict[str, Any]) -> Builds:
    """Two deliveries, each with one version that differs from `LINEAGE` by what is given, and *steps*."""
    entries: list[tuple[str, str, dict[str, Any]]] = []
    for number, change in enumerate((old, new), start=1):
        entries += [("opened", f"d{number}", {"reason": "", "trigger": "person", "project": "here"})]
        entries += [("built", f"d{number}", {**LINEAGE, "version": number, "artifact": "", "reused": False, **change})]
        entries += [("step", f"d{number}", step) for step in steps]
        entries += [("closed", f"d{number}", {"ending": "stopped", "why": ""})]
    records = [
        Record("builds/m", seq, Entry(kind, "2026-01-01T00:00:00+00:00", "anna", delivery, body), "", "")
        for seq, (kind, delivery, body) in enumerate(entries, start=1)
    ]
    return fold_builds(Builds("builds/m"), records)


def test_versions_that_are_known_to_be_the_same_are_the_same() -> None:
    parts = compared(builds({}, {}, PASSED), 1, 2)

    assert all(part == Part("same") for part in parts.values()), parts


@pytest.mark.parametrize(
    ("part", "change", "shown"),
    [
        ("data", {"data": "sha256:e"}, {"digest": ("sha256:d", "sha256:e")}),
        ("parameters", {"parameters": {"C": "2"}}, {"C": ("1", "2")}),
        ("toolchain", {"toolchain": {"python": "3.13"}}, {"python": ("3.12.1", "3.13")}),
        ("commit", {"worktree": "dirty"}, {"commit": ("a" * 40, "a" * 40 + "-dirty")}),
        ("commit", {"commit": "b" * 40}, {"commit": ("a" * 40, "b" * 40)}),
    ],
)
def test_what_differs_is_shown(part: str, change: dict[str, Any], shown: dict[str, Any]) -> None:
    assert compared(builds({}, change), 1, 2)[part] == Part("differs", "", shown)


@pytest.mark.parametrize(
    ("part", "change", "why"),
    [
        ("data", {"data": ""}, "the digest of the data was not recorded"),
        ("parameters", {"parameters": None}, "version 2 has no parameters on record"),
        ("toolchain", {"toolchain": {}}, "version 2 has no toolchain on record"),
        ("commit", {"commit": "", "worktree": "git is not installed"}, "version 2: git is not installed"),
        ("commit", {"worktree": "git did not answer"}, "version 2: git did not answer"),
    ],
)
def test_what_was_not_recorded_is_unknown(part: str, change: dict[str, Any], why: str) -> None:
    found = compared(builds({}, change), 1, 2)[part]

    assert (found.verdict, found.why) == ("unknown", why)
    both = compared(builds(change, change), 1, 2)[part]
    assert both.verdict == "unknown"


def test_two_dirty_trees_are_the_same_only_by_their_patches() -> None:
    one, other = {"worktree": "dirty", "patch": "sha256:1"}, {"worktree": "dirty", "patch": "sha256:2"}

    assert compared(builds(one, one), 1, 2)["commit"].verdict == "same"
    assert compared(builds(one, other), 1, 2)["commit"].changes == {"patch": ("sha256:1", "sha256:2")}


def test_gates_that_were_never_checked_are_not_the_same() -> None:
    found = compared(builds({}, {}), 1, 2)["gates"]

    assert (found.verdict, found.why) == (
        "unknown",
        "no gate was checked on version 1; no gate was checked on version 2",
    )


def test_a_version_that_is_delivered_anew_stays_what_it_was_built_from() -> None:
    known = builds(
        {"by": "anna", "snapshot": "sha256:1"}, {"version": 1, "reused": True, "snapshot": "", "artifact": "b"}
    )

    assert (known.built[1]["snapshot"], known.built[1]["delivery"], known.built[1]["artifact"]) == (
        "sha256:1",
        "d1",
        "b",
    )


def test_a_commit_is_shown_with_its_mark() -> None:
    assert [brief("abcdef1234", tree) for tree in ("clean", "dirty", "git timed out")] == [
        "abcdef12",
        "abcdef12-dirty",
        "abcdef12-unknown",
    ]


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def kept(root: Path, **files: bytes) -> dict[str, Any]:
    """Keep a snapshot of *files*, and return what is recorded of the version that was built from it."""
    project = root.parent / "project"
    shutil.rmtree(project, ignore_errors=True)
    (project / "lib").mkdir(parents=True)
    for name, content in files.items():
        (project / "lib" / name).write_bytes(content)
    return {"version": 1, "snapshot": snapshot.keep(project, [f"lib/{name}" for name in files], root)}


def test_equal_code_is_the_same_also_when_the_folder_is_gone(root: Path) -> None:
    one, other = kept(root, a=b"1\n"), kept(root, a=b"1\n")
    shutil.rmtree(root)

    assert snapshot.compared(root, one, other).verdict == "same"


def test_each_file_that_differs_is_named_binary_ones_too(root: Path) -> None:
    old = kept(root, a=b"1\n", gone=b"x\n", table=b"\x00\xff")
    new = kept(root, a=b"2\n", new=b"", table=b"\x00\xfe\x01", end=b"no newline")
    found = snapshot.compared(root, old, new)

    assert [(f.file, f.kind, f.added, f.removed, bool(f.diff), f.sizes) for f in found.files] == [
        ("lib/a", "changed", 1, 1, True, (2, 2)),
        ("lib/end", "added", 1, 0, True, (0, 10)),
        ("lib/gone", "removed", 0, 1, True, (2, 0)),
        ("lib/new", "added", 0, 0, False, (0, 0)),
        ("lib/table", "changed", 0, 0, False, (2, 3)),
    ]
    assert diffstat(found).startswith("5 files: lib/a +1 −1, lib/end +1 −0")


def test_a_newline_at_the_end_is_a_difference_that_is_shown(root: Path) -> None:
    (changed,) = snapshot.compared(root, kept(root, a=b"1\n"), kept(root, a=b"1")).files

    assert "\\ No newline at end of file" in "\n".join(changed.diff)


def test_a_snapshot_that_is_missing_gone_or_changed_is_unknown(root: Path) -> None:
    one, other = kept(root, a=b"1\n"), {**kept(root, a=b"2\n"), "version": 2}
    folder = snapshot.place_of(root, other["snapshot"])

    never = snapshot.compared(root, one, {"version": 2})
    (folder / "lib" / "a").write_bytes(b"3\n")
    changed = snapshot.compared(root, one, other)
    shutil.rmtree(folder)
    gone = snapshot.compared(root, one, other)

    assert [found.verdict for found in (never, changed, gone)] == ["unknown"] * 3
    assert never.why == "version 2: no snapshot of its code was recorded"
    assert changed.why == f"version 2: the snapshot of its code was changed: {folder} is not what was recorded"
    assert gone.why == f"version 2: the snapshot of its code is gone: there is no {folder}"


@pytest.mark.parametrize("spoilt", [b"3\n", None], ids=["another byte", "a file less"])
def test_a_spoilt_snapshot_is_replaced_when_the_same_code_is_kept_again(root: Path, spoilt: bytes | None) -> None:
    digest = kept(root, a=b"1\n", b=b"2\n")["snapshot"]
    file = snapshot.place_of(root, digest) / "lib" / "a"
    file.unlink() if spoilt is None else file.write_bytes(spoilt)
    with pytest.raises(CannotTell):
        snapshot.read(root, digest)
    kept(root, a=b"1\n", b=b"2\n")

    assert snapshot.read(root, digest) == {"lib/a": b"1\n", "lib/b": b"2\n"}


def test_what_python_leaves_behind_is_not_the_code(root: Path) -> None:
    digest = kept(root, a=b"1\n")["snapshot"]
    (snapshot.place_of(root, digest) / "lib" / "__pycache__").mkdir()
    (snapshot.place_of(root, digest) / "lib" / "__pycache__" / "a.pyc").write_bytes(b"")

    assert snapshot.read(root, digest) == {"lib/a": b"1\n"}


def test_a_patch_is_kept_by_its_content_and_a_huge_one_by_its_digest_alone(root: Path) -> None:
    small, huge = snapshot.keep_patch(b"diff", root), snapshot.keep_patch(b"x" * (snapshot.PATCH_LIMIT + 1), root)

    assert snapshot.patch_of(root, small).read_bytes() == b"diff"
    assert huge.startswith("sha256:") and not snapshot.patch_of(root, huge).exists()
