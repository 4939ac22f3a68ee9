"""Where the journal is: a workspace that shares one never begins another, and nobody is shown a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcd.adapters.environment import passed
from modelcd.errors import ConfigurationError
from modelcd.platform.journal import journal_of, without_password
from modelcd.workspace import open_workspace

ADDRESS = "postgresql://ada:hunter2@db.example:5432/modelcd"


def test_a_workspace_remembers_the_journal_that_it_shares_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_workspace(tmp_path)
    monkeypatch.setenv("MODELCD_JOURNAL", ADDRESS)

    journal_of(workspace)

    assert workspace.shared_journal == "postgresql://ada@db.example:5432/modelcd"
    assert "hunter2" not in workspace.settings.read_text(encoding="utf-8")
    assert workspace.ports == open_workspace(tmp_path).ports


def test_a_shell_with_another_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = open_workspace(tmp_path)
    workspace.share_journal(without_password(ADDRESS))
    monkeypatch.setenv("MODELCD_JOURNAL", "postgresql://ada:hunter2@elsewhere/modelcd")

    with pytest.raises(ConfigurationError, match=r"is at postgresql://ada@db\.example.*names postgresql://ada@elsewh"):
        journal_of(workspace)


def test_a_workspace_with_a_journal_of_its_own_is_not_led_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_workspace(tmp_path)
    workspace.journal.parent.mkdir()
    workspace.journal.touch()
    monkeypatch.setenv("MODELCD_JOURNAL", ADDRESS)

    with pytest.raises(ConfigurationError, match="has a journal of its own") as refused:
        journal_of(workspace)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("address", ["postgresql://db/modelcd", "postgresql://ada@db/modelcd"])
def test_an_address_without_a_password_is_kept_as_it_is(address: str) -> None:
    assert without_password(address) == address


def test_code_that_is_not_ours_gets_no_key_to_the_journal() -> None:
    assert passed({"PATH": "/bin", "MODELCD_JOURNAL": ADDRESS, "PGPASSWORD": "x"}) == {"PATH": "/bin"}
