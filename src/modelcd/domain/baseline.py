"""The best prediction that does not look at the rows: what a version is held against where there is no champion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelcd.domain.metrics import Array, positives
from modelcd.domain.paired import SEED


def baseline(name: str | None, truth: Array) -> Array:
    """Return that prediction for the metric *name* (None: a function of the user's), for each target by itself."""
    if truth.ndim == 2:
        return np.column_stack([baseline(name, column) for column in truth.T])
    values, counts = np.unique(truth, return_counts=True)
    by_class = name in ("accuracy", "balanced_accuracy", "recall", "matthews_corrcoef")
    if name == "f1_macro":  # a guess beats a constant, which leaves out all classes but one
        return np.random.default_rng(SEED).permutation(truth)
    if by_class or not (np.issubdtype(truth.dtype, np.number) or truth.dtype == bool):
        return np.full(len(truth), values[counts.argmax()])
    if name in ("f1", "precision"):
        return np.ones(len(truth))
    if name in ("brier_score_loss", "log_loss"):
        return np.full(len(truth), positives(truth).mean())
    if name == "mean_absolute_percentage_error":
        order = np.argsort(truth)
        weights = np.cumsum(1 / np.maximum(np.abs(truth[order]), np.finfo(float).tiny))
        return np.full(len(truth), truth[order][np.searchsorted(weights, weights[-1] / 2)])
    medians = ("mean_absolute_error", "median_absolute_error")
    return np.full(len(truth), np.median(truth) if name in medians else truth.mean(dtype=float))


def shares(classes: Sequence[object], truth: Array) -> Array:
    """Return how often each of *classes* is true, as the chances of every row."""
    return np.tile([float((truth == one).mean()) for one in classes], (len(truth), 1))
