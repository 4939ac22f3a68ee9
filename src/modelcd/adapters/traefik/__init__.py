"""Traefik as the gateway of a workspace: the process, the `Router` port and the `Metrics` port."""

from modelcd.adapters.traefik.doors import Doors
from modelcd.adapters.traefik.gateway import Gateway
from modelcd.adapters.traefik.metrics import TraefikMetrics
from modelcd.adapters.traefik.router import TraefikRouter

__all__ = ["Doors", "Gateway", "TraefikMetrics", "TraefikRouter"]
