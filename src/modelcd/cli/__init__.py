"""The command line: `modelcd`.  Thin: every command calls a verb of `modelcd.control` and shows what it told.

What a command does not need is not imported, so that `--help` and `status` answer at once.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from modelcd.cli.app import run

    run()
