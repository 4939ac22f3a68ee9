"""Folders of projects, as `init` and `demo` make them from templates and examples."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

NOT_COPIED = {"__pycache__", ".pytest_cache", "data", "variants"}


def copy_project(source: Path, folder: Path, words: Mapping[str, str]) -> None:
    """Copy the project at *source* to *folder*, with *words* put in."""
    pattern = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in words))
    for path in sorted(p for p in source.rglob("*") if p.is_file() and not NOT_COPIED & {*p.relative_to(source).parts}):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        if words:
            text = target.read_text(encoding="utf-8")
            target.write_text(pattern.sub(lambda found: words[found[0]], text), encoding="utf-8")


def remember(folder: Path, message: str) -> None:
    """Commit everything in *folder*, in a repository of its own, where git is at hand."""
    if shutil.which("git") is None:
        return
    git = ["git", "-c", "user.name=modelcd", "-c", "user.email=modelcd@localhost", "-c", "init.defaultBranch=main"]
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    if not (folder / ".git").exists():
        subprocess.run([*git, "init", "-q"], cwd=folder, env=env, check=True)
    subprocess.run([*git, "add", "-A"], cwd=folder, env=env, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], cwd=folder, env=env, check=True)
