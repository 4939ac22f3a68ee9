"""What the server is told when it is started: all of it by argument and environment, as the contract says.

Identity (model, version) and port have no defaults: a server that guesses who it is would be believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from modelcd.errors import ConfigurationError

MEGABYTE = 1 << 20

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Settings:
    """How to serve one folder.

    `gateway` is the secret by which requests are known that came through the gateway; no others are logged.
    `body_limit` is in bytes; `drain` is how long, in seconds, requests are still taken after SIGTERM while
    `/readyz` already answers 503, so that a gateway can look away before the port closes.
    """

    folder: Path
    port: int
    model: str
    version: str
    host: str = "127.0.0.1"
    predictions: Path | None = None
    gateway: str = field(default="", repr=False)
    log_all: bool = False
    body_limit: int = 16 * MEGABYTE
    drain: float = 0.5


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read the command line and the environment; raises `ConfigurationError` naming what is missing."""
    if len(arguments) != 1:
        raise ConfigurationError("usage: python -m modelcd.serving ARTIFACT_FOLDER")
    for name in ("PORT", "MODELCD_MODEL", "MODELCD_VERSION"):
        if not environment.get(name):
            raise ConfigurationError(f"{name} is not set", help=f"start the server with {name}=… in its environment")
    for name in ("MODELCD_MODEL", "MODELCD_VERSION"):
        if not (environment[name].isascii() and environment[name].isprintable()):
            raise ConfigurationError(f"{name} is {environment[name]!r}", help="it travels in headers: plain ASCII only")
    log = environment.get("MODELCD_LOG", "")
    if log not in ("", "all"):
        raise ConfigurationError(f"MODELCD_LOG is {log!r}", help="MODELCD_LOG=all logs every request; or leave it out")
    predictions, gateway = environment.get("MODELCD_PREDICTIONS", ""), environment.get("MODELCD_GATEWAY", "")
    if predictions and not gateway:
        raise ConfigurationError(
            "MODELCD_PREDICTIONS is set and MODELCD_GATEWAY is not: nothing shows which requests the gateway routed",
            help="give the secret that the gateway sends as X-Modelcd-Gateway, or leave MODELCD_PREDICTIONS out",
        )
    return Settings(
        folder=Path(arguments[0]).absolute(),
        port=_number(environment, "PORT", 0, (1, 65535)),
        model=environment["MODELCD_MODEL"],
        version=environment["MODELCD_VERSION"],
        host=environment.get("HOST") or "127.0.0.1",
        predictions=Path(predictions) if predictions else None,
        gateway=gateway,
        log_all=log == "all",
        body_limit=_number(environment, "MODELCD_BODY_LIMIT", 16 * MEGABYTE, (1, 1 << 40)),
        drain=_number(environment, "MODELCD_DRAIN", 0.5, (0.0, 5.0)),
    )


def _number(environment: Mapping[str, str], name: str, default: Number, bounds: tuple[Number, Number]) -> Number:
    """Read a number of the same type as *default*, within *bounds*."""
    text = environment.get(name)
    if not text:
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = None
    if value is None or not bounds[0] <= value <= bounds[1]:
        kind = "whole number" if isinstance(default, int) else "number"
        raise ConfigurationError(f"{name} is {text!r}", help=f"give a {kind} from {bounds[0]} to {bounds[1]}")
    return value
