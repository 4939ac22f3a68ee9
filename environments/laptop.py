"""A laptop: models as processes behind Traefik, everything remembered in one folder."""

from __future__ import annotations

import sys
from pathlib import Path

from modelcd.adapters.children import ChildProject, ChildSuccesses
from modelcd.adapters.http import HttpScoring
from modelcd.adapters.mlflow import MlflowRegistry
from modelcd.adapters.predictions import SpoolPredictions
from modelcd.adapters.processes import ProcessRuntime
from modelcd.adapters.traefik import TraefikMetrics, TraefikRouter
from modelcd.environment import Environment
from modelcd.environments.journal import clock_of, journal_of
from modelcd.environments.services import Services, registry_uri
from modelcd.errors import UnknownName
from modelcd.steps.build import Walk
from modelcd.workspace import Workspace

NAMES = ("staging", "production")
"""The environments of a laptop, in the order in which a version goes through them."""


def laptop(workspace: Workspace, name: str) -> Environment:
    """Return the environment *name* of *workspace*; nothing is started by this."""
    if name not in NAMES:
        raise UnknownName("environment", name, NAMES)
    gateway = Services(workspace).gateway
    predictions = SpoolPredictions(workspace.path / "predictions")
    return Environment(
        name=name,
        journal=journal_of(workspace),
        registry=MlflowRegistry(registry_uri(workspace), workspace.path / "registry" / "artifacts"),
        runtime=ProcessRuntime(workspace.path / "places", predictions=predictions.spool),
        scoring=HttpScoring(),
        router=TraefikRouter(gateway),
        metrics=TraefikMetrics(gateway),
        predictions=predictions,
        successes=ChildSuccesses(),
        clock=clock_of(workspace),
    )


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
    )
