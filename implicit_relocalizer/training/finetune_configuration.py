# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass


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
        clamp_px: Reprojection errors beyond it count little.
        min_score: Images whose points agree less with the best orientation at their labelled
            position teach nothing yet (share of soft inliers).
        hypotheses: Orientations tried per image and step.
    """

    iterations: int = 4000
    max_seconds: float = 120.0
    views_per_image: int = 3
    points_per_view: int = 400
    batch_images: int = 8
    points_per_image: int = 128
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    position_weight: float = 1.0
    kabsch_weight: float = 0.1
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1
    clamp_px: float = 4.0
    min_score: float = 0.15
    hypotheses: int = 64
