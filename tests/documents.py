"""What the documents tell people to type, for the tests that hold them to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(
        ROOT / name
        for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benchmarks/README.md", "benchmarks/judge.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
    ROOT / "src/modelcd/cli/scaffold/README.md",
]
SHELL = re.compile(r"(?:^|[`/ ])modelcd ((?:[a-z]+|--[a-z]+)\b[^`#\n]*)", re.MULTILINE)


def typed(document: Path) -> Iterator[str]:
    """Everything after `modelcd ` in the code of *document*: in back quotes, and in indented or fenced lines."""
    fenced = False
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        code = [line] if fenced or line.startswith("    ") else re.findall(r"`[^`]+`", line)
        for text in code:
            found = (re.split(r" (?:&&|>>?|\|) ", command)[0].strip() for command in SHELL.findall(text))
            yield from (command for command in found if not command.startswith("import "))


LINES = [(document.relative_to(ROOT).as_posix(), line) for document in DOCUMENTS for line in typed(document)]
