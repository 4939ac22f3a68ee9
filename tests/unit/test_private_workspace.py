"""A workspace is for the user who made it: what is new, and what was made when others could still enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelcd.platform.journal import journal_of
from modelcd.workspace import open_workspace, private


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """The umask of most machines, with which a new file may be read by everybody."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """Name what in *folder*, itself included, others may read, write or enter."""
    return sorted(str(one) for one in (folder, *folder.rglob("*")) if one.lstat().st_mode & 0o077)


def test_a_new_workspace_and_its_journal_are_for_nobody_else(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    with private(), journal_of(workspace).exclusive("production/m", 1.0):
        journal_of(workspace).append("production/m", 0, [])

    assert len(workspace.token) >= 32
    assert open_to_others(workspace.path) == []


def test_a_workspace_that_others_could_enter_is_put_right_when_it_is_opened(tmp_path: Path) -> None:
    old = tmp_path / "workspace"
    open_workspace(old)
    for file in ("builds/1/train.parquet", "gateway/endpoints/production.m.yml", "notices.log", "journal/journal.db"):
        (old / file).parent.mkdir(parents=True, exist_ok=True)
        (old / file).touch()
    (old / "builds" / "run.sh").touch(0o755)
    (old / "builds" / "elsewhere").symlink_to(tmp_path)
    for folder in (old, *(one for one in old.rglob("*") if one.is_dir())):
        folder.chmod(0o755)

    open_workspace(old)

    assert [name for name in open_to_others(old) if not name.endswith("elsewhere")] == []
    assert os.access(old / "builds" / "run.sh", os.X_OK)
    assert tmp_path.stat().st_mode & 0o700 == 0o700


def test_what_else_lies_in_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "features.py").touch(0o644)

    open_workspace(tmp_path)

    assert (tmp_path / "features.py").stat().st_mode & 0o777 == 0o644


def test_the_credential_stays_the_same_and_each_workspace_has_its_own(tmp_path: Path) -> None:
    first, again, other = (open_workspace(tmp_path / name) for name in ("one", "one", "other"))

    assert first.token == again.token != other.token
    assert first.token not in (first.path / "workspace.json").read_text()


def test_the_umask_of_the_caller_comes_back(tmp_path: Path) -> None:
    with private():
        (tmp_path / "ours").touch()
    (tmp_path / "theirs").touch()

    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("ours", "theirs")] == [0o600, 0o644]
