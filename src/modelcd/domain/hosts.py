"""Which `Host` a service on the loopback answers to: names that always mean this machine.

A page on the internet can have a name of its own point here (DNS rebinding); its browser then takes us for that page's
own server, and only the name in `Host` gives it away.  The port in it is not looked at: a tunnel has one of its own.
"""

from __future__ import annotations

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def is_local(host: str) -> bool:
    """Say whether *host*, the value of a `Host` header, names this machine."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower() in LOOPBACK
