# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Models of one place against each other: error, time and size, and which no other beats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.evaluation.hardware import describe_hardware
from implicit_relocalizer.evaluation.model_evaluation import (
    EvaluationOptions,
    describe_model,
    evaluate_module,
)
from implicit_relocalizer.evaluation.provenance import digest_names
from implicit_relocalizer.evaluation.records import PARETO_KIND
from implicit_relocalizer.evaluation.speed.images import scene_images
from implicit_relocalizer.evaluation.speed.rounds import Samples, Subject, time_rounds
from implicit_relocalizer.evaluation.speed.spread import paired_ratio, spread_of
from implicit_relocalizer.evaluation.versions import find_versions
from implicit_relocalizer.network.model_file import read_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from implicit_relocalizer.evaluation.speed.images import BenchmarkImages
    from implicit_relocalizer.evaluation.speed.runtime import Runner

WARM_UP_ROUNDS = 12
IMAGES = 8
MODEL_NAME = 'model.pt'


class ParetoError(ValueError):
    """Models cannot be compared; the message says which and what to do."""


def find_models(paths: Sequence[Path], scene: Scene) -> dict[str, Path]:
    """Model files by a short name: those given, and those of the scene in folders of runs.

    A run folder is named ROW__SCENE__SEED by `experiment`; its model is called ROW, or the whole
    where there are several of a ROW. Other models go by the name of their file.

    Raises:
        ParetoError: no model, or one that learned other frames of the scene or another place.
        ModelFileError: a file cannot be used.
    """
    digest = digest_names(scene.split('train'))
    found = []
    for path in paths:
        if not path.is_dir():
            if read_metadata(path).training.get('train_frames_sha256') != digest:
                raise ParetoError(f'{path}: did not learn the training frames of {scene.name}; '
                                  f'give the scene and the --split that it was trained with')
            found.append(path)
        else:
            found += [file for file in sorted(path.glob(f'*/{MODEL_NAME}'))
                      if read_metadata(file).training.get('train_frames_sha256') == digest]
    if not found:
        raise ParetoError(f'{", ".join(map(str, paths))}: no model of {scene.name} there; '
                          f'`implicit-relocalizer experiment size` makes some')
    whole = [path.parent.name if path.name == MODEL_NAME else path.stem for path in found]
    short = [name.partition('__')[0] for name in whole]
    seen = Counter(short)
    names = [a if seen[a] == 1 else b for a, b in zip(short, whole, strict=True)]
    if len(set(names)) < len(names):
        raise ParetoError(f'two models are called {Counter(names).most_common(1)[0][0]!r}; give '
                          f'their files other names')
    return dict(zip(names, found, strict=True))


