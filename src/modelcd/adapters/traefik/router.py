"""The `Router` port on Traefik's file provider.

A change is one file, put in place by a rename, because Traefik reads a half-written file as an outage.  It is done
when two things agree: Traefik's own state holds all of it, and answers through the public port carry its revision.
Neither alone is enough: the state says nothing about the path of a request, and the stamp nothing about addresses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelcd.adapters.traefik.admin import opened
from modelcd.adapters.traefik.configuration import (
    ABILITIES,
    ROUTING_HEADER,
    absent,
    identifier,
    interpret,
    render,
    text_of,
)
from modelcd.adapters.traefik.gateway import Gateway, put
from modelcd.domain.routing import Abilities, Routing
from modelcd.errors import RouterError
from modelcd.ports import Still, always

_HITS = 3
_POLL = 0.02


class TraefikRouter:
    """Splits traffic by Traefik's weights; *deadline* is how many seconds a change may take to be seen."""

    def __init__(self, gateway: Gateway, deadline: float = 10.0) -> None:
        self._gateway = gateway
        self._deadline = deadline

    def write(self, endpoint: str, routing: Routing, addresses: Mapping[int, str], still: Still = always) -> None:
        """Put *routing* in force and return once Traefik's state and answers through it both show it.

        Raises `ConfigurationError` for what Traefik cannot do, `RouterError` when it was not seen in time.
        """
        document = render(endpoint, routing, addresses)
        self._loaded()  # a gateway that cannot be read is not written to: nobody would see what became of it
        path = self._gateway.watched / f"{identifier(endpoint)}.yml"
        text = text_of(document)
        if _text(path) != text:
            still()
            put(path, text, self._gateway.folder)
        until = time.monotonic() + self._deadline
        self._wait_for_state(endpoint, document, until)
        self._wait_for_answers(endpoint, routing.revision, until)

    def read(self, endpoint: str) -> Routing | None:
        """Return the routing that Traefik has loaded for *endpoint*; raises `RouterError`."""
        return interpret(endpoint, self._loaded())

    def abilities(self) -> Abilities:
        """Say what Traefik can do."""
        return ABILITIES

    def url(self, endpoint: str) -> str:
        """Return the public address of *endpoint*."""
        identifier(endpoint)
        return f"{self._gateway.url}/{endpoint}"

    def _loaded(self) -> Mapping[str, Any]:
        with opened(RouterError, self._gateway.admin_url, self._gateway.credential) as client:
            loaded = client.get("/api/rawdata").raise_for_status().json()
        if not isinstance(loaded, dict):
            raise RouterError(f"Traefik's state at {self._gateway.admin_url} is no object", help="see traefik.log")
        return loaded

    def _wait_for_state(self, endpoint: str, document: Mapping[str, Any], until: float) -> None:
        while lacks := absent(document, self._loaded()):
            if time.monotonic() > until:
                raise RouterError(
                    f"Traefik did not load the routing of {endpoint} within {self._deadline:g} s; "
                    f"it lacks {', '.join(lacks[:3])}",
                    help=f"see {self._gateway.log}",
                )
            time.sleep(_POLL)

    def _wait_for_answers(self, endpoint: str, revision: str, until: float) -> None:
        from httpx import TransportError

        hits, seen = 0, "nothing"
        with opened(RouterError, self._gateway.url, timeout=2.0) as client:
            while hits < _HITS:
                try:
                    # Any status will do: going back to a healthy version must not wait for a sick one.
                    seen = client.get(f"/{endpoint}/readyz").headers.get(ROUTING_HEADER, "no routing")
                except TransportError as error:
                    seen = repr(error)
                hits = hits + 1 if seen == revision else 0
                if not hits and time.monotonic() > until:
                    raise RouterError(
                        f"answers of {endpoint} did not carry routing {revision} within {self._deadline:g} s; "
                        f"the last one had {seen}",
                        help=f"see {self._gateway.log}",
                    )
                if not hits:
                    time.sleep(_POLL)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
