"""From a `Routing` to Traefik's dynamic configuration and back: pure, no file, no socket.

One endpoint is one document with one public router above a tree of services::

    router ── strip prefix, stamp routing ──> weighted ──> [mirrored] ──> [guarded] ──> main
                                                             │              └─ on 5xx ──> fallback
                                                             └─ copies ──> shadow

Each leaf (`main`, `fallback`, `shadow`) is a service object of its own, so that its counters are its own: a fallback
belongs to the arm that failed, not to the version that answers.  Leaf names are read back by `Leaf.parse`.

Trade-off: one arm alone still gets the whole tree, although a plain service would do.  Traefik drops the counters of a
service that leaves the configuration; a tree of constant shape never drops one by accident.  Bodies are buffered
without limit for fallback and shadow: a limit would answer 413 to users, or silently leave large requests out of what
a shadow sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from modelcd.adapters.traefik.doors import PUBLIC, VISITORS, answering
from modelcd.domain.routing import Abilities, Arm, Routing, Shadow, Unit
from modelcd.domain.versions import valid_model_name
from modelcd.errors import ConfigurationError, RouterError

ROUTING_HEADER = "X-Modelcd-Routing"
LEG_HEADER = "X-Modelcd-Leg"
VERSION_HEADER = "X-Version"

RETRY_AFTER = 2
"""Seconds after which somebody may ask again where no server was ready."""

ABILITIES = Abilities(weights=True, fallback=True, shadows=True, units=frozenset({Unit.REQUEST}), max_arms=10)

_STATE_HEADER = "X-Modelcd-State"
_KINDS = ("routers", "services", "middlewares")
_LEAF = re.compile(r"(?P<identifier>[a-z0-9.-]+)_(?P<version>\d+)_(?P<leg>main|fallback|shadow)(?:@file)?")
_BRANCH = re.compile(r"[a-z0-9.-]+_(?P<version>\d+)_(?:mirrored|guarded|main)")


class Leg(StrEnum):
    """How a request reached a version: assigned to it, in place of a failed one, or as a copy."""

    MAIN = "main"
    FALLBACK = "fallback"
    SHADOW = "shadow"


def identifier(endpoint: str) -> str:
    """Return *endpoint* (`environment/model`, the model perhaps `team/name`) as one name that Traefik accepts.

    Names have no dots, so distinct endpoints get distinct identifiers.  Raises `ConfigurationError`.
    """
    environment, _, model = endpoint.partition("/")
    if "/" in environment or not valid_model_name(environment) or not valid_model_name(model):
        raise ConfigurationError(
            f"{endpoint!r} is no endpoint",
            help="write environment/model or environment/team/model in lower case letters, digits and inner dashes",
        )
    return endpoint.replace("/", ".")


def endpoint_of(identifier: str) -> str:
    """Return the endpoint that has *identifier*."""
    return identifier.replace(".", "/")


@dataclass(frozen=True)
class Leaf:
    """A service object with counters of its own: *version* is the one the requests were assigned to."""

    endpoint: str
    version: int
    leg: Leg

    @property
    def name(self) -> str:
        """Name it in Traefik, without the provider."""
        return f"{identifier(self.endpoint)}_{self.version}_{self.leg}"

    @classmethod
    def parse(cls, name: str) -> Leaf | None:
        """Read what `name` wrote, with or without `@file`; None for anything else."""
        found = _LEAF.fullmatch(name)
        if found is None:
            return None
        return cls(endpoint_of(found["identifier"]), int(found["version"]), Leg(found["leg"]))


def refuse(routing: Routing, addresses: Mapping[int, str]) -> None:
    """Raise `ConfigurationError` for what Traefik cannot do or an address that is missing or no URL."""
    lacks = ABILITIES.missing(routing)
    if lacks:
        raise ConfigurationError(f"Traefik cannot do: {', '.join(lacks)}", help="plan the release without it")
    for arm in routing.arms:
        if abs(arm.share * 100 - round(arm.share * 100)) > 1e-6:
            raise ConfigurationError(
                f"version {arm.version} has share {arm.share!r}", help="write shares with at most two decimals"
            )
    for shadow in routing.shadows:
        if shadow.percent != int(shadow.percent):
            raise ConfigurationError(
                f"version {shadow.version} shadows {shadow.percent:g} %", help="Traefik mirrors whole per cents only"
            )
    if len({shadow.version for shadow in routing.shadows}) != len(routing.shadows):
        raise ConfigurationError("a version shadows twice", help="give each shadow once, with one per cent")
    for version in routing.versions:
        parts = urlsplit(addresses.get(version, ""))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            given = addresses.get(version)
            raise ConfigurationError(
                f"version {version} has {'no address' if given is None else f'the address {given!r}'}",
                help="start it first, and pass its http:// address",
            )


def render(endpoint: str, routing: Routing, addresses: Mapping[int, str]) -> dict[str, Any]:
    """Return the whole dynamic configuration of *endpoint*; raises `ConfigurationError` (see `refuse`)."""
    refuse(routing, addresses)
    name = identifier(endpoint)
    leaves, stamps = _leaves(endpoint, routing, addresses)
    router = _router(endpoint, [VISITORS, f"{name}_strip", f"{name}_stamp"], name)
    stamp = {
        "customRequestHeaders": {ROUTING_HEADER: routing.revision},
        "customResponseHeaders": {ROUTING_HEADER: routing.revision},
    }
    state = json.dumps(routing.to_plain(), sort_keys=True, separators=(",", ":"))
    middlewares = {
        f"{name}_strip": {"stripPrefix": {"prefixes": [f"/{endpoint}"]}},
        f"{name}_stamp": {"headers": stamp},
        # No router uses this one; it only carries the value, which the tree alone does not hold whole (salt, unit).
        f"{name}_state": {"headers": {"customRequestHeaders": {_STATE_HEADER: state}}},
        **stamps,
    }
    return {
        "http": {
            "routers": {name: router},
            "services": {**_branches(endpoint, routing), **leaves},
            "middlewares": middlewares,
        }
    }


def unavailable(endpoint: str) -> dict[str, Any]:
    """Return the whole dynamic configuration of *endpoint* while nothing serves it; `interpret` reads none from it."""
    name = f"{identifier(endpoint)}_unavailable"
    said = answering(
        503, f"no server of {endpoint} is ready", "try again; modelcd status says what is wrong", RETRY_AFTER
    )
    router = _router(endpoint, [VISITORS, name], "noop@internal")
    return {"http": {"routers": {name: router}, "middlewares": {name: said}}}


def _router(endpoint: str, middlewares: list[str], service: str) -> dict[str, Any]:
    path = f"/{endpoint}"
    return {
        "entryPoints": [PUBLIC],
        # A bare PathPrefix(`/a/b`) would also take what belongs to `/a/bc`.
        "rule": f"Path(`{path}`) || PathPrefix(`{path}/`)",
        "priority": len(path),
        "middlewares": middlewares,
        "service": service,
    }


def text_of(document: Mapping[str, Any]) -> str:
    """Return *document* as the text of a `.yml` file.

    Traefik runs its files through Go templates, so two opening braces in a string must not reach it side by side.
    """
    text = json.dumps(document, sort_keys=True, indent=1)
    return text.replace("{{", "{\\u007b")


def absent(document: Mapping[str, Any], loaded: Mapping[str, Any]) -> list[str]:
    """Name what of *document* (see `render`) is not in force in *loaded* (Traefik's `/api/rawdata`), or in error."""
    lacks = []
    for kind in _KINDS:
        for name, wanted in document["http"].get(kind, {}).items():
            there = loaded.get(kind, {}).get(f"{name}@file")
            if there is None:
                lacks.append(f"{kind[:-1]} {name}")
            elif there.get("status") != "enabled":
                lacks.append(f"{kind[:-1]} {name} ({there.get('error') or there.get('status')})")
            elif not _covers(there, wanted):
                lacks.append(f"the newest {kind[:-1]} {name}")
    return lacks


def interpret(endpoint: str, loaded: Mapping[str, Any]) -> Routing | None:
    """Return the routing of *endpoint* that *loaded* (Traefik's `/api/rawdata`) says is in force; None without one.

    Shares, shadows and fallback are read from the services that are in force.  Raises `RouterError` for a router or
    service in error and for a state that was not written by us.
    """
    name = identifier(endpoint)
    if f"{name}@file" not in (loaded.get("routers") or {}):
        return None
    _check_status(name, loaded)
    try:
        state = _own(loaded, "middlewares", f"{name}_state")["headers"]["customRequestHeaders"][_STATE_HEADER]
        meant = Routing.from_plain(json.loads(state))
        if not absent({"http": {"services": _branches(endpoint, meant)}}, loaded):
            return meant
        return _actual(name, loaded, meant)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RouterError(
            f"Traefik serves {endpoint} with a configuration that is not ours: {error!r}",
            help="write the routing of this endpoint again",
        ) from error


def _leaves(endpoint: str, routing: Routing, addresses: Mapping[int, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    answering = {Leaf(endpoint, arm.version, Leg.MAIN): arm.version for arm in routing.arms}
    for arm in routing.arms:
        if routing.fallback is not None and arm.version != routing.fallback:
            answering[Leaf(endpoint, arm.version, Leg.FALLBACK)] = routing.fallback
    for shadow in routing.shadows:
        answering[Leaf(endpoint, shadow.version, Leg.SHADOW)] = shadow.version
    services, stamps = {}, {}
    for leaf, version in answering.items():
        servers = [{"url": addresses[version]}]
        # A model answers to its own address only, whatever name the client used for the gateway.
        balancer = {"servers": servers, "passHostHeader": False}
        services[leaf.name] = {"middlewares": [leaf.name], "loadBalancer": balancer}
        stamps[leaf.name] = {
            "headers": {
                "customRequestHeaders": {LEG_HEADER: str(leaf.leg)},
                "customResponseHeaders": {VERSION_HEADER: str(version)},
            }
        }
    return services, stamps


def _branches(endpoint: str, routing: Routing) -> dict[str, Any]:
    name = identifier(endpoint)
    services: dict[str, Any] = {}
    entries = []
    for arm in routing.arms:
        top = Leaf(endpoint, arm.version, Leg.MAIN).name
        if routing.fallback is not None and arm.version != routing.fallback:
            spare = Leaf(endpoint, arm.version, Leg.FALLBACK).name
            guarded = {"service": top, "fallback": spare, "errors": {"status": ["500-599"]}}
            top = f"{name}_{arm.version}_guarded"
            services[top] = {"failover": guarded}
        if routing.shadows and arm is routing.arms[0]:
            mirrors = [
                {"name": Leaf(endpoint, shadow.version, Leg.SHADOW).name, "percent": int(shadow.percent)}
                for shadow in routing.shadows
            ]
            # On the champion's branch: above the weights, the deterministic turns of both would lock in phase.
            mirroring = {"service": top, "mirrors": mirrors}
            top = f"{name}_{arm.version}_mirrored"
            services[top] = {"mirroring": mirroring}
        entries.append({"name": top, "weight": round(arm.share * 100)})
    services[name] = {"weighted": {"services": entries}}
    return services


def _covers(there: Any, wanted: Any) -> bool:
    """Say whether *there* is *wanted* plus what Traefik fills in by itself."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(k in there and _covers(there[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(_covers(a, b) for a, b in zip(there, wanted, strict=True))
        )
    if isinstance(wanted, str) and isinstance(there, str):
        return there.removesuffix("@file") == wanted
    return bool(there == wanted)


def _own(loaded: Mapping[str, Any], kind: str, name: str) -> Any:
    return loaded[kind][name if name.endswith("@file") else f"{name}@file"]


def _check_status(name: str, loaded: Mapping[str, Any]) -> None:
    for kind in _KINDS:
        for key, value in (loaded.get(kind) or {}).items():
            ours = key == f"{name}@file" or key.startswith(f"{name}_")
            if ours and value.get("status") != "enabled":
                errors = value.get("error") or value.get("status")
                raise RouterError(
                    f"Traefik reports {kind[:-1]} {key} as {errors}", help="write the routing of this endpoint again"
                )


def _actual(name: str, loaded: Mapping[str, Any], meant: Routing) -> Routing:
    entries = _own(loaded, "services", loaded["routers"][f"{name}@file"]["service"])["weighted"]["services"]
    total = sum(entry["weight"] for entry in entries)
    arms, shadows, fallback = [], [], None
    for entry in entries:
        found = _BRANCH.fullmatch(entry["name"].removesuffix("@file"))
        if found is None or total <= 0:
            raise ValueError(f"weighted entry {entry}")
        arms.append(Arm(int(found["version"]), entry["weight"] * 100 / total))
        branch = _own(loaded, "services", entry["name"])
        if "mirroring" in branch:
            shadows += [_shadow(mirror) for mirror in branch["mirroring"]["mirrors"]]
            branch = _own(loaded, "services", branch["mirroring"]["service"])
        if "failover" in branch:
            stamp = _own(loaded, "middlewares", branch["failover"]["fallback"])
            fallback = int(stamp["headers"]["customResponseHeaders"][VERSION_HEADER])
    return Routing(tuple(arms), tuple(shadows), meant.unit, meant.salt, fallback)


def _shadow(mirror: Mapping[str, Any]) -> Shadow:
    leaf = Leaf.parse(mirror["name"])
    if leaf is None:
        raise ValueError(f"mirror {mirror}")
    return Shadow(leaf.version, float(mirror["percent"]))
