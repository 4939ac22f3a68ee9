"""The command line where it needs nothing that runs: names, help, exit codes, errors as people and scripts get them."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from modelcd.cli.app import COMMANDS, SUMMARIES, run


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELCD_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "workspace"


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        run(list(arguments))
    return ended.value.code


def test_the_bare_command_shows_what_people_do_most(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code() == 0
    shown = capsys.readouterr().out
    assert all(f"modelcd {name}" in shown for name in ("demo", "init", "deliver", "status"))


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert "0 done, 1 the answer is no, 2 used wrongly, 3 could not find" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_begins_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(name, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"  modelcd {name}")
    told = shown.partition("Usage:")[2].partition("Options:")[0]
    assert not re.search(r"\S {3,}", told), "runs of blanks"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_summed_up_and_is_where_it_is_said_to_be(name: str) -> None:
    module = importlib.import_module(f"modelcd.cli.{COMMANDS[name]}")

    assert isinstance(getattr(module, name), click.Command)
    assert SUMMARIES[name].endswith(".")


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("run(['--help'])", id="help"),
        pytest.param("run(['status'])", id="status"),
        pytest.param("control = connect(); control.status(); control.full(); control.asleep()", id="what serves"),
    ],
)
def test_help_and_status_import_nothing_heavy(workspace: Path, what: str) -> None:
    heavy = ("numpy", "pandas", "mlflow", "prefect", "sklearn", "fastapi", "httpx")
    program = (
        "import sys\nfrom modelcd.cli.app import run\nfrom modelcd.control import connect\n"
        f"try: {what}\nexcept SystemExit: pass\n"
        f"print(*(name for name in {heavy} if name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert ended.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("arguments", "message", "help"),
    [
        (["staus"], "no command is named 'staus'", "did you mean 'status'?"),
        (["deliver", "--resaon", "x"], "No such option", "modelcd deliver --help"),
        (["--workspace"], "'--workspace' requires an argument", "help: see: modelcd --help"),
        (["deliver", "--reason"], "'--reason' requires an argument", "modelcd deliver --help"),
        (["promote", "model"], "Missing argument 'VERSION'", "modelcd promote --help"),
        (["promote", "model", "three"], "'three' is not a valid integer", "modelcd promote --help"),
        (["deliver"], "there is no pipeline.py in ", "modelcd init NAME"),
        (["deliver", "nowhere"], "no project folder is named 'nowhere'", "modelcd init"),
        (["init", "m" * 70], "a model's name has at most 63 characters, and mmmmmmmmmmmmmmmmmmmm… has 70", "churn"),
        (["init", "Not A Name"], "a model's name is [team/]name in lower case", "modelcd init churn"),
        (["init", "/tmp/My models/churn"], "a model's name is [team/]name", "init churn --into '/tmp/My models/churn'"),
        (["status", "flights"], "no model is named 'flights'", "there is no model yet"),
        (["history", "flights"], "no model is named 'flights'", "there is no model yet"),
        (["versions", "flights"], "no model is named 'flights'", "there is no model yet"),
        (["explain", "7f3a"], "no release is named '7f3a'", "there is no release yet"),
        (["rollback", "flights", "--in", "prodution"], "no environment is named 'prodution'", "'production'?"),
        (["promote", "flights", "3", "--to", "stagin"], "no environment is named 'stagin'", "'staging'?"),
        (["predict", "flights", "{no json"], "the rows are not JSON", "a row is like"),
        (["feedback", "flights", "8f3a"], "'8f3a' is not ID=LABEL", "modelcd feedback"),
        (["up", "--port", "gatewy=8800"], "'gatewy=8800' is not NAME=PORT", "names: gateway"),
    ],
)
def test_what_is_used_wrongly_is_answered_in_one_paragraph(
    arguments: list[str], message: str, help: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert help in told
    assert "Traceback" not in told


def test_an_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("history", "flights", "--json") == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": {
            "kind": "UnknownName",
            "message": "no model is named 'flights'",
            "help": "there is no model yet",
            "exit": 2,
        }
    }


def test_a_mistake_of_ours_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "status", "nothing_of_this_name")

    assert exit_code("status") == 3
    told = capsys.readouterr().err
    assert "this is a mistake in modelcd; run again with --debug" in told
    assert "Traceback" not in told


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    from modelcd.errors import UnknownName

    with pytest.raises(UnknownName):
        run(["--debug", "history", "flights"])


def test_a_workspace_whose_place_a_file_has_is_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.write_text("not a folder")

    assert exit_code("status") == 2
    assert "cannot be used: there is a file in the way" in capsys.readouterr().err


def test_a_workspace_that_no_database_can_be_addressed_in_is_refused_before_it_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("--workspace", str(tmp_path / "what?"), "status") == 2

    assert "cannot be used: the address of a database ends at a question mark" in capsys.readouterr().err
    assert not (tmp_path / "what?").exists()


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write anywhere")
def test_a_workspace_that_must_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    humble = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
    command = [sys.executable, "-m", "modelcd.cli", "--workspace", str(tmp_path / "locked" / "workspace"), "status"]

    ended = subprocess.run([*humble, *command], capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 2
    assert "cannot be used: Permission denied" in ended.stderr


def test_a_workspace_of_a_newer_modelcd_is_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.mkdir()
    (workspace / "workspace.json").write_text('{"format": 9, "ports": {}}')

    assert exit_code("status") == 2
    assert "was made by a newer modelcd (format 9, this one knows 1)" in capsys.readouterr().err
    assert (workspace / "workspace.json").read_text() == '{"format": 9, "ports": {}}'


def test_settings_that_are_missing_beside_a_journal_are_not_made_up(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "journal").mkdir(parents=True)
    (workspace / "journal" / "journal.db").touch()

    assert exit_code("status") == 2
    assert "workspace.json is missing, and there is a journal beside it" in capsys.readouterr().err
    assert not (workspace / "workspace.json").exists()


def test_damaged_settings_are_said_to_be(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.mkdir()
    (workspace / "workspace.json").write_text('{"format": 1, "por')

    assert exit_code("status") == 2
    assert "workspace.json is damaged" in capsys.readouterr().err


def test_an_empty_workspace_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("status") == 0
    assert "modelcd init NAME" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("completion", shell) == 0
    assert "_MODELCD_COMPLETE" in capsys.readouterr().out


def test_the_shell_completes_commands() -> None:
    asked = {"_MODELCD_COMPLETE": "bash_complete", "COMP_WORDS": "modelcd ro", "COMP_CWORD": "1"}
    command = [str(Path(sys.executable).with_name("modelcd"))]
    ended = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True, timeout=60)

    assert ended.stdout.split() == ["plain,rollback"]


def test_init_refuses_a_folder_with_something_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "churn").mkdir()
    (tmp_path / "churn" / "mine.txt").write_text("precious")

    assert exit_code("init", "churn") == 2
    assert "churn exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "churn").iterdir()] == ["mine.txt"]
