"""How the journal's tables came to be what they are: one Alembic revision per format, the newest last.

Which format a database has is said by its table `meta`, as it was before there were migrations; Alembic's own table
is kept in step with it.  New databases are made as the newest at once, and a test holds both ways to the same result:
so Alembic, which takes as long to import as a command may take, is imported only where there is something to migrate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(connection: Connection, made_by: int, target: str = "head") -> None:
    """Bring the tables of format *made_by* (0: there are none) to the revision *target*.

    All of it happens in the caller's transaction, or none of it.
    """
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    folder = str(Path(__file__).parent)
    scripts = ScriptDirectory(folder, version_locations=[folder])
    context = MigrationContext.configure(connection)
    if made_by and context.get_current_revision() is None:
        context.stamp(scripts, f"{made_by:04}")
    ahead = list(scripts.iterate_revisions(target, context.get_current_revision() or "base"))
    with Operations.context(context):
        for revision in reversed(ahead):
            revision.module.upgrade()
            context.stamp(scripts, revision.revision)
