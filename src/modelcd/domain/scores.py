"""When two scores count as the same one."""

from __future__ import annotations

import math
from typing import Any

SAME = 1e-9
"""How far apart, relatively, two scores of the same batch may be: nothing but printing and reading lies between."""

BATCHED = 1e-5
"""How far apart scores of one row may be when it was asked for in another batch: arithmetic rounds differently."""


def same(left: Any, right: Any, relative: float = SAME) -> bool:
    """Say whether two scores agree; floats, also those in lists, up to *relative*."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(same(a, b, relative) for a, b in zip(left, right, strict=True))
    if isinstance(left, float) or isinstance(right, float):
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        return numbers and math.isclose(left, right, rel_tol=relative, abs_tol=relative * 1e-3)
    return bool(left == right)
