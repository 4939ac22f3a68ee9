"""Locks between processes on one machine, which end with the process that holds them.

The operating system's file lock, never a file whose mere existence means "locked": that one would outlive a killed
holder.  The price is that the folder must be on a file system that has such locks.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from modelcd.errors import Busy, CannotTell


@contextlib.contextmanager
def held(path: Path, what: str, wait: float, fails: type[CannotTell]) -> Iterator[None]:
    """Hold the lock file *path* for the block; threads of one process exclude each other too.

    *what* names the thing in messages.  Raises `Busy`, saying who has it, when it is not free within *wait* seconds,
    and *fails* when it cannot be locked at all.
    """
    lock = FileLock(path, mode=0o600, poll_interval=0.02, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=max(0.0, wait))
    except Timeout:
        raise Busy(f"{what} is held by {_holder(path)}", help="wait until it is done, then try again") from None
    except (OSError, NotImplementedError) as error:
        raise fails(
            f"{what} cannot be locked: {error}",
            help=f"{path.parent} must be writable and on a file system with file locks",
        ) from error
    try:
        _note(path)
        yield
    finally:
        with contextlib.suppress(OSError):
            _note_of(path).unlink(missing_ok=True)
        lock.release()


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + ".holder")


def _note(path: Path) -> None:
    # Only ever shown to people; the lock itself does not depend on it.
    with contextlib.suppress(OSError):
        _note_of(path).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")


def _holder(path: Path) -> str:
    try:
        note = json.loads(_note_of(path).read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
