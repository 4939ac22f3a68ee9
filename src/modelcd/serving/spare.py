"""A server that does not know yet whom it serves: `python -m modelcd.serving --spare MODULE…`.

It imports what servers need and waits for a line of JSON on its standard input: what a server's argument, environment,
folder and log would have been.  From there on it is a server like any other.  When its input closes instead, whoever
started it is gone or has no use for it, and it ends.  Where the model brings a module of a name that was imported here,
it begins anew as a plain server, in the same process: that one finds the model's.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def await_orders(modules: Sequence[str]) -> list[str] | None:
    """Import *modules*, wait for orders and follow them; returns the arguments of the server, None for no orders."""
    bare = _top_levels()
    gc.disable()
    for name in ("modelcd.serving.process", *modules):
        with suppress(Exception):  # the model that needs it will say what is wrong
            importlib.import_module(name)
    gc.enable()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return None
    orders: Mapping[str, Any] = json.loads(line)
    folder = str(orders["folder"])
    _take_on(orders)
    if _shadowed(Path(folder, "code"), bare):
        os.execv(sys.executable, [sys.executable, "-m", "modelcd.serving", folder])
    return [folder]


def _take_on(orders: Mapping[str, Any]) -> None:
    os.chdir(orders["cwd"])
    os.environ.clear()
    os.environ.update(orders["environment"])
    log = os.open(orders["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, targets in ((os.open(os.devnull, os.O_RDONLY), (0,)), (log, (1, 2))):
        for target in targets:
            os.dup2(source, target)
        os.close(source)


def _shadowed(code: Path, bare: set[str]) -> bool:
    ahead = _top_levels() - bare
    return code.is_dir() and any(path.name.partition(".")[0] in ahead for path in code.iterdir())


def _top_levels() -> set[str]:
    return {name.partition(".")[0] for name in list(sys.modules)}
