"""When a version that a later environment took back must leave the one before it, too.

What was rolled back from production goes on serving in staging otherwise, and whoever looks there takes it for the
next one to come.  What was put there after it was taken back is meant: a new try has to be accepted first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modelcd.domain.release import Endpoint


@dataclass(frozen=True)
class Demotion:
    """The way back from the version *takes_out* to *version*, as the release named *release*; *why* is for people."""

    release: str
    version: int
    takes_out: int
    why: str


def demotion(endpoint: Endpoint, later: Endpoint) -> Demotion | None:
    """Return how *endpoint* has to follow *later*, which took its champion back; None while there is nothing to do.

    It leads to the newest version that served there and that nobody took back; without one, to what serves in *later*.
    It is opened once: if it ends otherwise, that was a person's wish or did not work.  A first version that did not
    come up in *later* stays, since nothing could take its place.
    """
    champion = endpoint.champion
    if champion is None or endpoint.open or endpoint.held or later.open or later.champion == champion:
        return None
    cause = later.rejected(champion)
    if cause is None or datetime.fromisoformat(cause.ended) <= datetime.fromisoformat(endpoint.champion_since):
        return None
    name = f"{cause.id}-{endpoint.environment}"
    fit = (v for v in reversed(endpoint.champions) if not (endpoint.rejected(v) or later.rejected(v)))
    before = next(fit, later.champion)
    if before is None or any(release.id == name for release in endpoint.releases):
        return None
    how = "taken out" if cause.takes_out == champion else str(cause.ending)
    return Demotion(name, before, champion, f"version {champion} was {how} in {later.environment}, release {cause.id}")
