# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Where the minutes of a training go: a stopwatch for each of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tqdm import tqdm


class Phases:
    """Seconds by step, in the order in which the steps first began.

    Steps do not nest: what a training does is in one of them at most.

    Args:
        device: Whose work a step waits for when it ends; on a GPU it would else be counted to the
            next step.
        show_progress: Show a progress bar on standard error where a step has one.

    Attributes:
        seconds: Of each step; one that was done several times has the sum.
        show_progress: As above.
    """

    def __init__(self, device: torch.device | None = None, show_progress: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._device, self.show_progress = device, show_progress

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of a `with` block to a step."""
        started_s = time.monotonic()
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            if self._device is not None and self._device.type == 'cuda':
                torch.cuda.synchronize(self._device)
            self.seconds[name] += time.monotonic() - started_s

    @contextmanager
    def step_by_step(self, name: str, total: int, unit: str = 'image') -> Iterator[Advance]:
        """Like `step`, with a bar: call what it gives with how many of `total` are done."""
        with (self.step(name), tqdm(total=total, desc=name, unit=unit,
                                    disable=not self.show_progress) as bar):
            yield Advance(bar)


class Advance:
    """Moves a progress bar to a number of things done."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def __call__(self, done: int) -> None:
        """So many are done."""
        self._bar.update(done - self._bar.n)
