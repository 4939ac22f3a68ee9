"""Format 2: the end of each stream in a row of its own, so that nobody walks the records to know what there is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

FILL = """
INSERT INTO heads (stream, seq, digest, checkpoint)
SELECT newest.stream, newest.seq, records.digest, newest.checkpoint
FROM (
    SELECT stream, MAX(seq) AS seq, MAX(CASE WHEN kind = 'checkpoint' THEN seq ELSE 0 END) AS checkpoint
    FROM records GROUP BY stream
) AS newest
JOIN records ON records.stream = newest.stream AND records.seq = newest.seq
"""


def upgrade() -> None:
    """Make the table of heads and fill it from the records."""
    name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "heads",
        sa.Column("stream", name, primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("checkpoint", sa.Integer, nullable=False),
    )
    op.execute(FILL)
    op.execute("UPDATE meta SET value = 2 WHERE key = 'format'")
