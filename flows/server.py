"""Prefect's server of a workspace, behind our guard: `python -m modelcd.flows.server`, with `MODELCD_WORKSPACE`.

Prefect's own credential (PREFECT_SERVER_API_AUTH_STRING) leaves the pages open and looks at no Host, and its page
would ask people for it once more; so the guard asks for ours, and Prefect for none.

The control process starts again whatever died of a workspace; it is started again from here.
"""

from __future__ import annotations

import threading
from functools import partial

from prefect.server.api.server import create_app

from modelcd.adapters.guard import server
from modelcd.platform.reviving import revive
from modelcd.platform.services import Services
from modelcd.workspace import open_workspace


def main() -> None:
    """Serve until told to stop."""
    workspace = open_workspace()
    services, stop = Services(workspace), threading.Event()
    dead = partial(services.died, ["control"])
    threading.Thread(target=revive, args=(services, dead, stop), daemon=True).start()
    server(create_app(final=True), workspace.ports["prefect"], workspace.token).run()
    stop.set()


if __name__ == "__main__":
    main()
