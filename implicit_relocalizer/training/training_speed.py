# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How long a training takes, and on what: its steps alone, then all of it with its curve."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.images import load_posed_images
from implicit_relocalizer.training.compilation import why_not_compiled
from implicit_relocalizer.training.configuration import TrainingConfig
from implicit_relocalizer.training.measurement import Evaluate
from implicit_relocalizer.training.plan import Job, plan_job, spread_frames
from implicit_relocalizer.training.stages import planned_stages
from implicit_relocalizer.training.step_speed import Variant, measure_steps
from implicit_relocalizer.training.trainer import train_scene

logger = logging.getLogger(__name__)

LOOKS = 24
ERRORS_M = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True)
class SpeedOptions:
    """How much is measured.

    Attributes:
        rounds: Of the steps, in each of which every variant has its turn.
        turn_s: About so many seconds for each turn.
        images: The steps are timed on so many training images, evenly spread.
        compile: Time compiled networks too.
        budget_s: Seconds for each stage of the whole training; None leaves the configuration's.
    """

    rounds: int = 5
    turn_s: float = 4.0
    images: int = 64
    compile: bool = True
    budget_s: float | None = None


def measure_training(scene: Scene, config: TrainingConfig, run_dir: Path, evaluate: Evaluate,
                     options: SpeedOptions, show_progress: bool = True) -> dict[str, Any]:
    """Time a configuration on a scene, as JSON values.

    Args:
        scene: The place.
        config: What is timed.
        run_dir: Of the whole training; one that is there is thrown away.
        evaluate: Error summary of a localizer on frames.
        options: How much is measured.
        show_progress: Show progress bars on standard error.

    Returns:
        `steps`: of each stage, a list of `measure_steps`; `phase_seconds`, `curve` (seconds since
        the start, and the median errors on the validation images), `seconds_to_error` (the first
        time on that curve at which an error was reached) and the errors of the model in the end.
    """
    torch.set_flush_denormal(True)  # as train_scene
    steps = _measure_all_steps(plan_job(scene, config), options)
    config = _with_budget(config, options.budget_s)
    result = train_scene(scene, config, run_dir, evaluate, show_progress, restart=True)
    curve = make_curve(result)
    return {'steps': steps, 'phase_seconds': result['phase_seconds'],
            'training_seconds': result['training_seconds'],
            'wall_seconds': result['wall_seconds'], 'device': result['device'],
            'dtype': result['dtype'], 'curve': curve,
            'seconds_to_error': seconds_to_errors(curve, ERRORS_M),
            **{part: result[part] for part in ('train', 'validation', 'test') if part in result},
            'configuration': result['configuration']}


def _measure_all_steps(job: Job, options: SpeedOptions) -> dict[str, list[dict[str, Any]]]:
    stages = planned_stages(job.config)
    if not stages:
        return {}
    variants = [Variant(torch.float32), Variant(torch.bfloat16)]
    if options.compile:
        reason = why_not_compiled(job.device)
        if reason is None:
            variants.append(Variant(job.dtype, compile=True))
        else:
            logger.warning('compiled networks are not timed: %s', reason)
    few = replace(job, fit_frames=tuple(spread_frames(job.fit_frames, options.images)))
    images = load_posed_images(few.fit_frames, few.origin_world_3)
    return {stage.name: measure_steps(few, images, stage, variants, options.rounds,
                                      options.turn_s) for stage in stages}


def _with_budget(config: TrainingConfig, budget_s: float | None) -> TrainingConfig:
    """The configuration with another time for each stage, and as many looks at its errors."""
    if budget_s is not None:
        config = replace(
            config, mapping=replace(config.mapping, max_seconds=budget_s),
            alignment=replace(config.alignment, max_seconds=budget_s),
            regression=replace(config.regression, max_seconds=budget_s))
    longest = max((stage.config.max_seconds for stage in planned_stages(config)), default=0.0)
    return replace(config, validation_every_s=longest / LOOKS) if longest > 0 else config


def make_curve(result: Mapping[str, Any]) -> list[dict[str, float]]:
    """Errors on the validation images by seconds since the start, of a result of `train_scene`.

    The seconds contain those of looking at the errors. Its end is the finished model.
    """
    rows = []
    phases: Mapping[str, float] = result['phase_seconds']
    for stage, validations in result['validation_history'].items():
        before_s = sum(list(phases.values())[:list(phases).index(stage)])
        rows += [{'seconds': before_s + elapsed_s, 'translation_m': translation_m,
                  'rotation_deg': rotation_deg}
                 for _, elapsed_s, translation_m, rotation_deg in validations]
    final = result.get('validation')
    if final and final['median_translation_m'] is not None:
        rows.append({'seconds': result['training_seconds'],
                     'translation_m': final['median_translation_m'],
                     'rotation_deg': final['median_rotation_deg']})
    return rows


def seconds_to_errors(curve: Sequence[Mapping[str, float]],
                      errors_m: Sequence[float]) -> dict[str, float]:
    """For each error that was reached, when it was first; keys are metres."""
    reached = {}
    for error_m in errors_m:
        times = [row['seconds'] for row in curve if row['translation_m'] <= error_m]
        if times:
            reached[f'{error_m:g}'] = min(times)
    return reached
