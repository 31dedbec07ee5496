# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of fine-tuning."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from implicit_relocalizer.training.configuration import ConfigurationError
from implicit_relocalizer.training.configuration_file import section_from_overrides


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tuning of the point head; clamps are for an image 360 px wide.

    Attributes:
        iterations, max_seconds: The stage ends when either is used up (0 s: no limit).
        views_per_image: The image itself and virtual views of it.
        points_per_view: Cells of each view kept in memory.
        batch_images: Images in a step.
        points_per_image: Cells of each image in a step.
        learning_rate, weight_decay: Of AdamW.
        position_weight: Of the distance, in metres, of the refined pose to the label.
        kabsch_weight: The same for the weighted Kabsch alignment.
        reprojection_weight, consistency_weight, likelihood_weight: Of the losses of the clouds,
            under the estimated orientation.
        kept_weight: Of changes of the answers to images known already (`kept_answers`).
        kept_cells: Cells of those images in a step.
        clamp_px: Reprojection errors beyond it count little.
        rounds: How often all orientations are estimated anew (position labels).
        trusted_share: Of the images at the start: those whose points agree best.
        growth_progress: Share of the stage after which all images are trusted.
        min_score: Images whose points agree less with the best orientation at their labelled
            position teach nothing (share of soft inliers).
    """

    iterations: int = 4000
    max_seconds: float = 120.0
    views_per_image: int = 3
    points_per_view: int = 400
    batch_images: int = 16
    points_per_image: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    position_weight: float = 1.0
    kabsch_weight: float = 0.1
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1
    kept_weight: float = 10.0
    kept_cells: int = 512
    clamp_px: float = 4.0
    rounds: int = 20
    trusted_share: float = 0.3
    growth_progress: float = 0.6
    min_score: float = 0.1


def load_finetune_configuration(overrides: list[str]) -> FinetuneConfig:
    """The defaults with overrides of the form `key=value`.

    Raises:
        ConfigurationError: unknown key, a value of the wrong type, or one that cannot work.
    """
    config = section_from_overrides(FinetuneConfig, overrides, 'finetune')
    for key, value in dataclasses.asdict(config).items():
        positive = key in _POSITIVE
        if not (value > 0 if positive else value >= 0) or value == math.inf:
            raise ConfigurationError(f'finetune: {key} is {value}, must be '
                                     f'{"> 0" if positive else ">= 0"}')
    if config.trusted_share > 1:
        raise ConfigurationError(f'finetune: trusted_share is {config.trusted_share}, must be at '
                                 f'most 1')
    return config


_POSITIVE = ('iterations', 'views_per_image', 'points_per_view', 'batch_images',
             'points_per_image', 'kept_cells', 'clamp_px', 'rounds', 'growth_progress')
