"""Some room on the disk that is kept for the way back, and given up when there is no other.

A full disk must not keep a bad version in production: going back takes a few records and one small file.  So a file of
`SIZE` bytes lies beside the journal; who has to go back on a full disk removes it and goes on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

SIZE = 4_000_000

SPARE = 16
"""How many times `SIZE` must be free before the reserve is made (again): it must not be what fills the disk."""


class Reserve:
    """The file at *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def there(self) -> bool:
        """Say whether it has not been used up."""
        return self._path.exists()

    def make(self) -> None:
        """Keep the room if it is not kept and there is enough of it."""
        if self.there:
            return
        with contextlib.suppress(OSError):
            if self._free() < SPARE * SIZE:
                return
            temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            with temporary.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, SIZE)
            os.replace(temporary, self._path)

    def give(self) -> bool:
        """Give the room up when the disk is full; says whether there was any."""
        with contextlib.suppress(OSError):
            if self.there and self._free() < SIZE:
                self._path.unlink()
                return True
        return False

    def _free(self) -> int:
        return shutil.disk_usage(self._path.parent).free
