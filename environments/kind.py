"""What a workspace gives to each of its environments, so that a kind need only bind what is different in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modelcd.adapters.traefik import Gateway
    from modelcd.environment import Environment
    from modelcd.ports import Clock, Journal, Registry


@dataclass(frozen=True)
class Site:
    """What all environments of a workspace share.

    *folder* is the workspace's, for what an environment keeps on this machine; *make_room* is as `Environment` has it.
    """

    folder: Path
    journal: Journal
    registry: Registry
    clock: Clock
    gateway: Gateway
    make_room: Callable[[], bool]


class Kind(Protocol):
    """A kind of environment: a name, and how it is bound.  Making one does no I/O."""

    @property
    def name(self) -> str:
        """What the environment is called."""
        ...

    def bind(self, site: Site) -> Environment:
        """Return the environment of this name, bound to what *site* shares; nothing is started by this."""
        ...
