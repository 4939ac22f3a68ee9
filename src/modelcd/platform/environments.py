"""The environments of a workspace, in their order, bound to what they share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from modelcd.adapters.children import ChildProject, warm
from modelcd.adapters.mlflow import MlflowRegistry
from modelcd.adapters.mlflow_catalog import MlflowCatalog
from modelcd.adapters.notices import Notices
from modelcd.adapters.processes import foresee, spares
from modelcd.environment import Environment
from modelcd.environments.kind import Kind, Site
from modelcd.errors import UnknownName
from modelcd.platform.declared import declared
from modelcd.platform.journal import clock_of, journal_of
from modelcd.platform.services import Services, registry_uri
from modelcd.project.libraries import libraries
from modelcd.steps.build import Walk
from modelcd.workspace import Workspace


@dataclass(frozen=True)
class Platform:
    """A `Place`: the environments of *workspace*, and what they need running beside them."""

    workspace: Workspace
    _bound: dict[str, tuple[Kind, Environment]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What `environments.py` says now; raises `ConfigurationError` for what is wrong in it, with the line."""
        return declared(self.workspace)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the environments, in the order of a promotion."""
        return tuple(kind.name for kind in self.kinds)

    def environment(self, name: str) -> Environment:
        """Return the environment *name*; nothing is started by this.  Raises `UnknownName`."""
        kind = next((kind for kind in self.kinds if kind.name == name), None)
        if kind is None:
            raise UnknownName("environment", name, self.names)
        if name not in self._bound or self._bound[name][0] is not kind:
            self._bound[name] = (kind, kind.bind(self._site))
        return self._bound[name][1]

    def all(self) -> dict[str, Environment]:
        """Return every environment by its name, in the order of a promotion."""
        return {name: self.environment(name) for name in self.names}

    def walk(self, project: Path, actor: str, delivery: str) -> Walk:
        """Return the delivery *delivery* of the project at *project*, built in a folder of its own, about to begin."""
        return Walk(
            env=self.environment(self.names[-1]),
            project=ChildProject(project),
            path=project,
            folder=self.workspace.path / "builds" / delivery,
            snapshots=self.workspace.path / "snapshots",
            interpreter=sys.executable,
            actor=actor,
            delivery=delivery,
            foresee=partial(_foresee, self._registry, project),
        )

    @contextmanager
    def warm(self, project: Path) -> Iterator[None]:
        """Start the commands of *project*, and servers that are foreseen, quickly: for the length of a delivery."""
        with warm(project), spares():
            yield

    def revive(self) -> None:
        """Start the gateway again if it died; raises `Refused` after `modelcd down`."""
        Services(self.workspace).again(["gateway"])

    @property
    def notices(self) -> Notices:
        """Who tells people: a file of the workspace, and the services that `MODELCD_NOTIFY` names by their URLs."""
        return Notices(self.workspace.path / "notices.log", os.environ.get("MODELCD_NOTIFY", "").split())

    @property
    def catalog(self) -> MlflowCatalog:
        """Where people look models up: MLflow's pages."""
        return MlflowCatalog(self._registry)

    @cached_property
    def _registry(self) -> MlflowRegistry:
        return MlflowRegistry(registry_uri(self.workspace), self.workspace.path / "registry" / "artifacts")

    @cached_property
    def _site(self) -> Site:
        journal = journal_of(self.workspace)
        return Site(
            folder=self.workspace.path,
            journal=journal,
            registry=self._registry,
            clock=clock_of(self.workspace),
            gateway=Services(self.workspace).gateway,
            make_room=journal.make_room,
        )


def _foresee(registry: MlflowRegistry, project: Path) -> None:
    """Begin a server for the gates, import the registry's library and make its database, then begin one for users.

    Each takes seconds when it is due.
    """
    foresee((), servers=1)
    registry.open()
    foresee(("joblib", *libraries(project)))
