# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Which stages a configuration runs, and how each begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.regressor import PoseRegressor
from implicit_relocalizer.training.alignment import AlignmentStage
from implicit_relocalizer.training.buffer import PointBuffer, buffer_bytes, fill_buffer
from implicit_relocalizer.training.configuration import ConfigurationError, TrainingConfig
from implicit_relocalizer.training.mapping import MappingStage
from implicit_relocalizer.training.memory import (
    MAX_MEMORY_SHARE,
    Remedy,
    available_bytes,
    halved,
)
from implicit_relocalizer.training.plan import Job
from implicit_relocalizer.training.regression import RegressionStage
from implicit_relocalizer.training.stage import DrawingStage, StageConfig


@dataclass(frozen=True)
class StageContext:
    """What a stage begins with.

    Attributes:
        job: Everything the steps share.
        images: The training images.
        network: The network as the stage before left it.
        iterations_done: More than 0 where an interrupted stage goes on.
        generator: Draws the stage's batches; its state is saved and restored for the stage.
        show_progress: Show progress bars on standard error.
    """

    job: Job
    images: PosedImages
    network: nn.Module
    iterations_done: int
    generator: torch.Generator
    show_progress: bool


@dataclass(frozen=True)
class PlannedStage:
    """A stage that is to run.

    Attributes:
        name: Its section of the configuration.
        config: That section.
        begin: Prepares the network (which parameters learn) and gives the stage to run.
        batch_key: The setting that says how large a batch of one process is.
        item: What a batch is made of, 'points' or 'images'.
        error_unit: Of the errors that its steps give.
        preparation_keys: Settings that decide how much memory `begin` takes.
    """

    name: str
    config: StageConfig
    begin: Callable[[StageContext], DrawingStage[Any]]
    batch_key: str
    item: str
    error_unit: str = 'px'
    preparation_keys: tuple[str, ...] = ()

    @property
    def items_per_step(self) -> int:
        """Size of a batch of one process."""
        return int(getattr(self.config, self.batch_key))

    def remedies(self, keys: tuple[str, ...]) -> list[Remedy]:
        """What to lower of these settings when memory runs out."""
        return [halved(f'{self.name}.{key}', int(getattr(self.config, key))) for key in keys]


def planned_stages(config: TrainingConfig) -> list[PlannedStage]:
    """The stages of a configuration, in order: those with any iterations."""
    stages = [
        PlannedStage('mapping', config.mapping, begin_mapping, 'batch_points', 'points',
                     preparation_keys=('points_per_view', 'views_per_image')),
        PlannedStage('alignment', config.alignment, begin_alignment, 'batch_images', 'images'),
        PlannedStage('regression', config.regression, begin_regression, 'batch_images', 'images',
                     error_unit='cm')]
    return [stage for stage in stages if stage.config.iterations > 0]


def begin_mapping(context: StageContext) -> DrawingStage[Any]:
    """Freeze the encoder and fill the buffer with its features."""
    job, localizer = context.job, context.network
    assert isinstance(localizer, Localizer) and isinstance(localizer.head, PointHead)
    for parameter in localizer.encoder.parameters():
        parameter.requires_grad_(False)
    localizer.encoder.eval()
    buffer = _fill_buffer(job, context.images, localizer.encoder, context.show_progress)
    if context.iterations_done == 0:
        mean, scale = buffer.feature_statistics()
        localizer.head.set_feature_statistics(mean, scale)
    return MappingStage(localizer.head, buffer, job.config.mapping, localizer.input_width,
                        localizer.nominal_focal_px, context.generator, job.device, job.dtype,
                        job.config.compile)


def begin_alignment(context: StageContext) -> DrawingStage[Any]:
    """Let the encoder learn where the configuration says so."""
    job, localizer = context.job, context.network
    assert isinstance(localizer, Localizer)
    config = job.config.alignment
    for parameter in localizer.encoder.parameters():
        parameter.requires_grad_(config.train_encoder)
    return AlignmentStage(localizer, context.images, config, job.config.augmentation,
                          context.generator, job.device, job.dtype, job.config.compile)


def begin_regression(context: StageContext) -> DrawingStage[Any]:
    """Let the encoder learn where the configuration says so."""
    job, regressor = context.job, context.network
    assert isinstance(regressor, PoseRegressor)
    config = job.config.regression
    for parameter in regressor.encoder.parameters():
        parameter.requires_grad_(config.train_encoder)
    return RegressionStage(regressor, context.images, config, job.config.augmentation,
                           context.generator, job.device, job.dtype, job.config.compile)


def _fill_buffer(job: Job, images: PosedImages, encoder: Encoder,
                 show_progress: bool) -> PointBuffer:
    mapping = job.config.mapping
    needed = buffer_bytes(len(images), mapping.views_per_image, mapping.points_per_view,
                          encoder.channels)
    available = available_bytes()
    if needed > MAX_MEMORY_SHARE * available:
        fitting = int(mapping.points_per_view * MAX_MEMORY_SHARE * available / needed)
        raise ConfigurationError(
            f'the buffer would take {needed / 1e9:.1f} GB of {available / 1e9:.1f} GB free '
            f'memory ({len(images)} images x {mapping.views_per_image} views x '
            f'{mapping.points_per_view} points); set mapping.points_per_view={max(1, fitting)} '
            f'or fewer mapping.views_per_image')
    with tqdm(total=len(images) * mapping.views_per_image, desc='encoding', unit='view',
              disable=not show_progress) as bar:
        return fill_buffer(images, encoder, job.input_size, mapping.views_per_image,
                           mapping.points_per_view, job.config.augmentation,
                           job.generator(0), job.device,
                           lambda done: bar.update(done - bar.n))
