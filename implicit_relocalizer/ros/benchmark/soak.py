# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the node for a long time and watches its memory, threads and file descriptors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from implicit_relocalizer.ros.benchmark.dds import run_plan
from implicit_relocalizer.ros.benchmark.plan import NODE, BenchmarkError, Plan
from implicit_relocalizer.ros.benchmark.summary import summarize_target

WARM_UP_SHARE = 0.2
LEAST_SAMPLES = 10
# What allocators keep back goes in steps; so slow a growth is none that a robot would notice.
NEGLIGIBLE_MIB_PER_HOUR = 1.0
_MIB = 2.0 ** 20
_SPREAD = 2.0  # standard errors


@dataclass(frozen=True)
class Sample:
    """The node's process at one time.

    Attributes:
        time_s: Since the first sample.
        rss_mib: Memory that is resident.
        anonymous_mib: Of this, what is not of files or shared memory. (What no other process
            shares grows when others that have torch loaded end.)
        threads: How many it has.
        descriptors: Open files and sockets.
    """

    time_s: float
    rss_mib: float
    anonymous_mib: float
    threads: int
    descriptors: int


class Watch:
    """Takes a sample of a process every few seconds."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._start_s: float | None = None
        self.samples: list[Sample] = []

    def look(self, process: psutil.Process) -> None:
        """Take a sample if it is time.

        Raises:
            psutil.Error: the process has ended.
        """
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s
        if now_s - self._start_s < len(self.samples) * self._period_s:
            return
        memory = process.memory_info()
        self.samples.append(Sample(
            round(now_s - self._start_s, 2), memory.rss / _MIB,
            (memory.rss - getattr(memory, 'shared', 0)) / _MIB,
            process.num_threads(), process.num_fds()))


def measure_soak(model: Path, minutes: float, rate_hz: float = 10.0, device: str = 'cpu',
                 threads: int = 1, images: Sequence[NDArray[np.uint8]] = (),
                 K_33: NDArray[np.float64] | None = None, sample_s: float = 5.0,
                 parameters: Mapping[str, object] | None = None,
                 patience_s: float = 120.0) -> dict[str, Any]:
    """Let the node answer images for some time, and see whether it grows.

    Args:
        model: Model file.
        minutes: How long.
        rate_hz: Images per second.
        device, threads: The node's parameters.
        images: Of one size, RGB; by default noise in the size of the model's training images.
        K_33: Their intrinsics; by default the model's.
        sample_s: Between two looks at the process.
        parameters: Of the node, beyond those by which every image is answered.
        patience_s: How long the node may take to start, and to give a first answer.

    Returns:
        `is_flat`, `rss` and `anonymous` as of `fit_growth` after warm-up, `threads` and
        `descriptors` as of `fit_count`; `answers` as of `summary.summarize_target`; `samples`.

    Raises:
        BenchmarkError: as of `measure_dds`, or it was too short to tell.
        ModelFileError: the model cannot be read.
    """
    from implicit_relocalizer.network.model_file import read_metadata
    metadata = read_metadata(model)
    if not images:
        width, height = metadata.image_size
        images = list(np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8))
    K_33 = np.asarray(metadata.K_33 if K_33 is None else K_33, np.float64)
    plan = Plan((f'{rate_hz:g}',), (NODE,), 1, 60.0 * minutes, tuple(K_33.ravel().tolist()),
                str(model.resolve()), device, threads, patience_s=patience_s)
    watch = Watch(sample_s)
    slices = run_plan(plan, images, parameters or {}, lambda nodes: watch.look(nodes[NODE]))
    # Loading and waiting for the camera belong to the warm-up.
    last_s = watch.samples[-1].time_s if watch.samples else 0.0
    begun_s = max(0.0, last_s - slices[0].duration_s) + WARM_UP_SHARE * slices[0].duration_s
    return {'minutes': minutes, 'rate_hz': rate_hz, 'device': device, 'num_threads': threads,
            **judge(watch.samples, begun_s), 'answers': summarize_target(slices),
            'samples': [asdict(sample) for sample in watch.samples]}


def judge(samples: Sequence[Sample], warm_s: float) -> dict[str, Any]:
    """Whether a process grew after `warm_s`.

    Raises:
        BenchmarkError: there are too few samples to tell.
    """
    warm = [sample for sample in samples if sample.time_s >= warm_s]
    if len(warm) < LEAST_SAMPLES:
        raise BenchmarkError(f'{len(warm)} samples after the warm-up are too few to tell whether '
                             f'the node grows, {LEAST_SAMPLES} are needed: measure for longer')
    times_s = [sample.time_s for sample in warm]
    verdict: dict[str, Any] = {
        'rss': fit_growth(times_s, [sample.rss_mib for sample in warm]),
        'anonymous': fit_growth(times_s, [sample.anonymous_mib for sample in warm]),
        'threads': fit_count([sample.threads for sample in warm]),
        'descriptors': fit_count([sample.descriptors for sample in warm])}
    return {'is_flat': all(one['is_flat'] for one in verdict.values()),
            'warm_up_s': round(warm_s, 1), **verdict}


def fit_growth(times_s: Sequence[float], sizes_mib: Sequence[float]) -> dict[str, Any]:
    """A line through sizes over time, by least squares.

    Memory comes in steps, so that neighbouring samples err alike: the standard error is that of
    so many independent samples as a first-order autoregressive series is worth,
    n (1 - r) / (1 + r) (Bayley and Hammersley 1946).

    Returns:
        `mib_per_hour`, its `standard_error`, first and last size; `is_flat`: the slope is within
        two standard errors of no growth, or negligible.
    """
    times_h = np.asarray(times_s, np.float64) / 3600.0
    sizes = np.asarray(sizes_mib, np.float64)
    slope, offset = np.polyfit(times_h, sizes, 1)
    residuals = sizes - (slope * times_h + offset)
    variance = float(residuals @ residuals)
    correlation = (float(np.clip(residuals[1:] @ residuals[:-1] / variance, 0.0, 0.99))
                   if variance > 1e-12 else 0.0)
    independent = len(sizes) * (1.0 - correlation) / (1.0 + correlation)
    error = float(np.sqrt(variance / max(1.0, independent - 2.0)
                          / np.square(times_h - times_h.mean()).mean() / len(sizes)))
    return {'mib_per_hour': round(float(slope), 3), 'standard_error': round(error, 3),
            'first_mib': round(float(sizes[0]), 2), 'last_mib': round(float(sizes[-1]), 2),
            'is_flat': bool(slope <= max(_SPREAD * error, NEGLIGIBLE_MIB_PER_HOUR))}


def fit_count(counts: Sequence[int]) -> dict[str, Any]:
    """Whether there were more in the last quarter of the samples than ever in the first."""
    quarter = max(1, len(counts) // 4)
    first, last = max(counts[:quarter]), min(counts[-quarter:])
    return {'first': first, 'last': last, 'most': max(counts), 'is_flat': last <= first}
