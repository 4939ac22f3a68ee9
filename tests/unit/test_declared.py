"""`environments.py`: what it may say, what is wrong in it, and which file is a workspace's."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcd.environments.laptop import Laptop
from modelcd.errors import ConfigurationError
from modelcd.platform.declared import VARIABLE, adopt, declared, file_of, whence
from modelcd.platform.environments import Platform
from modelcd.workspace import Workspace, open_workspace

GOOD = 'from modelcd.environments import Laptop\n\nenvironments = [\n    Laptop("dev"),\n    Laptop("live"),\n]\n'
KIND = "from modelcd.environments import Laptop\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A new workspace, without a file."""
    monkeypatch.delenv(VARIABLE, raising=False)
    return open_workspace(tmp_path / "workspace")


def names(workspace: Workspace) -> list[str]:
    return [kind.name for kind in declared(workspace)]


def said(text: str, folder: Path) -> Path:
    file = folder / "environments.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_without_a_file_there_are_the_usual_two(workspace: Workspace) -> None:
    assert declared(workspace) == (Laptop("staging"), Laptop("production"))
    assert file_of(workspace) is None


def test_a_file_in_the_workspace_says_which_there_are_and_where_each_stands(workspace: Workspace) -> None:
    file = said(GOOD, workspace.path)

    assert names(workspace) == ["dev", "live"]
    assert whence(workspace) == [f"{file}, line 4", f"{file}, line 5"]
    assert Platform(workspace).environment("live").stream("m") == "live/m"


def test_who_holds_a_platform_sees_what_its_file_says_now(workspace: Workspace) -> None:
    platform = Platform(workspace)
    file = said(GOOD, workspace.path)
    dev = platform.environment("dev")
    assert platform.environment("dev") is dev
    assert platform.kinds is platform.kinds

    file.write_text(GOOD.replace("live", "eu"), encoding="utf-8")

    assert platform.names == ("dev", "eu")
    assert platform.environment("eu").name == "eu"


def test_a_kind_of_ones_own_is_a_class_in_a_file_beside(workspace: Workspace) -> None:
    kind = "from modelcd.environments import Laptop\n\n\nclass Mine(Laptop):\n    pass\n"
    workspace.path.joinpath("mine_of_ours.py").write_text(kind)
    said('from mine_of_ours import Mine\n\nenvironments = [Mine("here")]\n', workspace.path)

    assert [type(one).__name__ for one in declared(workspace)] == ["Mine"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("environments = [\n", "line 1: '[' was never closed"),
        (KIND + 'environments = [\n    Laptop("a"),\n    Laptop(1 / 0),\n]\n', "line 4: ZeroDivisionError"),
        (
            KIND + 'environments = [Laptop("a", colour="red")]\n',
            "line 2: TypeError: Laptop.__init__() got an unexpected",
        ),
        ("import nowhere_at_all\n", "line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (KIND, "has no `environments`"),
        ("environments = []\n", "line 1: environments is a list with at least one environment"),
        ('environments = "staging"\n', ": environments is a list with at least one environment"),
        (KIND + 'environments = [\n    Laptop("a"),\n    "b",\n]\n', "line 4: 'b' is no environment"),
        (
            KIND + 'environments = [\n    Laptop("a"),\n    Laptop("a"),\n]\n',
            "line 4: a second environment 'a'",
        ),
        (KIND + 'environments = [Laptop("Live One")]\n', "line 2: 'Live One' is no name"),
        (KIND + 'environments = [Laptop("team/live")]\n', "line 2: 'team/live' is no name"),
        (KIND + 'environments = [Laptop("builds")]\n', "line 2: 'builds' is kept for other things"),
    ],
)
def test_a_mistake_is_answered_with_its_line(workspace: Workspace, text: str, wrong: str) -> None:
    file = said(text, workspace.path)

    with pytest.raises(ConfigurationError) as told:
        declared(workspace)

    assert told.value.message.startswith(str(file))
    assert wrong in told.value.message


def test_a_file_that_is_named_once_is_remembered(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = said(GOOD, tmp_path / "platform")
    monkeypatch.setenv(VARIABLE, str(file))
    assert names(workspace) == ["dev", "live"]
    monkeypatch.delenv(VARIABLE)

    assert names(Workspace(workspace.path)) == ["dev", "live"]


def test_another_file_is_refused_and_one_that_went_can_be_named_anew(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = said(GOOD, tmp_path / "one"), said(GOOD, tmp_path / "two")
    monkeypatch.setenv(VARIABLE, str(first))
    names(workspace)
    monkeypatch.setenv(VARIABLE, str(second))
    with pytest.raises(ConfigurationError, match=r"are those of .*, not of "):
        names(workspace)
    first.unlink()

    assert names(workspace) == ["dev", "live"]
    monkeypatch.delenv(VARIABLE)
    second.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        names(workspace)


def test_a_file_with_a_mistake_is_not_remembered(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(said("environments = []\n", tmp_path / "one")))
    with pytest.raises(ConfigurationError):
        names(workspace)
    monkeypatch.delenv(VARIABLE)

    assert names(workspace) == ["staging", "production"]


def test_the_file_beside_a_project_becomes_that_of_a_new_workspace(workspace: Workspace, tmp_path: Path) -> None:
    said(GOOD, tmp_path / "project")
    adopt(workspace, tmp_path / "project", lambda: False)
    adopt(workspace, tmp_path / "project", lambda: True)
    adopt(workspace, tmp_path, lambda: True)

    assert names(workspace) == ["dev", "live"]


def test_the_file_beside_a_project_changes_nothing_where_others_hold(workspace: Workspace, tmp_path: Path) -> None:
    said(GOOD, tmp_path / "project")
    with pytest.raises(ConfigurationError, match="are the usual ones, and models stand there"):
        adopt(workspace, tmp_path / "project", lambda: True)
    said(GOOD, workspace.path)
    with pytest.raises(ConfigurationError, match="are those of "):
        adopt(workspace, tmp_path / "project", lambda: False)
