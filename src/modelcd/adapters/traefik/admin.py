"""The one door to Traefik over HTTP: its admin API, and the public port for probes.

A client per use, without the environment's proxies: everything is on the loopback, and a kept connection would tie an
adapter to the life of one Traefik.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelcd.errors import CannotTell

if TYPE_CHECKING:
    import httpx


@contextmanager
def opened(
    error: type[CannotTell], base: str, credential: tuple[str, str] | None = None, timeout: float = 5.0
) -> Iterator[httpx.Client]:
    """Yield a client for *base* and translate what goes wrong into *error*; *timeout* is seconds per request.

    *credential* is user and password, where *base* asks for them.
    """
    import httpx  # by whoever asks; who only wants to know whether the gateway lives does without

    try:
        with httpx.Client(
            base_url=base,
            auth=credential,
            timeout=timeout,
            verify=False,
            trust_env=False,
            headers={"accept-encoding": "identity"},
        ) as client:
            yield client
    except httpx.HTTPStatusError as failed:
        status = failed.response.status_code
        raise error(f"Traefik answered {status} to {failed.request.url}", help="see traefik.log") from failed
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as failed:
        raise error(f"Traefik at {base} cannot be read: {failed!r}", help="start it with `modelcd up`") from failed
