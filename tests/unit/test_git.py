"""At which commit a project stands, whatever state its repository is in: the mark is there unless the tree is clean."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from modelcd.project import git
from modelcd.project.git import commit_of

FILES = ("pipeline.py",)


def run(folder: Path, *words: str) -> str:
    """Call git in *folder*, as somebody who has a name."""
    who = ("-c", "user.name=anna", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def made(folder: Path) -> Path:
    """Make a repository with one commit in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.py").write_text("C = 1\n")
    (folder / "README").write_text("read\n")
    (folder / ".gitignore").write_text("data/\nlocal.py\n")
    run(folder, "init", "-q", "-b", "main")
    run(folder, "add", ".")
    run(folder, "commit", "-qm", "one")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return made(tmp_path / "project")


def test_a_tree_as_it_was_committed_is_clean(project: Path) -> None:
    found = commit_of(project, FILES)

    assert (found.id, found.worktree, found.branch) == (run(project, "rev-parse", "HEAD"), "clean", "main")
    assert found.patch == b""


def test_data_and_notes_that_git_does_not_track_are_not_the_project(project: Path) -> None:
    (project / "data").mkdir()
    for name in ("data/1.csv", "new.csv", "notes.txt"):
        (project / name).write_text("1\n")

    assert commit_of(project, FILES).worktree == "clean"


def test_an_edit_makes_it_dirty_and_the_patch_leads_there(project: Path, tmp_path: Path) -> None:
    (project / "pipeline.py").write_text("C = 2\n")
    found = commit_of(project, FILES)
    run(tmp_path, "clone", "-q", str(project), "another")
    (tmp_path / "patch").write_bytes(found.patch)
    run(tmp_path / "another", "apply", str(tmp_path / "patch"))

    assert found.worktree == "dirty"
    assert (tmp_path / "another" / "pipeline.py").read_text() == "C = 2\n"


def test_a_staged_edit_is_not_committed_either(project: Path) -> None:
    (project / "pipeline.py").write_text("C = 2\n")
    run(project, "add", ".")

    assert commit_of(project, FILES).worktree == "dirty"


def test_an_edit_that_the_model_is_not_made_of_is_marked_and_not_in_the_patch(project: Path) -> None:
    (project / "README").write_text("PASSWORD=secret\n")
    found = commit_of(project, FILES)

    assert (found.worktree, found.patch) == ("dirty", b"")


@pytest.mark.parametrize("name", ["extra.py", "local.py", "fé\nat ure.py", ":(top)x[1].py", "-f.py"])
def test_a_file_of_the_model_that_git_does_not_have_makes_it_dirty(project: Path, name: str) -> None:
    (project / name).write_text("LIMIT = 15\n")
    (project / ".env").write_text("PASSWORD=secret\n")
    found = commit_of(project, (*FILES, name))

    assert found.worktree == "dirty"
    assert b"LIMIT = 15" in found.patch and b"secret" not in found.patch


def test_an_edit_that_git_was_told_to_overlook_is_seen(project: Path) -> None:
    run(project, "update-index", "--assume-unchanged", "pipeline.py")
    (project / "pipeline.py").write_text("C = 2\n")

    assert commit_of(project, FILES).worktree == "dirty"


def test_looking_leaves_the_repository_as_it_was(project: Path) -> None:
    (project / "pipeline.py").write_text("C = 2\n")
    before = {path: path.stat().st_mtime_ns for path in (project / ".git").rglob("*")}
    commit_of(project, FILES)

    assert {path: path.stat().st_mtime_ns for path in (project / ".git").rglob("*")} == before


def test_a_project_in_a_folder_of_a_repository_has_its_commit_and_not_its_neighbours_edits(project: Path) -> None:
    inner = project / "models" / "churn"
    inner.mkdir(parents=True)
    (inner / "pipeline.py").write_text("C = 1\n")
    run(project, "add", ".")
    run(project, "commit", "-qm", "two")
    (project / "pipeline.py").write_text("C = 2\n")

    assert commit_of(inner, FILES).worktree == "clean"
    (inner / "pipeline.py").write_text("C = 3\n")
    assert b"models/churn/pipeline.py" in commit_of(inner, FILES).patch


def test_a_commit_that_has_nothing_of_the_project_is_marked(project: Path) -> None:
    inner = project / "new"
    inner.mkdir()
    (inner / "pipeline.py").write_text("C = 1\n")

    assert commit_of(inner, FILES).worktree == "dirty"


def test_a_change_in_a_submodule_makes_it_dirty(project: Path, tmp_path: Path) -> None:
    made(tmp_path / "shared")
    run(project, "submodule", "add", "-q", str(tmp_path / "shared"), "shared")
    run(project, "commit", "-qm", "two")
    files = (*FILES, "shared/pipeline.py")

    assert commit_of(project, files).worktree == "clean"
    (project / "shared" / "pipeline.py").write_text("C = 2\n")
    assert commit_of(project, files).worktree == "dirty"


def test_a_repository_inside_that_is_no_submodule_is_not_in_the_commit(project: Path) -> None:
    made(project / "vendored")

    assert commit_of(project, (*FILES, "vendored/pipeline.py")).worktree == "dirty"


def test_what_a_hook_left_in_the_environment_does_not_lead_elsewhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))

    assert commit_of(project, FILES).worktree == "clean"


def test_a_detached_head_has_a_commit_and_no_branch(project: Path) -> None:
    run(project, "checkout", "-q", "--detach")
    found = commit_of(project, FILES)

    assert (found.worktree, found.branch) == ("clean", "")


def test_a_password_in_the_address_of_the_remote_is_left_away(project: Path) -> None:
    run(project, "remote", "add", "origin", "https://anna:secret@git.example.com/models.git")

    assert commit_of(project, FILES).repository == "https://git.example.com/models.git"


def test_without_a_commit_it_is_said_why(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, bare, none = (tmp_path / name for name in ("fresh", "bare", "none"))
    for folder in (fresh, bare, none):
        folder.mkdir()
    run(fresh, "init", "-q")
    run(bare, "init", "-q", "--bare")
    said = {folder.name: commit_of(folder, ()).worktree for folder in (fresh, bare, none)}
    monkeypatch.setenv("PATH", str(none))

    assert said == {
        "fresh": "there is no commit yet",
        "bare": "this operation must be run in a work tree",
        "none": "not a git repository",
    }
    assert commit_of(project, FILES) == git.Commit(worktree="git is not installed")


def test_what_git_cannot_tell_is_not_clean(project: Path) -> None:
    found = commit_of(project, ("pipeline.py", "gone.py"))

    assert found.id and found.worktree.startswith("what is not committed could not be found out: ")
