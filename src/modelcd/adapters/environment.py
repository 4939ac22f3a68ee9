"""What our own processes have in their environment and a user's code must not see."""

from __future__ import annotations

from collections.abc import Mapping

OURS = ("MODELCD_JOURNAL", "MODELCD_NOTIFY", "PGPASSWORD", "PGPASSFILE")
"""Variables with keys to what only the engine writes to, or speaks through."""


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Return *environment* for code that is not ours."""
    return {name: value for name, value in environment.items() if name not in OURS}
