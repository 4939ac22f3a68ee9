"""Which libraries a project will need, read from its files: for whoever imports them before they are asked for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from modelcd.project.slicing import modules_named

KNOWN = frozenset({"joblib", "numpy", "pandas", "pyarrow", "scipy", "sklearn"})
"""Libraries that may be imported before a fork: they start no pool of threads until they are asked to compute."""


def libraries(project: Path) -> list[str]:
    """Return the modules of known, installed libraries that the project's files name."""
    try:
        named = modules_named(project)
    except Exception:
        return []  # whoever reads it next says what is wrong
    return [name for name in sorted(named) if (top := name.partition(".")[0]) in KNOWN and _installed(top)]


def _installed(top: str) -> bool:
    spec = importlib.util.find_spec(top)
    return spec is not None and bool({"site-packages", "dist-packages"} & set(Path(spec.origin or "").parts))
