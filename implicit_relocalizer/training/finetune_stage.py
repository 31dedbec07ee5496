# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of the point head on images whose position is known, and maybe the orientation.

Altillawi et al., RA-L 2024, section III: the position part of the pose loss, and consistency and
reprojection under the estimated orientation. Where the position is known the orientation is
estimated with it (`trusted_orientations`): three unknowns, not six.
"""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.geometry.kabsch import weighted_kabsch
from implicit_relocalizer.geometry.refinement import refine_pose
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer, error_weights
from implicit_relocalizer.training.finetune_configuration import FinetuneConfig
from implicit_relocalizer.training.kept_answers import KeptAnswers
from implicit_relocalizer.training.losses import CloudLossWeights, cloud_loss
from implicit_relocalizer.training.positioned_cells import CellBatch, PositionedCells
from implicit_relocalizer.training.precision import autocast
from implicit_relocalizer.training.stage import StepResult
from implicit_relocalizer.training.trusted_orientations import TrustedOrientations

REFINEMENT_STEPS = 3


class FinetuneStage:
    """Fine-tuning as the loop sees it: parameters to optimise and a loss per step."""

    name = 'finetuning'

    def __init__(self, localizer: Localizer, cells: PositionedCells, kept: KeptAnswers,
                 config: FinetuneConfig, generator: torch.Generator, device: torch.device,
                 dtype: torch.dtype) -> None:
        self.config = config
        self._kept = kept
        self._localizer, self._cells = localizer, cells
        self._generator, self._device, self._dtype = generator, device, dtype
        self._orientations = TrustedOrientations(localizer, cells, config.min_score, generator,
                                                 device)
        self._rounds_done = 0

    def train_mode(self) -> None:
        """Prepare the modules for a training step."""
        self._localizer.head.train()
        self._localizer.encoder.eval()

    def step(self, progress: float) -> StepResult:
        """Loss on cells of one batch of images, and the median reprojection error in pixels."""
        config, localizer, scale = self.config, self._localizer, self._localizer.pixel_scale
        if progress * config.rounds >= self._rounds_done:
            grown = min(1.0, progress / config.growth_progress)
            self._orientations.update(config.trusted_share + (1.0 - config.trusted_share) * grown)
            self._rounds_done += 1
        trusted = self._orientations.trusted
        chosen = trusted[torch.randint(len(trusted), (config.batch_images,),
                                       generator=self._generator)]
        R_b33 = self._orientations.R_world_camera_i33[chosen].to(self._device)
        batch = self._cells.draw(chosen, config.points_per_image, self._generator, self._device)
        with autocast(self._device, self._dtype):
            points_world, log_depth, log_error = localizer.head(batch.features_bnc)
        weights = error_weights(log_error)
        depth = torch.exp(log_depth) * batch.depth_factor_bn
        loss_bn, errors, _ = cloud_loss(
            points_world, depth, log_error, batch.pixels_bn2, batch.K_b33.unsqueeze(1),
            R_b33.unsqueeze(1), batch.t_local_camera_b3.unsqueeze(1),
            localizer.head.nominal_depth_m, config.clamp_px * scale,
            CloudLossWeights(config.reprojection_weight, config.consistency_weight,
                             config.likelihood_weight))
        points_camera = unproject(batch.pixels_bn2, batch.K_b33) * depth.unsqueeze(-1)
        kabsch = self._kabsch_error(points_camera, points_world, weights, batch).mean()
        refined = self._refined_error(R_b33, points_world, weights, batch).mean()
        cloud = loss_bn.mean()
        assert isinstance(localizer.head, PointHead)
        change = self._kept.change(localizer.head, config.kept_cells)
        loss = (cloud + config.kabsch_weight * kabsch + config.position_weight * refined
                + config.kept_weight * change)
        return StepResult(loss, float(errors.reprojection_px.detach().median()), {
            'cloud': cloud.detach(), 'kabsch_m': kabsch.detach(), 'refined_m': refined.detach(),
            'kept_change': change.detach(), 'trusted_share': len(trusted) / len(self._cells)})

    def _kabsch_error(self, points_camera_bn3: Tensor, points_world_bn3: Tensor,
                      weights_bn: Tensor, batch: CellBatch) -> Tensor:
        """Distance of the weighted Kabsch alignment to the label, metres (B)."""
        _, t_b3, degenerate_b = weighted_kabsch(points_camera_bn3, points_world_bn3, weights_bn)
        error_b = _length(t_b3 - batch.t_local_camera_b3)
        return torch.where(degenerate_b, torch.zeros_like(error_b), error_b)

    def _refined_error(self, R_b33: Tensor, points_world_bn3: Tensor, weights_bn: Tensor,
                       batch: CellBatch) -> Tensor:
        """How far refinement leaves the labelled position, metres (B).

        Where the points are right it stays; its gradient moves the points that pull it away.
        """
        scale = self._localizer.pixel_scale
        _, t_b3, _, _ = refine_pose(
            R_b33, batch.t_local_camera_b3, points_world_bn3, batch.pixels_bn2, batch.K_b33,
            weights_bn, REFINEMENT_STEPS, 3.0 * scale, 3.0 * scale)
        return _length(t_b3 - batch.t_local_camera_b3).clamp(max=1.0)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean length with a finite gradient at zero."""
    return torch.sqrt((vectors * vectors).sum(dim=-1) + 1e-12)