def measure_pareto(models: Mapping[str, Path], scene: Scene, split: str,
                   open_model: Callable[[Path, torch.device], Runner], device: torch.device,
                   threads: Sequence[int], rounds: int, max_train_frames: int | None = 64,
                   progress: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Errors of every model on both splits, and their times, taken in turns, as JSON values.

    Args:
        models: By name.
        scene: That they were trained on.
        split: Of the scene, for the record.
        open_model: Loads a file as the node does.
        device: Where they run.
        threads: Numbers of CPU threads to time with, one after the other.
        rounds: In each every model is timed once.
        max_train_frames: Training frames measured, evenly spread; None measures all.
        progress: Called after every model that was evaluated, and every round.
    """
    hardware = describe_hardware(device)
    runners = {name: open_model(path, device) for name, path in models.items()}
    rows = []
    for name, runner in runners.items():
        rows.append({'name': name, **describe_network(runner),
                     'model': describe_model(models[name], runner.metadata),
                     'training_seconds': runner.metadata.training.get('training_seconds'),
                     'validation': runner.metadata.accuracy.get('validation'),
                     **evaluate_module(runner.module, scene, device, EvaluationOptions(
                         max_train_frames, geometry=False, show_progress=False))})
        progress()
    images = scene_images(scene, split, IMAGES, scene.image_size)
    for count in threads:
        with thread_count(count):
            samples = time_rounds([_subject(name, runner, images)
                                   for name, runner in runners.items()],
                                  len(images), rounds, WARM_UP_ROUNDS, device, progress)
        _add_times(rows, samples, str(count))
    measured_on = choose_by(rows)
    mark_unbeaten(rows, measured_on, str(threads[0]))
    label_by_difference(rows)
    return {'kind': PARETO_KIND, 'scene': scene.name, 'split': split,
            'image_size': list(scene.image_size), 'threads': list(threads), 'rounds': rounds,
            'chosen_by': measured_on, 'hardware': hardware, 'versions': find_versions(),
            'models': rows}


def describe_network(runner: Runner) -> dict[str, Any]:
    """What decides how large and fast a model is; None for what it has not."""
    module: Any = runner.module
    configuration = runner.metadata.training.get('configuration', {})
    keys = dict(module.named_buffers()).get('head.keys_md')
    points = configuration.get('landmarks', {}).get('points_asked')
    return {'encoder': runner.metadata.encoder,
            'input_size': [int(module.input_width), int(module.input_height)],
            'landmarks': None if keys is None else len(keys),
            'points': None if keys is None else points}


def choose_by(rows: Sequence[Mapping[str, Any]]) -> str:
    """'validation' where all models know that error, else 'test'."""
    return 'validation' if all(row['validation'] for row in rows) else 'test'


def mark_unbeaten(rows: Sequence[dict[str, Any]], part: str, threads: str) -> None:
    """Say of each model whether none is both faster and better, or both smaller and better."""
    errors = [_error_m(row, part) for row in rows]
    times = [float(row['latency'][threads]['median_ms']) for row in rows]
    sizes = [round(row['model']['bytes'] / 1e6, 1) for row in rows]  # as told: bytes are chance
    for row, fast, small in zip(rows, unbeaten(times, errors), unbeaten(sizes, errors),
                                strict=True):
        row['unbeaten_in_time'], row['unbeaten_in_size'] = fast, small


def unbeaten(costs: Sequence[float], errors: Sequence[float]) -> list[bool]:
    """Which pairs no other one beats: as good in both, and better in one."""
    pairs = list(zip(costs, errors, strict=True))
    return [math.isfinite(error) and not any(
        other[0] <= cost and other[1] <= error and other != (cost, error) for other in pairs)
        for cost, error in pairs]


def label_by_difference(rows: Sequence[dict[str, Any]]) -> None:
    """Give each model a label: its input width, and what most of the others have otherwise."""
    usual = {key: Counter(row[key] for row in rows).most_common(1)[0][0]
             for key in ('encoder', 'points', 'landmarks')}
    for row in rows:
        parts = [f'{row["input_size"][0]} px']
        if row['points'] not in (usual['points'], None):
            parts.append(f'{row["points"]} points')
        if row['landmarks'] not in (usual['landmarks'], None):
            parts.append(f'{row["landmarks"] / 1000:.0f}k')
        if row['encoder'] != usual['encoder']:
            parts.insert(0, row['encoder'])
        row['label'] = ', '.join(parts)


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """So many threads for torch and OpenCV, and afterwards what was before."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _subject(name: str, runner: Runner, images: BenchmarkImages) -> Subject:
    return Subject(name, lambda i: runner.locate(images.images_hw3[i], images.K_n33[i]))


def _add_times(rows: Sequence[dict[str, Any]], samples: Mapping[str, Samples],
               threads: str) -> None:
    fastest = min((samples[row['name']].wall_ms for row in rows),
                  key=lambda wall_ms: spread_of(wall_ms).median)
    for row in rows:
        wall_ms = samples[row['name']].wall_ms
        row.setdefault('latency', {})[threads] = {
            **spread_of(wall_ms).as_json('ms'),
            'over_fastest': round(paired_ratio(wall_ms, fastest).median, 4)}


def _error_m(row: Mapping[str, Any], part: str) -> float:
    error = row[part]['median_translation_m']
    return math.inf if error is None else float(error)
