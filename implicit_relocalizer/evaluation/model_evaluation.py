# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that is measured about one model on one scene."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from implicit_relocalizer.data.frames import Frame, Scene, Split
from implicit_relocalizer.evaluation.elsewhere import ask_about_elsewhere
from implicit_relocalizer.evaluation.geometry_errors import GeometryErrors
from implicit_relocalizer.evaluation.hardware import describe_hardware
from implicit_relocalizer.evaluation.honesty import measure_honesty
from implicit_relocalizer.evaluation.locating import (
    LocatedFrame,
    Module,
    Observer,
    list_errors,
    locate_frames,
    spread,
    summarize_located,
)
from implicit_relocalizer.evaluation.metrics import ALL_LIMITS
from implicit_relocalizer.evaluation.pose_variants import PoseVariants
from implicit_relocalizer.evaluation.versions import find_versions
from implicit_relocalizer.network.model_file import ModelMetadata

SPLITS: tuple[Split, ...] = ('train', 'test')


@dataclass(frozen=True)
class EvaluationOptions:
    """What to measure beside the poses.

    Attributes:
        max_train_frames: Training frames measured, evenly spread; None measures all.
        geometry: Hold predicted points against depth images.
        variants: Take the pose from the same clouds in other ways too.
        per_frame: List every frame.
        show_progress: Show a progress bar on standard error.
        metadata: Of the model; with it, the honesty of its answers is measured.
        min_confidence: What the node wants of an answer of this model.
        elsewhere: Other places, whose images should not be accepted.
        max_elsewhere_frames: Frames asked of each of these, evenly spread; None asks all.
    """

    max_train_frames: int | None = None
    geometry: bool = True
    variants: bool = False
    per_frame: bool = False
    show_progress: bool = True
    metadata: ModelMetadata | None = None
    min_confidence: float | None = None
    elsewhere: tuple[Scene, ...] = ()
    max_elsewhere_frames: int | None = None


@dataclass(frozen=True, eq=False)
class ModelEvaluation:
    """The answers to each split, and what was measured of them as JSON values."""

    located: Mapping[Split, Sequence[LocatedFrame]]
    result: dict[str, Any]


def evaluate_module(module: Module, scene: Scene, device: torch.device | str = 'cpu',
                    options: EvaluationOptions | None = None) -> dict[str, Any]:
    """What `measure_module` measures, without the answers."""
    return measure_module(module, scene, device, options).result


def measure_module(module: Module, scene: Scene, device: torch.device | str = 'cpu',
                   options: EvaluationOptions | None = None) -> ModelEvaluation:
    """Localize both splits of a scene.

    Of the result, `train` and `test` are summaries (`summarize_located`); `geometry` and
    `variants` hold the same two keys where they were asked for and there is something to
    compare; `covariance`, `confidence` and `acceptance` are those of `measure_honesty`;
    `frames_detail` is `list_errors` of all answers.
    """
    options = options or EvaluationOptions()
    start_s = time.monotonic()
    result: dict[str, Any] = {}
    geometry: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = {}
    located: dict[Split, list[LocatedFrame]] = {}
    for split in SPLITS:
        errors, others = GeometryErrors(), PoseVariants()
        observers: list[Observer] = [errors.observe] if options.geometry else []
        if options.variants:
            observers.append(others.observe)
        frames = scene.split(split)
        if split == 'train':
            frames = tuple(spread(frames, options.max_train_frames))
        located[split] = locate_frames(
            module, progress_of(frames, split, options.show_progress), device, observers)
        result[split] = summarize_located(located[split], ALL_LIMITS)
        geometry[split] = errors.summarize()
        for name, summary in others.summarize().items():
            variants.setdefault(name, {})[split] = summary
    if any(geometry.values()):
        result['geometry'] = geometry
    if variants:
        result['variants'] = variants
    located_all = [answer for split in SPLITS for answer in located[split]]
    if options.metadata is not None and options.min_confidence is not None:
        elsewhere = ask_about_elsewhere(
            module, options.metadata, options.elsewhere, device, options.max_elsewhere_frames,
            options.show_progress)
        result.update(measure_honesty(located, elsewhere, options.metadata.calibration,
                                      options.min_confidence))
    if options.per_frame:
        result['frames_detail'] = list_errors(located_all, options.min_confidence)
    result['milliseconds_per_image'] = median_duration_ms(located_all)
    result['wall_seconds'] = time.monotonic() - start_s
    return ModelEvaluation(located, result)


def describe_circumstances(scene: Scene, split: str, format_name: str | None,
                           device: torch.device | str) -> dict[str, Any]:
    """What a figure needs beside it: scene, hardware and versions, as JSON values."""
    skipped = [{'name': frame.name, 'reason': frame.reason} for frame in scene.skipped]
    return {'scene': scene.name, 'split': split, 'format': format_name,
            'image_size': list(scene.image_size),
            'skipped_frames': len(skipped), 'skipped': skipped[:100],
            'hardware': describe_hardware(device), 'versions': find_versions()}


def describe_model(path: Path, metadata: ModelMetadata) -> dict[str, Any]:
    """Which model it was, as JSON values."""
    digest = hashlib.sha256(metadata.to_json().encode()).hexdigest()
    return {'name': path.name, 'bytes': path.stat().st_size, 'scene': metadata.scene,
            'encoder': metadata.encoder, 'metadata_sha256': digest}


def median_duration_ms(located: Iterable[LocatedFrame]) -> float | None:
    """Median time for one image."""
    durations = [answer.duration_ms for answer in located]
    return float(np.median(durations)) if durations else None


def progress_of(frames: tuple[Frame, ...], split: str, show: bool) -> Iterator[Frame]:
    """The frames, with a progress bar."""
    yield from tqdm(frames, desc=f'{split} frames', unit='image', disable=not show)
