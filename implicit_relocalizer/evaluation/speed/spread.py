# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Repeated times and ratios as a median and how far they spread."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Spread(NamedTuple):
    """Of repeated values: median, 5th and 95th percentile, and the interquartile range."""

    median: float
    p5: float
    p95: float
    iqr: float

    def as_json(self, unit: str = '') -> dict[str, float]:
        """By name, each name ending in the unit, such as `median_ms`."""
        return {f'{name}_{unit}' if unit else name: round(value, 6)
                for name, value in self._asdict().items()}


def spread_of(values: FloatArray) -> Spread:
    """Percentiles of at least one value.

    Raises:
        ValueError: none at all.
    """
    if not len(values):
        raise ValueError('no values to take a median of; measure at least one round')
    p5, q1, median, q3, p95 = np.percentile(values, [5, 25, 50, 75, 95]).tolist()
    return Spread(median, p5, p95, q3 - q1)


def paired_ratio(numerators: FloatArray, denominators: FloatArray) -> Spread:
    """The ratio of two things measured round by round, each round divided on its own.

    What slows a whole round down, such as other work on the machine or a clock that was lowered,
    cancels; it would not in the ratio of two medians.
    """
    return spread_of(numerators / denominators)
