"""Who took the models of a workspace off the air, and who brought them back: a stream of its own in the journal.

Several workspaces may share a journal, so each has its own.
"""

from __future__ import annotations

from modelcd.domain.delivery import WORKSPACES
from modelcd.domain.records import Entry
from modelcd.platform.journal import clock_of, journal_of
from modelcd.workspace import Workspace, actor


def stream_of(workspace: Workspace) -> str:
    """Name the stream of *workspace*."""
    return f"{WORKSPACES}{workspace.name}"


def note_down(workspace: Workspace, reason: str) -> None:
    """Record that somebody takes *workspace* down, once for each time that it goes down."""
    _note(workspace, "down", {"reason": reason})


def note_up(workspace: Workspace) -> None:
    """Record that somebody brings *workspace* back, if anybody took it down."""
    _note(workspace, "up", {})


def _note(workspace: Workspace, kind: str, body: dict[str, str]) -> None:
    journal, stream = journal_of(workspace), stream_of(workspace)
    records = journal.read(stream)
    if kind != (records[-1].entry.kind if records else "up"):
        at = clock_of(workspace).now().isoformat()
        journal.append(stream, len(records), [Entry(kind, at, actor(), body=body)])
