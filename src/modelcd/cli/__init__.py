"""The command line: `modelcd`.  Thin: every command calls a verb of `modelcd.control` and shows what it told.

What a command does not need is not imported, so that `--help` and `status` answer at once.
"""

from __future__ import annotations

import os
import sys
import threading

LAST_WORDS = 5.0
"""Seconds that Prefect has, once everything was said and done, to tell its server; a dead one it tells for a minute."""


def main() -> None:
    """Run the command line, and be gone soon after it has ended."""
    from modelcd.cli.app import run

    try:
        run()
    except SystemExit as ended:
        if "modelcd.flows.run" in sys.modules and isinstance(ended.code, int):
            exit_after(LAST_WORDS, ended.code)
        raise


def exit_after(seconds: float, code: int) -> None:
    """End this process with *code* in *seconds*, unless it has ended by then."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()
