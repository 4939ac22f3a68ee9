"""Python that a document shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = [
    pytest.param(block, id=f"{path.name} {number}")
    for path in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_of_a_document_runs(block: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(block, "document", "exec"), names)

    assert len(names) > 1


def test_the_judges_document_rolls_a_bad_version_back(capsys: pytest.CaptureFixture[str]) -> None:
    block = next(b.values[0] for b in BLOCKS if b.id == "judge.md 0")
    exec(compile(str(block), "document", "exec"), {})

    assert capsys.readouterr().out.startswith("fail errors 12.0 %")
