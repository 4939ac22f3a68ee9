"""A control process follows the environments as they are declared, and a mistake changes nothing."""

from __future__ import annotations

from pathlib import Path

from modelcd.api.__main__ import Followed
from modelcd.platform.environments import Platform
from modelcd.workspace import open_workspace

GOOD = 'from modelcd.environments import Laptop\n\nenvironments = [Laptop("a")]\n'
UNBOUND = "class Away:\n    name = 'away'\n\n    def bind(self, site):\n        1 / 0\n\n\nenvironments = [Away()]\n"


def test_a_mistake_is_told_once_and_changes_nothing(tmp_path: Path) -> None:
    platform, told = Platform(open_workspace(tmp_path)), list[str]()
    followed, file = Followed(platform, told.append), tmp_path / "environments.py"
    assert (followed.changed(), followed.changed()) == (True, False)

    for text in (GOOD + "\x00", "environments = []\n", UNBOUND):
        file.write_text(text, encoding="utf-8")
        assert (followed.changed(), followed.changed()) == (False, False)
    assert len(told) == 3
    assert all(one.startswith("the environments stay as they were: ") for one in told)

    file.write_text(GOOD, encoding="utf-8")
    assert (followed.changed(), followed.changed()) == (True, False)
    assert [kind.name for kind in followed.kinds] == ["a"]
