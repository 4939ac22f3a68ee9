"""Rows as people give them to a model: one mapping, many of them, or a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelcd.errors import UsageError


def rows_of(given: Any) -> list[Mapping[str, Any]]:
    """Return *given* as rows; raises `UsageError` for what is none."""
    found = given.to_dict("records") if hasattr(given, "iloc") else [given] if isinstance(given, Mapping) else given
    if not isinstance(found, Sequence) or not all(isinstance(row, Mapping) for row in found):
        raise UsageError(
            f"rows are mappings from column to value, got {type(given).__name__}",
            help='predict("churn", [{"tenure": 3, …}]), or a DataFrame',
        )
    return list(found)
