"""A laptop: models as processes behind Traefik, everything remembered in one folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modelcd.adapters.children import ChildProject, ChildSuccesses, warm
from modelcd.adapters.http import HttpScoring
from modelcd.adapters.mlflow import MlflowRegistry
from modelcd.adapters.mlflow_catalog import MlflowCatalog
from modelcd.adapters.notices import Notices
from modelcd.adapters.predictions import SpoolPredictions
from modelcd.adapters.processes import ProcessRuntime, foresee, spares
from modelcd.adapters.traefik import TraefikMetrics, TraefikRouter
from modelcd.environment import Environment
from modelcd.environments.journal import clock_of, journal_of
from modelcd.environments.services import Services, registry_uri
from modelcd.errors import UnknownName
from modelcd.ports import Registry
from modelcd.project.libraries import libraries
from modelcd.steps.build import Walk
from modelcd.workspace import Workspace

NAMES = ("staging", "production")
"""The environments of a laptop, in the order in which a version goes through them."""


def laptop(workspace: Workspace, name: str) -> Environment:
    """Return the environment *name* of *workspace*; nothing is started by this."""
    if name not in NAMES:
        raise UnknownName("environment", name, NAMES)
    gateway = Services(workspace).gateway
    predictions, journal = SpoolPredictions(workspace.path / "predictions"), journal_of(workspace)
    return Environment(
        name=name,
        journal=journal,
        registry=_registry(workspace),
        runtime=ProcessRuntime(workspace.path / "places", predictions=predictions.spool),
        scoring=HttpScoring(),
        router=TraefikRouter(gateway),
        metrics=TraefikMetrics(gateway),
        predictions=predictions,
        successes=ChildSuccesses(),
        clock=clock_of(workspace),
        make_room=journal.make_room,
    )


def notices(workspace: Workspace) -> Notices:
    """Return who tells people: a file of the workspace, and the services that `MODELCD_NOTIFY` names by their URLs."""
    return Notices(workspace.path / "notices.log", os.environ.get("MODELCD_NOTIFY", "").split())


def catalog(workspace: Workspace) -> MlflowCatalog:
    """Return where people look models up: MLflow's pages."""
    return MlflowCatalog(_registry(workspace))


def _registry(workspace: Workspace) -> MlflowRegistry:
    return MlflowRegistry(registry_uri(workspace), workspace.path / "registry" / "artifacts")


def walk_of(workspace: Workspace, env: Environment, project: Path, actor: str, delivery: str) -> Walk:
    """Return a delivery about to begin: the project at *project*, built in a folder of its own."""
    return Walk(
        env=env,
        project=ChildProject(project),
        path=project,
        folder=workspace.path / "builds" / delivery,
        snapshots=workspace.path / "snapshots",
        interpreter=sys.executable,
        actor=actor,
        delivery=delivery,
        foresee=partial(_foresee, env.registry, project),
    )


def _foresee(registry: Registry, project: Path) -> None:
    """Import the registry's library and make its database, then begin a server: both take seconds when they are due."""
    if isinstance(registry, MlflowRegistry):
        registry.open()
    foresee(libraries(project))


@dataclass(frozen=True)
class Laptop:
    """A `Place`: the environments of *workspace*, and what they need running beside them."""

    workspace: Workspace

    def environment(self, name: str) -> Environment:
        """Return the environment *name*; raises `UnknownName`."""
        return laptop(self.workspace, name)

    def walk(self, project: Path, actor: str, delivery: str) -> Walk:
        """Return the delivery *delivery* of the project at *project* into production, about to begin."""
        return walk_of(self.workspace, laptop(self.workspace, "production"), project, actor, delivery)

    @contextmanager
    def warm(self, project: Path) -> Iterator[None]:
        """Start the commands of *project*, and servers that are foreseen, quickly: for the length of a delivery."""
        with warm(project), spares():
            yield

    def revive(self) -> None:
        """Start the gateway again if it died; raises `Refused` after `modelcd down`."""
        Services(self.workspace).again(["gateway"])
