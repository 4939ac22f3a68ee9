"""Prefect's server of a workspace, behind our guard: `python -m modelcd.flows.server`, with `MODELCD_WORKSPACE`.

Prefect's own credential (PREFECT_SERVER_API_AUTH_STRING) leaves the pages open and looks at no Host, and its page
would ask people for it once more; so the guard asks for ours, and Prefect for none.
"""

from __future__ import annotations

from prefect.server.api.server import create_app

from modelcd.adapters.guard import server
from modelcd.workspace import open_workspace


def main() -> None:
    """Serve until told to stop."""
    workspace = open_workspace()
    server(create_app(final=True), workspace.ports["prefect"], workspace.token).run()


if __name__ == "__main__":
    main()
