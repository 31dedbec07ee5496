# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrate a model file on a scene's held-out frames, and check it by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from implicit_relocalizer.data.frames import Frame, Scene
from implicit_relocalizer.evaluation.calibration_fit import (
    CalibrationError,
    FittedCalibration,
    Sample,
    fit_calibration,
)
from implicit_relocalizer.evaluation.calibration_measures import join, judge, measure_verdicts
from implicit_relocalizer.evaluation.calibration_samples import CalibrationSampler
from implicit_relocalizer.evaluation.locating import spread
from implicit_relocalizer.network.calibration import (
    FEATURES,
    Calibration,
    has_calibration,
    start_anew,
)
from implicit_relocalizer.network.model_file import ModelMetadata, load_model, save_model

# Neighbouring frames err alike: a whole stretch of the drive is left out at a time.
_MOST_PARTS = 10
_FEWEST_FRAMES_OF_A_PART = 4
_FEWEST_FRAMES = 16


@dataclass(frozen=True)
class CalibrationOptions:
    """What to calibrate for.

    Attributes:
        bound_m, bound_deg: What a good answer is.
        false_accept_rate: How large a share of bad answers may pass the threshold.
        virtual_views: Slightly turned and zoomed copies asked of every frame.
        nowhere: Images asked that show no place: shuffled tiles and noise.
        elsewhere: Frames asked of every other scene at most.
        seed: Of everything that is drawn.
    """

    bound_m: float = 0.25
    bound_deg: float = 5.0
    false_accept_rate: float = 0.01
    virtual_views: int = 2
    nowhere: int = 60
    elsewhere: int = 200
    seed: int = 0


def calibrate_model(path: Path, scene: Scene, others: Sequence[Scene], out: Path,
                    options: CalibrationOptions, device: torch.device | str) -> dict[str, Any]:
    """Fit, check, and write the calibrated model.

    What is stored was fitted on all held-out frames. How it holds is told by cross-validation:
    each stretch of the drive, with its share of the other images, is judged by a calibration
    (threshold and all) that was fitted on the other stretches.

    Args:
        path: The model file; it stays as it is unless `out` is the same.
        scene: Whose held-out frames the model did not learn.
        others: Other places, to be refused; a share of each goes to every part.
        out: Model file to write.
        options: What to calibrate for.
        device: Where the model runs.

    Returns:
        JSON values: how it holds on what it was `fitted` on, and `checked` by cross-validation
        (see `measure_verdicts`); `calibration` as the model's metadata keep it.

    Raises:
        CalibrationError: the model is too old, or there is too little to fit on.
        ModelFileError: the file cannot be used.
    """
    module, metadata = load_model(path, device)
    if not has_calibration(module):
        raise CalibrationError(f'{path}: is not a localizer of this version, which could be '
                               f'calibrated; train it again with `implicit-relocalizer train`')
    frames = scene.split('test')
    if len(frames) < _FEWEST_FRAMES:
        raise CalibrationError(f'{scene.root}: has {len(frames)} held-out frames; a calibration '
                               f'needs at least {_FEWEST_FRAMES} that were not learned')
    start_anew(module.calibration, metadata.position_min_m, metadata.position_max_m)
    parts = split_in_stretches(frames)
    samples = [ask_part(module, metadata, part, scene, others, index, len(parts), options, device)
               for index, part in enumerate(parts)]
    return fit_and_store(module, metadata, samples, len(frames), scene, others, out, options)


def fit_and_store(module: torch.jit.ScriptModule, metadata: ModelMetadata,
                  samples: Sequence[Sequence[Sample]], frame_count: int, scene: Scene,
                  others: Sequence[Scene], out: Path,
                  options: CalibrationOptions) -> dict[str, Any]:
    """Fit to all parts, check by leaving one out at a time, and write the model.

    Args:
        module: The model, its calibration started anew.
        metadata: Of its file.
        samples: Answers by part.
        frame_count: How many frames they are of.
        scene: Where these are from.
        others: Other places that were asked about.
        out: Model file to write.
        options: What to calibrate for.

    Returns:
        As `calibrate_model`.
    """
    all_samples = [sample for part in samples for sample in part]
    checked = cross_validate(samples, options)
    fitted = fit(all_samples, options)
    fitted.store_in(module.calibration)
    on_itself = measure_verdicts(
        all_samples, judge(module.calibration.cpu(), all_samples, fitted.min_confidence),
        options.bound_m, options.bound_deg)
    calibration = {
        'min_confidence': fitted.min_confidence, 'bound_m': options.bound_m,
        'bound_deg': options.bound_deg, 'false_accept_rate': options.false_accept_rate,
        'scene': scene.name, 'frames': frame_count, 'answers': len(all_samples),
        'elsewhere': [place.name for place in others], 'features': list(FEATURES),
        'checked': {
            **{key: checked[key] for key in (
                'answers', 'expected_calibration_error', 'good_accepted', 'bad_accepted')},
            **{name: checked[name]['within'] for name in ('position', 'rotation')}}}
    save_model(module.cpu(), out, replace(metadata, calibration=calibration))
    return {'kind': 'calibration', 'scene': scene.name, 'calibration': calibration,
            'fitted': on_itself, 'checked': checked}


def ask_part(module: torch.jit.ScriptModule, metadata: ModelMetadata, frames: Sequence[Frame],
             scene: Scene, others: Sequence[Scene], index: int, count: int,
             options: CalibrationOptions, device: torch.device | str) -> list[Sample]:
    """Answers to one of `count` parts of the frames, and to its share of all other images."""
    return ask(module, metadata, frames, scene,
               [spread(place.frames, options.elsewhere)[index::count] for place in others],
               replace(options, seed=options.seed + index, nowhere=-(-options.nowhere // count)),
               device)


def cross_validate(samples: Sequence[Sequence[Sample]],
                   options: CalibrationOptions) -> dict[str, Any]:
    """How each part fares with what was fitted on the others; see `measure_verdicts`."""
    verdicts = []
    for left_out, part in enumerate(samples):
        fitted = fit([sample for index, other in enumerate(samples) if index != left_out
                      for sample in other], options)
        calibration = Calibration()
        fitted.store_in(calibration)
        verdicts.append(judge(calibration, part, fitted.min_confidence))
    return measure_verdicts([sample for part in samples for sample in part], join(verdicts),
                            options.bound_m, options.bound_deg)


def fit(samples: Sequence[Sample], options: CalibrationOptions) -> FittedCalibration:
    """`fit_calibration` with the options."""
    return fit_calibration(samples, options.bound_m, options.bound_deg, options.false_accept_rate)


def split_in_stretches(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Up to ten parts, each one stretch of consecutive frames."""
    count = min(_MOST_PARTS, len(frames) // _FEWEST_FRAMES_OF_A_PART)
    edges = [round(index * len(frames) / count) for index in range(count + 1)]
    return [list(frames[start:end]) for start, end in pairwise(edges)]


def ask(module: torch.jit.ScriptModule, metadata: ModelMetadata, frames: Sequence[Frame],
        scene: Scene, elsewhere: Sequence[Sequence[Frame]], options: CalibrationOptions,
        device: torch.device | str) -> list[Sample]:
    """Answers to frames as they are, turned, spoilt; to nothing; to other places."""
    sampler = CalibrationSampler(module, metadata, device, options.seed)
    samples = [*sampler.views(frames, options.virtual_views), *sampler.spoilt(frames),
               *sampler.nowhere(scene.split('train') or frames, options.nowhere)]
    for others in elsewhere:
        samples += sampler.elsewhere(others)
    return samples
