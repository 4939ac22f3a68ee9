"""Where a story happens: what the flows need of a workspace, besides the ports themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from modelcd.environment import Environment
from modelcd.steps.build import Walk


class Place(Protocol):
    """Environments in the order of a promotion, a walk for each delivery, and a way to bring back what all need."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the environments, in the order of a promotion; there is at least one."""
        ...

    def environment(self, name: str) -> Environment:
        """Return the environment *name*; raises `UnknownName`."""
        ...

    def walk(self, project: Path, actor: str, delivery: str) -> Walk:
        """Return the delivery *delivery* of the project at *project*, about to begin."""
        ...

    def revive(self) -> None:
        """Start again what died of that which the environments run on; raises `Refused` where that is not wanted."""
        ...
