"""A laptop: models as processes of this machine, behind the gateway of the workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelcd.environment import Environment
    from modelcd.environments.kind import Site


@dataclass(frozen=True)
class Laptop:
    """An environment whose models are processes of this machine.

    Args:
        name: What it is called, everywhere; it stands in addresses, too.

    Examples:
        >>> Laptop("staging").name
        'staging'
    """

    name: str

    def bind(self, site: Site) -> Environment:
        """Return its ports; nothing is started by this."""
        # Here, not above: who only looks up which environments there are needs none of them.
        from modelcd.adapters.children import ChildSuccesses
        from modelcd.adapters.http import HttpScoring
        from modelcd.adapters.predictions import SpoolPredictions
        from modelcd.adapters.processes import ProcessRuntime
        from modelcd.adapters.traefik import TraefikMetrics, TraefikRouter
        from modelcd.environment import Environment

        predictions = SpoolPredictions(site.folder / "predictions")
        secret = site.gateway.doors.secret
        return Environment(
            name=self.name,
            journal=site.journal,
            registry=site.registry,
            runtime=ProcessRuntime(site.folder / "places", predictions=predictions.spool, gateway=secret),
            scoring=HttpScoring(),
            router=TraefikRouter(site.gateway),
            metrics=TraefikMetrics(site.gateway),
            predictions=predictions,
            successes=ChildSuccesses(),
            clock=site.clock,
            make_room=site.make_room,
        )
