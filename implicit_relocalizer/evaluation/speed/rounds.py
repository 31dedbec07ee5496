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
        cpu_ms: What this process had of the processor meanwhile, all threads together: what other
            programs took away is not in it. None on a GPU, where waiting is work too.
    """

    wall_ms: FloatArray
    device_ms: FloatArray | None = None
    cpu_ms: FloatArray | None = None


class _Times(NamedTuple):
    """Milliseconds of one call, as of `Samples`."""

    wall: float
    on_device: float
    of_cpu: float


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
    times = {name: np.zeros((rounds, len(_Times._fields))) for name in names}
    with _without_garbage_collection():
        for number in range(-warm_up_rounds, rounds):
            first = number % len(subjects)
            for subject in (*subjects[first:], *subjects[:first]):
                measured = _time_call(subject.call, number % image_count, device)
                if number >= 0:
                    times[subject.name][number] = measured
            progress()
    return {name: _samples(times[name], device.type == 'cuda') for name in names}


def _samples(times_r3: FloatArray, on_gpu: bool) -> Samples:
    wall_ms, device_ms, cpu_ms = times_r3.T
    return Samples(wall_ms, device_ms, None) if on_gpu else Samples(wall_ms, None, cpu_ms)


def _time_call(call: Callable[[int], object], image: int, device: torch.device) -> _Times:
    if device.type != 'cuda':
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        call(image)
        return _Times(1e3 * (time.perf_counter() - start_s), 0.0,
                      1e3 * (time.process_time() - start_cpu_s))
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start_s = time.perf_counter()
    begin.record()
    call(image)
    end.record()
    torch.cuda.synchronize(device)
    return _Times(1e3 * (time.perf_counter() - start_s), float(begin.elapsed_time(end)), 0.0)


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
