# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrate a model file on one part of a scene's held-out frames, and check it on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from implicit_relocalizer.data.frames import Frame, Scene
from implicit_relocalizer.evaluation.calibration_fit import (
    CalibrationError,
    Sample,
    fit_calibration,
)
from implicit_relocalizer.evaluation.calibration_measures import measure_calibration
from implicit_relocalizer.evaluation.calibration_samples import CalibrationSampler
from implicit_relocalizer.evaluation.locating import spread
from implicit_relocalizer.network.calibration import FEATURES, start_anew
from implicit_relocalizer.network.model_file import ModelMetadata, load_model, save_model

# Neighbouring frames err alike: whole stretches of the drive go to either part.
_STRETCHES = 8
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

    Args:
        path: The model file; it stays as it is unless `out` is the same.
        scene: Whose held-out frames the model did not learn.
        others: Other places, to be refused; each goes to both parts by halves.
        out: Model file to write.
        options: What to calibrate for.
        device: Where the model runs.

    Returns:
        JSON values: `fitted` and `checked` (see `measure_calibration`), `calibration` as the
        model's metadata keep it.

    Raises:
        CalibrationError: the model is too old, or there is too little to fit on.
        ModelFileError: the file cannot be used.
    """
    module, metadata = load_model(path, device)
    if not hasattr(module, 'calibration'):
        raise CalibrationError(f'{path}: is not a localizer of this version, which could be '
                               f'calibrated; train it again with `implicit-relocalizer train`')
    frames = scene.split('test')
    if len(frames) < _FEWEST_FRAMES:
        raise CalibrationError(f'{scene.root}: has {len(frames)} held-out frames; a calibration '
                               f'needs at least {_FEWEST_FRAMES} that were not learned')
    start_anew(module.calibration, metadata.position_min_m, metadata.position_max_m)
    fit_frames, check_frames = split_in_stretches(frames)
    fit_samples, check_samples = (
        ask(module, metadata, part, scene, [other[index::2] for other in (
            spread(place.frames, options.elsewhere) for place in others)],
            replace(options, seed=options.seed + index), device)
        for index, part in enumerate((fit_frames, check_frames)))
    fitted = fit_calibration(fit_samples, options.bound_m, options.bound_deg,
                             options.false_accept_rate)
    fitted.store_in(module.calibration)
    on_cpu = module.calibration.cpu()
    checked, on_itself = (measure_calibration(
        on_cpu, samples, fitted.min_confidence, options.bound_m, options.bound_deg)
        for samples in (check_samples, fit_samples))
    calibration = {
        'min_confidence': fitted.min_confidence, 'bound_m': options.bound_m,
        'bound_deg': options.bound_deg, 'false_accept_rate': options.false_accept_rate,
        'scene': scene.name, 'frames': len(fit_frames), 'answers': len(fit_samples),
        'elsewhere': [place.name for place in others], 'features': list(FEATURES),
        'checked': {
            **{key: checked[key] for key in (
                'answers', 'expected_calibration_error', 'good_accepted', 'bad_accepted')},
            **{name: checked[name]['within'] for name in ('position', 'rotation')}}}
    save_model(module.cpu(), out, replace(metadata, calibration=calibration))
    return {'kind': 'calibration', 'scene': scene.name, 'calibration': calibration,
            'fitted': on_itself, 'checked': checked}


def split_in_stretches(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Two halves, each of stretches of consecutive frames."""
    length = max(1, len(frames) // _STRETCHES)
    return ([frame for i, frame in enumerate(frames) if i // length % 2 == 0],
            [frame for i, frame in enumerate(frames) if i // length % 2 == 1])


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
