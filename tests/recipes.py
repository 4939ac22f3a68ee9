"""The recipes of the documents, taken apart: the files they have people write, what is typed, what is seen."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from documents import ROOT

FOLDER = ROOT / "docs" / "recipes"
FILE = re.compile(r"^`([\w./-]+)`:\n\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SEEN = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """One page: `files` by name, `scripts` that are run before anything else, and the lines that are `seen`."""

    name: str
    files: dict[str, str]
    scripts: list[str]
    seen: list[str]

    def cook(self, folder: Path) -> Path:
        """Write the files into *folder* and run the scripts, as the page says."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        for script in self.scripts:
            subprocess.run([sys.executable, script], cwd=folder, check=True, capture_output=True)
        return folder


def read(path: Path) -> Recipe:
    """Return the recipe of one page."""
    text = path.read_text(encoding="utf-8")
    typed = [line for block in SHELL.findall(text) for line in block.splitlines()]
    scripts = [line.removeprefix("python ") for line in typed if line.startswith("python ")]
    seen = [line for block in SEEN.findall(text) for line in block.splitlines()]
    return Recipe(path.stem, dict(FILE.findall(text)), scripts, seen)


RECIPES = {path.stem: read(path) for path in sorted(FOLDER.glob("*.md"))}
