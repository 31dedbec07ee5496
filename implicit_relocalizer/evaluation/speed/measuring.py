# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of one model: every step, the whole, the rivals, and their ratios."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from implicit_relocalizer.evaluation.hardware import describe_hardware
from implicit_relocalizer.evaluation.model_evaluation import describe_model
from implicit_relocalizer.evaluation.speed.images import jpeg_message, raw_message
from implicit_relocalizer.evaluation.speed.memory import (
    forget_peaks,
    peak_cuda_bytes,
    peak_rss_bytes,
)
from implicit_relocalizer.evaluation.speed.rivals import (
    MOBILENET,
    sift_subject,
    untrained_regressors,
)
from implicit_relocalizer.evaluation.speed.rounds import Samples, Subject, time_rounds
from implicit_relocalizer.evaluation.speed.spread import Spread, paired_ratio, spread_of
from implicit_relocalizer.evaluation.speed.steps import require_steps, step_subjects
from implicit_relocalizer.evaluation.versions import find_versions
from implicit_relocalizer.network.model_file import read_metadata

if TYPE_CHECKING:
    from implicit_relocalizer.evaluation.sift_map import SiftLocalizer
    from implicit_relocalizer.evaluation.speed.images import BenchmarkImages
    from implicit_relocalizer.evaluation.speed.runtime import Runner, Runtime
    from implicit_relocalizer.evaluation.speed.spread import FloatArray

KIND = 'benchmark'
BASELINE = 'baseline'
MOBILENET_BASELINE = f'{BASELINE}_{MOBILENET}'
NO_DDS = 'not asked for'
_ALWAYS = ('forward', 'hypotheses', 'refinement', 'total')
# Of what is timed, or made of it ('align', 'overhead'), which over which.
RATIOS = {'overhead_over_forward': ('overhead', 'forward'),
          'align_over_forward': ('align', 'forward'),
          'total_over_baseline': ('total', BASELINE),
          'dds_over_process': ('dds', 'total'),
          'total_over_mobilenet': ('total', MOBILENET_BASELINE),
          'sift_over_total': ('sift_map', 'total')}


@dataclass(frozen=True)
class BenchmarkOptions:
    """How long and beside what.

    Attributes:
        rounds: Kept of each subject.
        warm_up_rounds: Before them.
        only: Names of what is timed beside network and whole, of `text.STAGE_LABELS`; empty
            times everything. `parts_of` some ratios suffice for them.
    """

    rounds: int = 60
    warm_up_rounds: int = 12
    only: frozenset[str] = frozenset()

    def wants(self, name: str) -> bool:
        """Whether something is to be timed."""
        return not self.only or name in self.only or name in _ALWAYS


def parts_of(ratios: Iterable[str]) -> frozenset[str]:
    """What has to be timed for some ratios to be known."""
    return frozenset(part for ratio in ratios for part in RATIOS.get(ratio, ()))


