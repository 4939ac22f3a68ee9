"""The gateway in this process: a `Router` that really dispatches, and the `Metrics` it keeps.

Models are callables, served at addresses; `MemoryRouter.send` is the request of a user.  It has every ability a
router can have.  Trade-off: arms take turns by their shares instead of by chance, and time is what a reply says it
took, so that a test of an hour of traffic needs neither luck nor an hour.
"""

from __future__ import annotations

import hashlib
import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelcd.domain.routing import Abilities, Routing, Unit
from modelcd.domain.samples import BUCKETS, LATENCY_GRID, Counters
from modelcd.errors import ConfigurationError
from modelcd.ports import Still, always


@dataclass(frozen=True)
class Request:
    """What a model gets: `leg` is how it got here (`main`, `fallback`, `shadow`), `routing` the revision in force.

    `gateway` is what a gateway shows that it was it; one in this process needs nothing.
    """

    body: Any = None
    leg: str = "main"
    routing: str = ""
    gateway: str = ""


@dataclass(frozen=True)
class Reply:
    """What a model does: answers `status` after `seconds`, or breaks off in mid-body when `cut`."""

    status: int = 200
    body: Any = None
    seconds: float = 0.001
    cut: bool = False


@dataclass(frozen=True)
class Answer:
    """What a user sees; status 0 is an answer that never came or broke off."""

    status: int
    version: str = ""
    routing: str = ""
    body: Any = None


Backend = Callable[[Request], Reply]

_UNREACHABLE = Reply(status=502)


@dataclass
class _Endpoint:
    routing: Routing
    addresses: dict[int, str]
    counters: dict[int, Counters]
    turns: dict[int, float] = field(default_factory=dict)
    copies: dict[int, float] = field(default_factory=dict)


class MemoryRouter:
    """Splits the traffic of endpoints between callables."""

    def __init__(self) -> None:
        self._endpoints: dict[str, _Endpoint] = {}
        self._backends: dict[str, Backend] = {}
        self._lock = threading.Lock()

    def serve(self, address: str, backend: Backend | None) -> None:
        """Let *backend* answer at *address*; None leaves nobody there, which users see as 502."""
        if backend is None:
            self._backends.pop(address, None)
        else:
            self._backends[address] = backend

    def write(self, endpoint: str, routing: Routing, addresses: Mapping[int, str], still: Still = always) -> None:
        """Put *routing* in force; raises `ConfigurationError` for a missing address or ability."""
        lacks = self.abilities().missing(routing)
        if lacks:
            raise ConfigurationError(f"the router cannot do: {', '.join(lacks)}", help="plan the release without it")
        homeless = [version for version in routing.versions if not addresses.get(version)]
        if homeless:
            raise ConfigurationError(f"versions {homeless} have no address", help="start them first")
        still()
        wanted = {version: addresses[version] for version in routing.versions}
        with self._lock:
            there = self._endpoints.get(endpoint)
            if there is not None and (there.routing, there.addresses) == (routing, wanted):
                return
            before = there.counters if there is not None else {}
            counters = {version: before.get(version, Counters()) for version in routing.versions}
            self._endpoints[endpoint] = _Endpoint(routing, wanted, counters)

    def read(self, endpoint: str) -> Routing | None:
        """Return the routing in force; None for an unknown endpoint."""
        with self._lock:
            there = self._endpoints.get(endpoint)
            return there.routing if there is not None else None

    def abilities(self) -> Abilities:
        """Say what this router can do: everything."""
        return Abilities(weights=True, fallback=True, shadows=True, units=frozenset(Unit), max_arms=10)

    def url(self, endpoint: str) -> str:
        """Return the address of *endpoint*, which means something to `send` only."""
        return f"memory://gateway/{endpoint}"

    def send(self, endpoint: str, body: Any = None, *, unit: str = "", patience: float = math.inf) -> Answer:
        """Ask *endpoint* to predict as a user would who leaves after *patience* seconds."""
        with self._lock:
            there = self._endpoints.get(endpoint)
            if there is None:
                return Answer(404)
            version, shadows = self._assign(there, unit)
        routing = there.routing
        request = Request(body, "main", routing.revision)
        reply, answering = self._ask(there, version, request), version
        gone = reply.seconds > patience
        rescued = False
        if not gone and not reply.cut and reply.status >= 500 and routing.fallback not in (None, version):
            assert routing.fallback is not None
            spare = self._ask(there, routing.fallback, replace(request, leg="fallback"))
            rescued = 200 <= spare.status < 400 and not spare.cut
            self._count(endpoint, version, reply, rescued)
            reply, answering = spare, routing.fallback
        elif not gone:
            self._count(endpoint, version, reply, rescued)
        for shadow in shadows if not gone else ():
            self._ask(there, shadow, replace(request, leg="shadow"))
        if gone or reply.cut:
            return Answer(0)
        return Answer(reply.status, str(answering), routing.revision, reply.body)

    def counted(self, endpoint: str) -> dict[int, Counters]:
        """Return what was counted for the versions of *endpoint* that are routed now."""
        with self._lock:
            there = self._endpoints.get(endpoint)
            return dict(there.counters) if there is not None else {}

    def _ask(self, there: _Endpoint, version: int, request: Request) -> Reply:
        backend = self._backends.get(there.addresses[version])
        return backend(request) if backend is not None else _UNREACHABLE

    def _assign(self, there: _Endpoint, unit: str) -> tuple[int, list[int]]:
        routing = there.routing
        if routing.unit is Unit.USER:
            version = assigned(routing, unit)
        else:
            for arm in routing.arms:
                there.turns[arm.version] = there.turns.get(arm.version, 0.0) + arm.share
            version = max((a.version for a in routing.arms if a.share > 0), key=lambda v: there.turns[v])
            there.turns[version] -= 100
        shadows = []
        for shadow in routing.shadows if version == routing.arms[0].version else ():
            there.copies[shadow.version] = there.copies.get(shadow.version, 0.0) + shadow.percent
            if there.copies[shadow.version] >= 100:
                there.copies[shadow.version] -= 100
                shadows.append(shadow.version)
        return version, shadows

    def _count(self, endpoint: str, version: int, reply: Reply, rescued: bool) -> None:
        with self._lock:
            counters = self._endpoints[endpoint].counters
            seen = counters.get(version)
            if seen is None:
                return
            latency = list(seen.latency)
            if not reply.cut:
                latency[min(bisect_left(LATENCY_GRID, reply.seconds), BUCKETS - 1)] += 1
            failed = reply.cut or not 200 <= reply.status < 400
            counters[version] = Counters(
                seen.requests + 1, seen.failures + failed, tuple(latency), seen.rescued + rescued
            )


class MemoryMetrics:
    """What a `MemoryRouter` counted."""

    def __init__(self, router: MemoryRouter) -> None:
        self._router = router

    def counters(self, endpoint: str) -> Mapping[int, Counters]:
        """Return cumulative counters per version of *endpoint*; an unknown endpoint has none."""
        return self._router.counted(endpoint)


def assigned(routing: Routing, unit: str) -> int:
    """Return the version that *unit* belongs to: the first 8 bytes of sha256(salt, NUL, unit), modulo 10,000.

    A rising share of a challenger only ever moves units towards it.  Who has no unit gets the champion.
    """
    if unit:
        bucket = int.from_bytes(hashlib.sha256(f"{routing.salt}\0{unit}".encode()).digest()[:8]) % 10_000
        edge = 0.0
        for arm in routing.arms[1:]:
            edge += arm.share * 100
            if bucket < edge:
                return arm.version
    return routing.arms[0].version
