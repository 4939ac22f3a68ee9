"""The command line from outside, and changes of a project, for the tests of this folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelcd.control import Control, connect

PATIENCE = 280.0
"""Seconds that one command may take; the first one starts the services."""

MODEL = "tumour"


@dataclass(frozen=True)
class Cli:
    """The command line on one workspace, run as people run it."""

    workspace: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str, cwd: Path | None = None, wrapper: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run one command; *wrapper* is a Python program that runs it (`-c`, text)."""
        run = [sys.executable, "-m", "modelcd.cli", "--workspace", str(self.workspace), *arguments]
        outer = [sys.executable, *wrapper] if wrapper else []
        known = {name: value for name, value in os.environ.items() if not name.startswith(("MODELCD_", "PREFECT_"))}
        return subprocess.run(
            [*outer, *run],
            cwd=cwd or self.workspace.parent,
            env={**known, **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def told(self, *arguments: str, cwd: Path | None = None) -> Any:
        """Run one command that succeeds, and return the JSON that it prints."""
        ended = self(*arguments, cwd=cwd)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return json.loads(ended.stdout)

    @property
    def control(self) -> Control:
        """The same verbs in this process, for what is only looked at: a command takes half a second to start."""
        return connect(self.workspace)

    def champion(self) -> int:
        """Return the version in production."""
        lines = self.control.status()
        (line,) = (line for line in lines if (line["model"], line["environment"]) == (MODEL, "production"))
        return int(line["version"])

    def open_to_others(self) -> list[str]:
        """Return what in the workspace is not for its user only."""
        everything = [one for one in (self.workspace, *self.workspace.rglob("*")) if not one.is_symlink()]
        assert len(everything) > 50, "nothing was delivered here"
        return [str(one) for one in everything if one.exists() and one.stat().st_mode & 0o077]

    def newest_delivery(self) -> Any:
        """Return the newest delivery of the model."""
        return next(line for line in self.control.history(MODEL) if line["kind"] == "delivery")


@dataclass(frozen=True)
class Delivered:
    """A generated project whose first version is in production."""

    modelcd: Cli
    project: Path
    generated: Path
    told: dict[str, Any]

    def copy(self, folder: Path, change: Callable[[Path], object]) -> Path:
        """Copy the project as it was generated to *folder* and *change* it there."""
        shutil.copytree(self.generated, folder)
        change(folder)
        return folder


@contextmanager
def delivered_into(folder: Path) -> Iterator[Delivered]:
    """Generate a project in *folder* and deliver it into a workspace there, which is shut down at the end."""
    modelcd = Cli(folder / "workspace")
    made = modelcd("init", MODEL)
    assert made.returncode == 0, made.stderr
    project, generated = folder / MODEL, folder / "generated"
    shutil.copytree(project, generated)
    try:
        yield Delivered(modelcd, project, generated, modelcd.told("deliver", "--json", cwd=project))
    finally:
        ended = modelcd("down")
    assert ended.returncode == 0, ended.stderr


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a change of a project: *old* becomes *new* in *file*."""

    def change(project: Path) -> None:
        text = (project / file).read_text(encoding="utf-8")
        assert old in text, f"{file} has no {old}"
        (project / file).write_text(text.replace(old, new), encoding="utf-8")

    return change


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return one change that is all of *changes*."""

    def change(project: Path) -> None:
        for each in changes:
            each(project)

    return change
