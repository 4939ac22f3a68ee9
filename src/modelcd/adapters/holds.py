"""Holds between processes that share a disk: who has one must be seen to live, or loses it.

A hold is the newest of the numbered claims in a folder.  Each claim is a file that its owner keeps locked by the
operating system and touches once a second: a dead owner's lock is gone at once, a frozen one's file stops changing.
Whoever finds the newest claim unlocked, or has watched it for `STALE` seconds without a change, links the next number,
which the file system lets only one do; so two robbers cannot both win, and a claim is never taken up a second time.
A robbed owner still has its own claim, which nobody asks for any more: leaving it takes nothing from anybody.

The price against a plain lock: some files per hold, and the folder must be on a file system with locks and links.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelcd.adapters.pulse import PULSE, Watched
from modelcd.errors import Busy, CannotTell

POLL = 0.02


class Holds:
    """Holds by name, as claims in *folder*; what *fails* is raised where it has no locks.

    What was seen of a holder is remembered from one attempt to the next, so that who never waits still finds out.
    """

    def __init__(self, folder: Path, fails: type[CannotTell]) -> None:
        self._folder = folder
        self._fails = fails
        self._watched: dict[str, Watched] = {}

    @contextlib.contextmanager
    def held(self, name: str, what: str, wait: float) -> Iterator[None]:
        """Hold *name* for the block; threads of one process exclude each other too.

        *what* names the thing in messages.  Raises `Busy`, saying who has it, when it is not free within *wait*
        seconds.
        """
        folder = self._folder / name
        try:
            claim = self._claimed(folder, what, wait)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                why = f"{what} cannot be held: {folder}: the disk is full"
                raise self._fails(why, help="free some space, then run again") from error
            raise self._fails(
                f"{what} cannot be held: {error}",
                help=f"{self._folder} must be writable and on a file system with file locks and hard links",
            ) from error
        beats = itertools.count(1)
        try:
            with PULSE.keeping(lambda: _say(claim, next(beats))):
                yield
        finally:
            # Closing alone would leave it to a child that is just being started and has our files open.
            fcntl.flock(claim, fcntl.LOCK_UN)
            os.close(claim)

    def _claimed(self, folder: Path, what: str, wait: float) -> int:
        deadline = time.monotonic() + wait
        folder.mkdir(parents=True, exist_ok=True)
        watched = self._watched.setdefault(folder.name, Watched())
        while True:
            newest = _newest(folder)
            if newest == 0 or _free(_path(folder, newest)) or watched.see((newest, _said(folder, newest))):
                claim = _claim(folder, newest + 1)
                if claim is not None:
                    self._watched.pop(folder.name, None)
                    return claim
            elif time.monotonic() >= deadline:
                raise Busy(f"{what} is held by {_holder(folder, newest)}", help="wait until it is done, then try again")
            else:
                time.sleep(POLL)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:012}"


def _newest(folder: Path) -> int:
    return max((int(name) for name in os.listdir(folder) if name.isdigit()), default=0)


def _free(path: Path) -> bool:
    """Say whether the owner of the claim at *path* left or died."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _claim(folder: Path, number: int) -> int | None:
    """Claim *number*, a file that is locked before anybody can see it; none when somebody else was first."""
    new = folder / f"new-{uuid.uuid4().hex}"
    claim = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _say(claim, 0)
        os.link(new, _path(folder, number))
        # Older numbers are cleared away, so a slow one may find the number free that it meant to be the next.
        if _newest(folder) == number:
            _clear(folder, number)
            return claim
        _path(folder, number).unlink(missing_ok=True)
    except (FileExistsError, FileNotFoundError):
        pass
    except BaseException:
        os.close(claim)
        raise
    finally:
        new.unlink(missing_ok=True)
    os.close(claim)
    return None


def _clear(folder: Path, number: int) -> None:
    # The one before is left: then a folder that is being listed is never seen empty.
    for path in folder.iterdir():
        left_behind = path.name.startswith("new-") and _free(path)
        if left_behind or (path.name.isdigit() and int(path.name) < number - 1):
            path.unlink(missing_ok=True)


def _say(claim: int, beats: int) -> None:
    note = {"pid": os.getpid(), "host": socket.gethostname(), "beats": beats}
    try:
        os.pwrite(claim, json.dumps(note).encode(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.utime(claim)  # nobody can be told who holds it, but it shows that its holder lives


def _said(folder: Path, number: int) -> bytes:
    try:
        return _path(folder, number).read_bytes()
    except FileNotFoundError:
        return b""


def _holder(folder: Path, number: int) -> str:
    try:
        note = json.loads(_said(folder, number))
        return f"process {note['pid']} on {note['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
