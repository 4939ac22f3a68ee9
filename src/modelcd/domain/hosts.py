"""Which `Host` a service on the loopback answers to: names that always mean this machine.

A page on the internet can have a name of its own point here (DNS rebinding); its browser then takes us for that page's
own server, and only the name in `Host` gives it away.  The port in it is not looked at: a tunnel has one of its own.
"""

from __future__ import annotations

import re

from modelcd.errors import UsageError

_HOST = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def is_local(host: str) -> bool:
    """Say whether *host*, the value of a `Host` header, names this machine."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower() in LOOPBACK


def checked_host(name: str) -> str:
    """Return *name*, a host without a port, in lower case; raises `UsageError`."""
    if re.fullmatch(_HOST, name.lower()) is None:
        raise UsageError(f"{name!r} is no name of a host", help="write it as models.example.com, without a port")
    return name.lower()


def checked_origin(origin: str) -> str:
    """Return *origin* as browsers write it, `https://app.example.com` or with `:PORT`; raises `UsageError`."""
    if re.fullmatch(rf"https?://{_HOST}(?::[0-9]{{1,5}})?", origin.lower()) is None:
        raise UsageError(f"{origin!r} is no origin", help="write it as https://app.example.com, without a path")
    return origin.lower()
