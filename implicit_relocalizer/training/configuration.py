# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Training configuration: every setting with its default, in typed sections."""

from __future__ import annotations

from dataclasses import dataclass, field

from implicit_relocalizer.data.augmentation import ViewRange


class ConfigurationError(ValueError):
    """A configuration cannot be used; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and whether ImageNet weights are loaded into it."""

    name: str = 'gradient_descriptor'
    pretrained: bool = False


@dataclass(frozen=True)
class HeadConfig:
    """The point head (see `network.heads.PointHead`)."""

    width: int = 256
    blocks: int = 2
    anchors: int = 48
    nominal_depth_m: float = 2.5
    offset_scale_m: float = 1.0


@dataclass(frozen=True)
class LocalizerConfig:
    """How a pose comes from the clouds (see `network.localizer.Localizer`)."""

    alignment: str = 'refined'
    hypothesis_count: int = 128
    refined_count: int = 2


@dataclass(frozen=True)
class MappingConfig:
    """Stage A. `iterations: 0` skips it. Clamps are for an image 360 px wide."""

    iterations: int = 20000
    max_seconds: float = 225.0
    views_per_image: int = 3
    points_per_view: int = 1000
    batch_points: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    clamp_start_px: float = 10.0
    clamp_end_px: float = 2.0
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1


@dataclass(frozen=True)
class AlignmentConfig:
    """Stage B. `iterations: 0` skips it; `train_encoder` trains end to end."""

    iterations: int = 0
    max_seconds: float = 240.0
    batch_images: int = 8
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    train_encoder: bool = False
    pose_weight: float = 1.0
    metres_per_radian: float = 1.0
    reprojection_weight: float = 1.0
    consistency_weight: float = 0.2
    likelihood_weight: float = 0.1
    clamp_px: float = 25.0


@dataclass(frozen=True)
class RegressionConfig:
    """The pose-regression baseline, in place of stages A and B. `iterations: 0` skips it.

    Its head is `network.regressor.RegressionHead`.
    """

    iterations: int = 0
    max_seconds: float = 240.0
    batch_images: int = 8
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    train_encoder: bool = True
    stem_blocks: int = 0
    pooled_cells: int = 1
    width: int = 1024
    dropout: float = 0.2


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides how a model comes out."""

    input_width: int = 360
    precision: str = 'auto'
    device: str = 'auto'
    seed: int = 0
    validation_fraction: float = 0.05
    validation_every_s: float = 20.0
    checkpoint_every_s: float = 30.0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    augmentation: ViewRange = field(default_factory=ViewRange)
    mapping: MappingConfig = field(default_factory=MappingConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
