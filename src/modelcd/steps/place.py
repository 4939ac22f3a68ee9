"""Where a story happens: what the flows need of a backend, besides the ports themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from modelcd.environment import Environment
from modelcd.steps.build import Walk


class Place(Protocol):
    """Environments by name, a walk for each delivery, and a way to bring back what all of them need."""

    def environment(self, name: str) -> Environment:
        """Return the environment *name*; raises `UnknownName`."""
        ...

    def walk(self, project: Path, actor: str, delivery: str) -> Walk:
        """Return the delivery *delivery* of the project at *project* into production, about to begin."""
        ...

    def revive(self) -> None:
        """Start again what died of that which the environments run on; raises `Refused` where that is not wanted."""
        ...
