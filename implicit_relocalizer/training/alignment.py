# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Stage B: whole images, the pose loss through weighted Kabsch (the paper's own training)."""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_relocalizer.data.augmentation import ViewRange, Views, draw_views, points_seen
from implicit_relocalizer.data.images import PosedImages, as_float_images
from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.network.localizer import Localizer, error_weights
from implicit_relocalizer.training.compilation import compiled
from implicit_relocalizer.training.configuration import AlignmentConfig
from implicit_relocalizer.training.losses import CloudLossWeights, cloud_loss, pose_loss
from implicit_relocalizer.training.precision import autocast
from implicit_relocalizer.training.stage import StepResult


class AlignmentStage:
    """Stage B as the loop sees it: parameters to optimise and a loss per step."""

    name = 'alignment'

    def __init__(self, localizer: Localizer, images: PosedImages, config: AlignmentConfig,
                 limits: ViewRange, generator: torch.Generator, device: torch.device,
                 dtype: torch.dtype, compile_network: bool = False) -> None:
        self.config = config
        self._localizer, self._images, self._limits = localizer, images, limits
        self._generator, self._device, self._dtype = generator, device, dtype
        self._predict = compiled(self._run_network, compile_network, device)

    def train_mode(self) -> None:
        """Prepare the modules for a training step."""
        self._localizer.train()
        if not self.config.train_encoder:
            self._localizer.encoder.eval()

    def step(self, progress: float) -> StepResult:
        """Loss on one batch of images, and its median reprojection error in pixels."""
        return self.loss(self.draw(), progress)

    def draw(self) -> Views:
        """Virtual views of random images."""
        images, localizer = self._images, self._localizer
        chosen = torch.randint(len(images), (self.config.batch_images,),
                               generator=self._generator)
        return draw_views(
            as_float_images(images.images_bhw3[chosen].to(self._device)),
            images.K_b33[chosen].to(self._device),
            images.R_world_camera_b33[chosen].to(self._device),
            images.t_local_camera_b3[chosen].to(self._device), self._limits,
            (localizer.input_width, localizer.input_height), self._generator)

    def loss(self, views: Views, progress: float) -> StepResult:
        """Loss on these views, and their median reprojection error in pixels."""
        del progress  # the loss stays the same over this stage
        config, localizer = self.config, self._localizer
        points_world, log_depth, log_error, pixels = self._predict(views.images_b3hw)
        zoom_b1 = (views.K_b33[:, 0, 0] / localizer.nominal_focal_px).unsqueeze(1)
        depth = torch.exp(log_depth) * zoom_b1
        points_camera = unproject(pixels, views.K_b33) * depth.unsqueeze(-1)
        seen = self._points_seen(views.valid_bhw, pixels)
        R, t, degenerate = weighted_kabsch(points_camera, points_world,
                                           error_weights(log_error) * seen)
        loss_b = pose_loss(R, t, views.R_world_camera_b33, views.t_world_camera_b3,
                           config.metres_per_radian)
        pose = torch.where(degenerate, torch.zeros_like(loss_b), loss_b).mean()
        cloud = cloud_loss(
            points_world, depth, log_error, pixels, views.K_b33.unsqueeze(1),
            views.R_world_camera_b33.unsqueeze(1), views.t_world_camera_b3.unsqueeze(1),
            localizer.head.nominal_depth_m, config.clamp_px * localizer.pixel_scale,
            CloudLossWeights(config.reprojection_weight, config.consistency_weight,
                             config.likelihood_weight))
        points_seen_count = seen.sum().clamp(min=1.0)
        loss = config.pose_weight * pose + (cloud.total * seen).sum() / points_seen_count
        median_px = float(cloud.errors.reprojection_px.detach()[seen > 0].median())
        return StepResult(loss, median_px, {'pose_m': pose.detach(), **{
            name: (part.detach() * seen).sum() / points_seen_count
            for name, part in cloud.parts.items()}})

    def _run_network(self, images_b3hw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with autocast(self._device, self._dtype), torch.set_grad_enabled(True):
            with torch.set_grad_enabled(self.config.train_encoder):
                layout = images_b3hw.contiguous(memory_format=torch.channels_last)
                features, pixels = self._localizer.encoder.sample(layout)
            points_world, log_depth, log_error = self._localizer.head(features)
        return points_world, log_depth, log_error, pixels

    def _points_seen(self, valid_bhw: Tensor, pixels_bn2: Tensor) -> Tensor:
        """1 for points around which the real camera saw a whole cell: (B, N) float."""
        return points_seen(valid_bhw, pixels_bn2, self._localizer.encoder.stride).float()
