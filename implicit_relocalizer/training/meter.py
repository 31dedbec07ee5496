# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Means over the steps since the last row of the curves."""

from __future__ import annotations

import time
from dataclasses import dataclass

from implicit_relocalizer.training.stage import StepResult
from implicit_relocalizer.training.team import Team


@dataclass(frozen=True)
class Row:
    """Means over steps and processes.

    Attributes:
        steps: How many.
        seconds: They took.
        loss, median_error, parts: See `StepResult`.
    """

    steps: int
    seconds: float
    loss: float
    median_error: float
    parts: dict[str, float]


class Meter:
    """Gathers steps until a row is taken."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._steps, self._loss, self._error = 0, 0.0, 0.0
        self._parts: dict[str, float] = {}
        self._started = time.monotonic()

    def add(self, result: StepResult) -> None:
        """Count a step."""
        self._steps += 1
        self._loss += float(result.loss.detach())
        self._error += result.median_error
        for name, value in result.parts.items():
            self._parts[name] = self._parts.get(name, 0.0) + float(value)

    def pause(self, seconds: float) -> None:
        """Leave seconds out in which no steps were done."""
        self._started += seconds

    def take(self, team: Team) -> Row:
        """The means, over all processes, and start anew; every process calls it together."""
        names = sorted(self._parts)
        sums = team.sum([self._loss, self._error, *(self._parts[name] for name in names)])
        count = max(1, self._steps) * team.size
        loss, error, *parts = (value / count for value in sums)
        row = Row(self._steps, time.monotonic() - self._started, loss, error,
                  dict(zip(names, parts, strict=True)))
        self._start()
        return row
