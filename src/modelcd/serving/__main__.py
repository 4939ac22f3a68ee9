"""Start the model server: `PORT=8000 MODELCD_MODEL=name MODELCD_VERSION=3 python -m modelcd.serving FOLDER`.

Numeric libraries get one thread unless the environment says otherwise: on a shared machine their thread pools make
small models many times slower.  They read that when they are imported, so it is set before anything else.
"""

from __future__ import annotations

import os
import sys

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main() -> int:
    """Serve until told to end; return the exit code."""
    _one_thread()
    arguments: list[str] | None = sys.argv[1:]
    if arguments and arguments[0] == "--spare":
        from modelcd.serving.spare import await_orders

        if (arguments := await_orders(arguments[1:])) is None:
            return 0
        _one_thread()
    from modelcd.errors import ModelcdError
    from modelcd.serving.process import serve
    from modelcd.serving.settings import read_settings
    from modelcd.serving.telemetry import log

    try:
        return serve(read_settings(arguments or [], os.environ))
    except ModelcdError as error:
        log("error", "not served", error=error.message, help=error.help)
        return error.exit_code


def _one_thread() -> None:
    for pool in _POOLS:
        os.environ.setdefault(pool, "1")


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # `python -m` puts the present folder first: a model must not find its modules where it happens to be started.
        sys.path.pop(0)
    sys.exit(main())