def measure_model(path: Path, images: BenchmarkImages, devices: Sequence[torch.device],
                  runtime: Runtime, sift: Callable[[], SiftLocalizer] | None = None,
                  options: BenchmarkOptions | None = None,
                  progress: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Everything but DDS, as JSON values; `add_dds` adds that.

    Args:
        path: Of a model file.
        images: All devices are timed on.
        devices: One after the other.
        runtime: What a robot runs around the network.
        sift: Gives a SIFT map of the same place; called when memory has been measured.
        options: How long and beside what.
        progress: Called after every round.

    Raises:
        ModelFileError: the file cannot be used, or lacks the steps of an answer.
    """
    options = options or BenchmarkOptions()
    metadata = read_metadata(path)
    return {
        'kind': KIND,
        'model': {**describe_model(path, metadata),
                  'sha256': hashlib.sha256(path.read_bytes()).hexdigest()},
        'images': dict(images.description),
        'rounds': options.rounds, 'warm_up_rounds': options.warm_up_rounds,
        'threads': {'torch': torch.get_num_threads(), 'opencv': cv2.getNumThreads()},
        'hardware': {device.type: describe_hardware(device) for device in devices},
        'versions': {**find_versions(), 'opencv': cv2.__version__},
        'devices': {device.type: _measure_on(device, path, images, runtime, sift, options,
                                             progress) for device in devices}}


def _measure_on(device: torch.device, path: Path, images: BenchmarkImages, runtime: Runtime,
                sift: Callable[[], SiftLocalizer] | None, options: BenchmarkOptions,
                progress: Callable[[], object]) -> dict[str, Any]:
    runner = runtime.open(path, device)
    require_steps(path, runner.module)
    forget_peaks(device)
    for number in range(options.warm_up_rounds):
        runner.locate(*_image(images, number))
    memory = {'peak_rss_bytes': peak_rss_bytes(), 'peak_cuda_bytes': peak_cuda_bytes(device)}
    steps: Any = runner.module
    input_size = int(steps.input_width), int(steps.input_height)
    baselines = {name: encoder for name, encoder in (
        (BASELINE, runner.metadata.encoder), (MOBILENET_BASELINE, MOBILENET))
        if options.wants(name)}
    with untrained_regressors(baselines.values(), runner.metadata, input_size, runtime,
                              device) as regressors:
        subjects = [*_message_subjects(runner, images, runtime),
                    *step_subjects(runner, images, device),
                    _whole('total', runner, images),
                    *(_whole(name, regressors[encoder], images)
                      for name, encoder in baselines.items()),
                    *([sift_subject(sift(), images)] if sift else [])]
        samples = time_rounds([subject for subject in subjects if options.wants(subject.name)],
                              len(images), options.rounds, options.warm_up_rounds, device,
                              progress)
    return {**summarize_samples(samples), **memory, 'input_size': list(input_size),
            'baseline_encoder': runner.metadata.encoder, 'baseline_weights': 'untrained'}


def _image(images: BenchmarkImages, number: int) -> tuple[Any, Any]:
    return (images.images_hw3[number % len(images)], images.K_n33[number % len(images)])


def _whole(name: str, runner: Runner, images: BenchmarkImages) -> Subject:
    return Subject(name, lambda i: runner.locate(images.images_hw3[i], images.K_n33[i]))


def _message_subjects(runner: Runner, images: BenchmarkImages,
                      runtime: Runtime) -> list[Subject]:
    """What lies before and behind the answer: images out of messages, poses into them."""
    compressed = [jpeg_message(image) for image in images.images_hw3]
    raw = [raw_message(image) for image in images.images_hw3]
    subjects = [Subject('decode_jpeg', lambda i: runtime.decode(compressed[i])),
                Subject('decode_raw', lambda i: runtime.decode(raw[i]))]
    build_messages = runtime.build_messages
    if build_messages is not None:
        estimates = [runner.locate(*_image(images, i)) for i in range(len(images))]
        subjects.append(Subject('messages', lambda i: build_messages(estimates[i])))
    return subjects


def summarize_samples(samples: Mapping[str, Samples]) -> dict[str, Any]:
    """Times and ratios of one device as JSON values; what was not measured is None."""
    wall = _with_align({name: sample.wall_ms for name, sample in samples.items()})
    of_cpu = _with_align({name: sample.cpu_ms for name, sample in samples.items()
                          if sample.cpu_ms is not None})
    on_gpu = _with_align({name: sample.device_ms for name, sample in samples.items()
                          if sample.device_ms is not None})
    ratios, cpu_ratios = _ratios(wall), _ratios(of_cpu) if of_cpu else {}

    def median(name: str) -> float | None:
        return round(spread_of(wall[name]).median, 4) if name in wall else None

    stages = {name: spread_of(values).as_json('ms') for name, values in wall.items()}
    for key, times in (('cpu', of_cpu), ('device', on_gpu)):
        for name, values in times.items():
            stages[name][f'{key}_median_ms'] = round(spread_of(values).median, 6)
    return {
        'forward_ms': median('forward'), 'align_ms': median('align'),
        'total_ms': median('total'), 'dds_ms': None, 'empty_node_ms': None,
        'baseline_ms': median(BASELINE), 'sift_ms': median('sift_map'),
        'frames_per_second': round(1e3 / spread_of(wall['total']).median, 3),
        'stages': stages,
        'ratios': {name: None if ratio is None else round(ratio.median, 4)
                   for name, ratio in ratios.items()},
        'ratio_spread': {name: ratio.as_json() for name, ratio in ratios.items()
                         if ratio is not None},
        'cpu_time_ratios': {name: round(ratio.median, 4) for name, ratio in cpu_ratios.items()
                            if ratio is not None},
        'dds': None, 'dds_absent_because': NO_DDS}


def _with_align(times: dict[str, FloatArray]) -> dict[str, FloatArray]:
    return {**times, 'align': times['hypotheses'] + times['refinement']} if times else {}


def _ratios(times: Mapping[str, FloatArray]) -> dict[str, Spread | None]:
    known = {**times, 'overhead': times['total'] - times['forward']}
    return {name: paired_ratio(known[above], known[below])
            if above in known and below in known else None
            for name, (above, below) in RATIOS.items()}
