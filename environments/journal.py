"""Where the journal is: in the workspace, or on the server that `MODELCD_JOURNAL` names.

`postgresql://user@host/database` is for several machines that share one journal.  Passwords are for the means of
PostgreSQL's own library (PGPASSWORD, ~/.pgpass); one in the address is never shown.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.system import SystemClock
from modelcd.ports import Clock, Journal
from modelcd.workspace import Workspace

if TYPE_CHECKING:
    from modelcd.adapters.postgres import Postgres

VARIABLE = "MODELCD_JOURNAL"

_SERVERS: WeakValueDictionary[str, Postgres] = WeakValueDictionary()


def journal_of(workspace: Workspace) -> Journal:
    """Return the journal of *workspace*; nothing is made or reached by this."""
    address = os.environ.get(VARIABLE)
    return SqlJournal(_server(address)) if address else SqlJournal(workspace.journal)


def clock_of(_: Workspace) -> Clock:
    """Return the clock that all who write to the journal agree on: the server's, or this machine's."""
    address = os.environ.get(VARIABLE)
    if not address:
        return SystemClock()
    from modelcd.adapters.postgres import PostgresClock

    return PostgresClock(_server(address))


def _server(address: str) -> Postgres:
    """Return the one pool of connections to the server at *address*, which lives as long as somebody uses it."""
    from modelcd.adapters.postgres import Postgres

    server = _SERVERS.get(address)
    if server is None:
        server = _SERVERS[address] = Postgres(address)
    return server
