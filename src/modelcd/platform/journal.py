"""Where the journal is: in the workspace, or on the server that `MODELCD_JOURNAL` names.

`postgresql://user@host/database` is for several machines that share one journal.  A workspace remembers it from the
first time on: a shell that does not have the variable must not begin another journal.  Passwords are for the means of
PostgreSQL's own library (PGPASSWORD, ~/.pgpass); one in the address is neither shown nor remembered.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from modelcd.adapters.journal import SqlJournal
from modelcd.adapters.system import SystemClock
from modelcd.errors import ConfigurationError
from modelcd.ports import Clock
from modelcd.workspace import Workspace

if TYPE_CHECKING:
    from modelcd.adapters.postgres import Postgres

VARIABLE = "MODELCD_JOURNAL"

_SERVERS: WeakValueDictionary[str, Postgres] = WeakValueDictionary()


def journal_of(workspace: Workspace) -> SqlJournal:
    """Return the journal of *workspace*; nothing is made or reached by this."""
    address = _address(workspace)
    return SqlJournal(_server(address)) if address else SqlJournal(workspace.journal)


def clock_of(workspace: Workspace) -> Clock:
    """Return the clock that all who write to the journal agree on: the server's, or this machine's."""
    address = _address(workspace)
    if not address:
        return SystemClock()
    from modelcd.adapters.postgres import PostgresClock

    return PostgresClock(_server(address))


def _address(workspace: Workspace) -> str:
    """Return the server's address, or nothing; raises `ConfigurationError` when the workspace knows another journal."""
    given, known = os.environ.get(VARIABLE, ""), workspace.shared_journal
    shown = without_password(given)
    if given and known and shown != known:
        raise ConfigurationError(
            f"the journal of the workspace {workspace.path} is at {known}, and {VARIABLE} names {shown}",
            help=f"unset {VARIABLE}, or use another workspace",
        )
    if given and not known:
        if workspace.journal.exists():
            raise ConfigurationError(
                f"the workspace {workspace.path} has a journal of its own, and {VARIABLE} names {shown}",
                help=f"unset {VARIABLE}, or use another workspace; a journal cannot be moved yet",
            )
        workspace.share_journal(shown)
    return given or known


def without_password(address: str) -> str:
    """Return *address* without the password in it, if there is one."""
    scheme, there, rest = address.partition("://")
    who, at, where = rest.rpartition("@")
    return f"{scheme}{there}{who.partition(':')[0]}{at}{where}"


def _server(address: str) -> Postgres:
    """Return the one pool of connections to the server at *address*, which lives as long as somebody uses it."""
    from modelcd.adapters.postgres import Postgres

    server = _SERVERS.get(address)
    if server is None:
        server = _SERVERS[address] = Postgres(address)
    return server
