"""Where the requests of one endpoint go, as a value.

Shares are per cent of units and add up to 100.  A shadow gets a copy of per cent of the champion's requests and
its answers are thrown away.  `fallback` names the version that answers when another arm fails with a 5xx; the
failure still counts for the arm the request was assigned to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Unit(StrEnum):
    """What is assigned to an arm: each request by itself, or a user for the whole release."""

    REQUEST = "request"
    USER = "user"


@dataclass(frozen=True)
class Arm:
    """A version that answers *share* per cent of the units; 0 keeps it (and its counters) without traffic."""

    version: int
    share: float


@dataclass(frozen=True)
class Shadow:
    """A version that gets a copy of *percent* per cent of the first arm's requests."""

    version: int
    percent: float


@dataclass(frozen=True)
class Routing:
    """The whole traffic policy of one endpoint; the first arm is the champion."""

    arms: tuple[Arm, ...]
    shadows: tuple[Shadow, ...] = ()
    unit: Unit = Unit.REQUEST
    salt: str = ""
    fallback: int | None = None

    def __post_init__(self) -> None:
        versions = [arm.version for arm in self.arms]
        if not versions:
            raise ValueError("a routing needs at least one arm")
        if len(set(versions)) != len(versions):
            raise ValueError(f"a version may be an arm only once, got {versions}")
        if any(not 0 <= arm.share <= 100 for arm in self.arms):
            raise ValueError("an arm's share is per cent, from 0 to 100")
        if abs(sum(arm.share for arm in self.arms) - 100) > 1e-9:
            raise ValueError(f"shares must add up to 100, got {sum(arm.share for arm in self.arms):g}")
        if any(not 0 < shadow.percent <= 100 for shadow in self.shadows):
            raise ValueError("a shadow's percent is above 0 and at most 100")
        if self.fallback is not None and self.fallback not in versions:
            raise ValueError(f"the fallback, version {self.fallback}, is not an arm")

    @classmethod
    def all_to(cls, version: int, *, keeping: tuple[int, ...] = ()) -> Routing:
        """Everything to *version*; the versions *keeping* stay known at share 0."""
        return cls((Arm(version, 100.0), *(Arm(other, 0.0) for other in keeping if other != version)))

    def share(self, version: int) -> float:
        """Return the share of *version* in per cent; 0 when it is no arm."""
        return next((arm.share for arm in self.arms if arm.version == version), 0.0)

    @property
    def serving(self) -> tuple[int, ...]:
        """The versions that get requests of users."""
        return tuple(arm.version for arm in self.arms if arm.share > 0)

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that needs an address: arms first, then shadows."""
        return tuple(dict.fromkeys([a.version for a in self.arms] + [s.version for s in self.shadows]))

    @property
    def revision(self) -> str:
        """A short digest of this very routing: the gateway stamps it on what it passes on."""
        text = json.dumps(self.to_plain(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_plain(self) -> dict[str, Any]:
        """Return this routing as JSON values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Routing:
        """Read what `to_plain` wrote."""
        return cls(
            arms=tuple(Arm(int(a["version"]), float(a["share"])) for a in plain["arms"]),
            shadows=tuple(Shadow(int(s["version"]), float(s["percent"])) for s in plain["shadows"]),
            unit=Unit(plain["unit"]),
            salt=str(plain["salt"]),
            fallback=None if plain["fallback"] is None else int(plain["fallback"]),
        )


@dataclass(frozen=True)
class Abilities:
    """What a traffic layer can do; what it cannot is refused when a release is planned, never when it runs."""

    weights: bool = True
    fallback: bool = False
    shadows: bool = False
    units: frozenset[Unit] = frozenset({Unit.REQUEST})
    max_arms: int = 2

    def missing(self, routing: Routing) -> list[str]:
        """Name what *routing* asks for and this layer cannot do."""
        lacks = []
        if len(routing.arms) > self.max_arms:
            lacks.append(f"{len(routing.arms)} arms (at most {self.max_arms})")
        if len(routing.arms) > 1 and not self.weights:
            lacks.append("weights")
        if routing.shadows and not self.shadows:
            lacks.append("shadows")
        if routing.fallback is not None and not self.fallback:
            lacks.append("fallback")
        if routing.unit not in self.units:
            lacks.append(f"assignment by {routing.unit}")
        return lacks
