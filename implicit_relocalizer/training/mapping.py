# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Stage A: the point head learns geometry from shuffled points of all views.

The encoder is frozen, its features are in a buffer. Shuffling points of all images into one
batch and shrinking the clamp of the reprojection error follow ACE (Brachmann et al., CVPR 2023).
"""

from __future__ import annotations

import torch

from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.training.buffer import PointBatch, PointBuffer
from implicit_relocalizer.training.compilation import compiled
from implicit_relocalizer.training.configuration import MappingConfig
from implicit_relocalizer.training.losses import CloudLossWeights, cloud_loss
from implicit_relocalizer.training.precision import autocast
from implicit_relocalizer.training.stage import StepResult

CLAMP_IMAGE_WIDTH_PX = 360.0


class MappingStage:
    """Stage A as the loop sees it: parameters to optimise and a loss per step."""

    name = 'mapping'

    def __init__(self, head: PointHead, buffer: PointBuffer, config: MappingConfig,
                 image_width_px: int, nominal_focal_px: float, generator: torch.Generator,
                 device: torch.device, dtype: torch.dtype,
                 compile_network: bool = False) -> None:
        self.config = config
        self._head, self._buffer = head, buffer
        self._width_px, self._nominal_focal_px = image_width_px, nominal_focal_px
        self._generator, self._device, self._dtype = generator, device, dtype
        self._predict = compiled(head.forward, compile_network, device)

    def train_mode(self) -> None:
        """Prepare the modules for a training step."""
        self._head.train()

    def step(self, progress: float) -> StepResult:
        """Loss on one batch of points, and its median reprojection error in pixels."""
        return self.loss(self.draw(), progress)

    def draw(self) -> PointBatch:
        """Random points of all views."""
        indices = torch.randint(len(self._buffer), (self.config.batch_points,),
                                generator=self._generator)
        return self._buffer.batch(indices, self._device)

    def loss(self, batch: PointBatch, progress: float) -> StepResult:
        """Loss on these points, and their median reprojection error in pixels."""
        config = self.config
        with autocast(self._device, self._dtype):
            points_world, log_depth, log_error = self._predict(batch.features_nc)
        zoom = batch.K_n33[:, 0, 0] / self._nominal_focal_px
        weights = CloudLossWeights(config.reprojection_weight, config.consistency_weight,
                                   config.likelihood_weight)
        limit_px = clamp_px(config, progress) * self._width_px / CLAMP_IMAGE_WIDTH_PX
        cloud = cloud_loss(
            points_world, torch.exp(log_depth) * zoom, log_error, batch.pixels_n2, batch.K_n33,
            batch.R_world_camera_n33, batch.t_local_camera_n3, self._head.nominal_depth_m,
            limit_px, weights)
        median_px = float(cloud.errors.reprojection_px.detach().median())
        return StepResult(cloud.total.mean(), median_px, {
            name: part.detach().mean() for name, part in cloud.parts.items()})


def clamp_px(config: MappingConfig, progress: float) -> float:
    """The clamp shrinks geometrically: as much time for each halving of the error."""
    return float(config.clamp_start_px * (config.clamp_end_px / config.clamp_start_px) ** progress)
