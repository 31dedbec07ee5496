# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Things timed against each other: interleaved, after warm-up, on a CPU or a GPU.

torch.utils.benchmark.Timer and pyperf time one thing after the other, in blocks, and give no two
times that belong together; on a machine whose speed changes from second to second a ratio of
such blocks says little.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from implicit_relocalizer.evaluation.speed.spread import FloatArray


class Subject(NamedTuple):
    """One thing to time: its name, and a call that takes the number of an image."""

    name: str
    call: Callable[[int], object]


class Samples(NamedTuple):
    """Milliseconds, one of each round.

    Attributes:
        wall_ms: From the call until its result is there.
        device_ms: Between two events on the GPU around the call; None on a CPU.
    """

    wall_ms: FloatArray
    device_ms: FloatArray | None


@torch.inference_mode()
def time_rounds(subjects: Sequence[Subject], image_count: int, rounds: int, warm_up_rounds: int,
                device: torch.device, progress: Callable[[], object] = lambda: None,
                ) -> Mapping[str, Samples]:
    """Time every subject once a round, all on the same image, beginning with another each time.

    Args:
        subjects: With distinct names.
        image_count: Rounds take the images in turn.
        rounds: Kept.
        warm_up_rounds: Before them: TorchScript compiles during its first calls.
        device: Where the subjects run; on CUDA each call is waited for.
        progress: Called after every round.
    """
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise ValueError(f'two subjects of one name among {names}')
    wall_ms = {name: np.zeros(rounds) for name in names}
    device_ms = {name: np.zeros(rounds) for name in names}
    with _without_garbage_collection():
        for number in range(-warm_up_rounds, rounds):
            first = number % len(subjects)
            for subject in (*subjects[first:], *subjects[:first]):
                wall, on_device = time_call(subject.call, number % image_count, device)
                if number >= 0:
                    wall_ms[subject.name][number] = wall
                    device_ms[subject.name][number] = on_device
            progress()
    on_gpu = device.type == 'cuda'
    return {name: Samples(wall_ms[name], device_ms[name] if on_gpu else None) for name in names}


def time_call(call: Callable[[int], object], image: int, device: torch.device,
              ) -> tuple[float, float]:
    """Milliseconds of one call: on the clock, and between events on the GPU (0 on a CPU)."""
    if device.type != 'cuda':
        start_s = time.perf_counter()
        call(image)
        return 1e3 * (time.perf_counter() - start_s), 0.0
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start_s = time.perf_counter()
    begin.record()
    call(image)
    end.record()
    torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - start_s), float(begin.elapsed_time(end))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """As timeit does: whose turn it is when garbage is collected is chance."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
