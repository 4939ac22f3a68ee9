"""The command line: `modelcd`.  Thin: every command calls a verb of `modelcd.control` and shows what it told.

What a command does not need is not imported, so that `--help` and `status` answer at once.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress

LAST_WORDS = 5.0
"""Seconds that Prefect has, once everything was said and done, to tell its server; a dead one it tells for a minute."""


def main() -> None:
    """Run the command line, and be gone soon after it has ended."""
    code = 3  # until it is known otherwise: what cannot even be imported has not found out anything
    # The first to be registered is the last that is called: taking apart all that was imported would take a second.
    atexit.register(lambda: _gone(code))
    from modelcd.cli.app import run

    try:
        run()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if "prefect" in sys.modules:
            exit_after(LAST_WORDS, code)
        raise
    except BaseException:
        code = 1
        raise


def _gone(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def exit_after(seconds: float, code: int) -> None:
    """End this process with *code* in *seconds*, unless it has ended by then."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()
