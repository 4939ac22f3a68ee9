"""Some room on the disk that is kept for the way back, and given up when there is no other.

A full disk must not keep a bad version in production: going back takes a few records and one small file.  So a file of
`SIZE` bytes lies beside the journal; whoever finds the disk full removes it and goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

SIZE = 4_000_000

SPARE = 16
"""How many times `SIZE` must be free before the reserve is made (again): it must not be what fills the disk."""


class Reserve:
    """The file at *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made = False

    @property
    def there(self) -> bool:
        """Say whether it has not been used up."""
        return self._path.exists()

    def make(self) -> None:
        """Keep the room, once in this object's life, if there is enough of it."""
        if self._made or self.there:
            return
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < SPARE * SIZE:
                return
            self._made = True
            temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            with temporary.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, SIZE)
            os.replace(temporary, self._path)

    def give(self, error: BaseException) -> bool:
        """Give the room up when *error* comes from a full disk; says whether there was any."""
        with contextlib.suppress(OSError):
            if self.there and (_is_full(error) or self._no_room()):
                self._path.unlink()
                return True
        return False

    def _no_room(self) -> bool:
        # SQLite calls it an I/O error when there is no room for the file that its readers share.
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize < SIZE


def _is_full(error: BaseException | None) -> bool:
    """Say whether *error*, or what it comes from, is a disk without room."""
    while error is not None:
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
