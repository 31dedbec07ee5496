# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Training of the pose-regression baseline: the same views, labels and budget as ours."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from implicit_relocalizer.data.augmentation import ViewRange, Views, draw_views
from implicit_relocalizer.data.images import PosedImages, as_float_images
from implicit_relocalizer.geometry.rigid import geodesic_angle
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.regressor import BALANCE_GAIN, PoseRegressor, RegressionHead
from implicit_relocalizer.training.compilation import compiled
from implicit_relocalizer.training.configuration import RegressionConfig
from implicit_relocalizer.training.precision import autocast
from implicit_relocalizer.training.stage import StepResult

# median length of a vector of three independent normal numbers of variance one
MEDIAN_LENGTH = 1.5382


class RegressionStage:
    """Pose regression as the loop sees it: parameters to optimise and a loss per step."""

    name = 'regression'

    def __init__(self, regressor: PoseRegressor, images: PosedImages, config: RegressionConfig,
                 limits: ViewRange, generator: torch.Generator, device: torch.device,
                 dtype: torch.dtype, compile_network: bool = False) -> None:
        self.config = config
        self._regressor, self._images, self._limits = regressor, images, limits
        self._generator, self._device, self._dtype = generator, device, dtype
        self._predict = compiled(regressor.predict, compile_network, device)

    def train_mode(self) -> None:
        """Prepare the modules for a training step."""
        self._regressor.train()
        if not self.config.train_encoder:
            self._regressor.encoder.eval()

    def step(self, progress: float) -> StepResult:
        """Loss on one batch of images, and its median position error in centimetres."""
        return self.loss(self.draw(), progress)

    def draw(self) -> Views:
        """Virtual views of random images."""
        regressor, images = self._regressor, self._images
        chosen = torch.randint(len(images), (self.config.batch_images,),
                               generator=self._generator)
        return draw_views(
            as_float_images(images.images_bhw3[chosen].to(self._device)),
            images.K_b33[chosen].to(self._device),
            images.R_world_camera_b33[chosen].to(self._device),
            images.t_local_camera_b3[chosen].to(self._device), self._limits,
            (regressor.input_width, regressor.input_height), self._generator)

    def loss(self, views: Views, progress: float) -> StepResult:
        """Loss on these views, and their median position error in centimetres."""
        del progress  # the loss stays the same
        with autocast(self._device, self._dtype):
            R, t = self._predict(
                views.images_b3hw.contiguous(memory_format=torch.channels_last))
        position_m = torch.linalg.vector_norm(t - views.t_world_camera_b3, dim=1)
        angle_rad = geodesic_angle(R, views.R_world_camera_b33)
        mean_m, mean_rad = position_m.mean(), angle_rad.mean()
        loss = balanced_loss(mean_m, mean_rad, self._regressor.balance_2)
        return StepResult(loss, 100.0 * float(position_m.detach().median()),
                          {'position_m': mean_m.detach(), 'rotation_rad': mean_rad.detach()})


def balanced_loss(position_m: Tensor, angle_rad: Tensor, balance_2: Tensor) -> Tensor:
    """L_t exp(-s_t) + s_t + L_r exp(-s_r) + s_r (Kendall and Cipolla, CVPR 2017, section 3.3).

    s is `BALANCE_GAIN` times the learned parameter; where it has settled, exp(s) is the loss.
    """
    s_2 = BALANCE_GAIN * balance_2
    return (torch.stack([position_m, angle_rad]) * torch.exp(-s_2) + s_2).sum()


def build_regressor(encoder: Encoder, config: RegressionConfig, images: PosedImages,
                    input_size: tuple[int, int]) -> PoseRegressor:
    """An untrained regressor for a place, its unit the spread of the training positions."""
    head = RegressionHead(encoder.channels, config.stem_blocks, config.pooled_cells, config.width,
                          config.dropout)
    spread_m = float(images.t_local_camera_b3.pow(2).sum(dim=1).mean().sqrt())
    return PoseRegressor(encoder, head, input_size, images.origin_world_3, max(spread_m, 1e-3))


def state_uncertainty(network: nn.Module, result: dict[str, Any]) -> None:
    """Let a regressor state the errors measured on validation frames; others know their own.

    Median errors stand for normal ones, so that a few lost frames do not count. Without
    validation frames it is the training error, which is too small.
    """
    if not isinstance(network, PoseRegressor):
        return
    measured = result.get('validation', result['train'])
    network.set_deviations(measured['median_translation_m'] / MEDIAN_LENGTH,
                           math.radians(measured['median_rotation_deg']) / MEDIAN_LENGTH)
