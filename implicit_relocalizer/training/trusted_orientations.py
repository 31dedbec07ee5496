# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Orientations of images whose position alone is labelled, and which of them to believe."""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_relocalizer.geometry.orientation import orientation_at_position
from implicit_relocalizer.network.localizer import Localizer, error_weights
from implicit_relocalizer.training.positioned_cells import PositionedCells

ESTIMATION_BATCH = 16
ESTIMATION_CELLS = 400
HYPOTHESES = 64


class TrustedOrientations:
    """An orientation for every image, labelled or estimated with its labelled position.

    Estimates start out wrong where the model has not been, and points that learn from a wrong
    orientation come to agree with it. So only the images whose points agree best with one
    orientation are trusted at first, and more as the map grows from them.

    Attributes:
        R_world_camera_i33: The latest estimates, or the labels.
        trusted: Indices of the images to learn from.
    """

    def __init__(self, localizer: Localizer, cells: PositionedCells, min_score: float,
                 generator: torch.Generator, device: torch.device) -> None:
        self._localizer, self._cells = localizer, cells
        self._min_score, self._generator, self._device = min_score, generator, device
        self.trusted = torch.arange(len(cells))
        labels = cells.R_world_camera_i33
        self.labelled = labels is not None
        self.R_world_camera_i33 = torch.eye(3).expand(len(cells), 3, 3).clone() \
            if labels is None else labels

    def update(self, share: float) -> None:
        """Estimate all orientations anew and trust the best `share` of the images."""
        if self.labelled:
            return
        scores = []
        for images_b in torch.arange(len(self._cells)).split(ESTIMATION_BATCH):
            R_b33, score_b = self._estimate(images_b)
            self.R_world_camera_i33[images_b] = R_b33.cpu()
            scores.append(score_b.cpu())
        score_i = torch.cat(scores)
        needed = max(self._min_score, float(score_i.quantile(1.0 - share)))
        trusted = (score_i >= needed).nonzero()[:, 0]
        self.trusted = trusted if len(trusted) else score_i.argmax().unsqueeze(0)

    @torch.no_grad()
    def _estimate(self, images_b: Tensor) -> tuple[Tensor, Tensor]:
        batch = self._cells.draw(images_b, ESTIMATION_CELLS, self._generator, self._device)
        points_world, _, log_error = self._localizer.head(batch.features_bnc)
        uniforms_h2 = torch.rand(HYPOTHESES, 2, generator=self._generator).to(self._device)
        scale = self._localizer.pixel_scale
        return orientation_at_position(
            points_world, batch.pixels_bn2, batch.K_b33, batch.t_local_camera_b3,
            error_weights(log_error), uniforms_h2, 10.0 * scale, 3.0 * scale)
