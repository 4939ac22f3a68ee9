"""Which format a database of ours has: made as it is now, and any other one is refused."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, inspect, select

from modelcd.errors import ConfigurationError

_OURS = MetaData()
_META = Table("meta", _OURS, Column("key", String, primary_key=True), Column("value", Integer, nullable=False))
_MADE_BY = select(_META.c.value).where(_META.c.key == "format")


@dataclass(frozen=True)
class Format:
    """The tables that a database should have, and the number of their format."""

    tables: MetaData
    number: int

    def missing(self, connection: Connection) -> bool:
        """Say whether the database is still to be made."""
        return _made_by(connection) is None

    def make(self, connection: Connection) -> None:
        """Make what is `missing`, in the transaction of *connection*, which nobody else makes meanwhile."""
        if self.missing(connection):
            _OURS.create_all(connection)
            self.tables.create_all(connection)
            connection.execute(_META.insert().values(key="format", value=self.number))

    def refuse_other(self, connection: Connection, what: str) -> None:
        """Raise `ConfigurationError` when the database, named *what* in the message, has another format."""
        made_by = _made_by(connection)
        if made_by != self.number:
            age = "a newer" if made_by is None or made_by > self.number else "an older"
            raise ConfigurationError(
                f"{what} was made by {age} modelcd (format {made_by}, this one has {self.number})",
                help="use that modelcd, or name another workspace",
            )


def _made_by(connection: Connection) -> int | None:
    if not inspect(connection).has_table("meta"):
        return None
    value = connection.scalar(_MADE_BY)
    return None if value is None else int(value)
