# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Against forgetting: what a head said of other sights, it shall go on saying.

The images that a model was first trained on are not at hand when it is fine-tuned. Those that are,
mirrored, look like the place in every statistic and show nothing that is there: answers to them
that stay (distillation, as in Li and Hoiem, Learning without Forgetting, ECCV 2016) keep the
change to the sights that it is about.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from implicit_relocalizer.data.augmentation import real_views
from implicit_relocalizer.data.images import PosedImages, as_float_images
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.heads import PointHead

ENCODING_BATCH = 8
DEPTH_SHARE, ERROR_SHARE = 0.2, 0.05


class KeptAnswers:
    """The answers of a head, as it was, to cells of mirrored images.

    Args:
        head: Is copied.
        features_mc: Cells to ask about.
        generator: Draws them.
        device: Where the head is.
    """

    def __init__(self, head: PointHead, features_mc: Tensor, generator: torch.Generator,
                 device: torch.device) -> None:
        self._teacher = copy.deepcopy(head).eval().requires_grad_(False)
        self._features_mc, self._generator, self._device = features_mc, generator, device

    def change(self, head: PointHead, cells: int) -> Tensor:
        """How much the answers to random cells have changed.

        Distance of world points in units of the nominal depth, and shares of the changes of log
        depth and log error.
        """
        chosen = torch.randint(len(self._features_mc), (cells,), generator=self._generator)
        features = self._features_mc[chosen].to(self._device).float()
        points, log_depth, log_error = head(features)
        with torch.no_grad():
            points_then, log_depth_then, log_error_then = self._teacher(features)
        moved = torch.sqrt((points - points_then).pow(2).sum(dim=-1) + 1e-12)
        return (moved.mean() / head.nominal_depth_m
                + DEPTH_SHARE * (log_depth - log_depth_then).abs().mean()
                + ERROR_SHARE * (log_error - log_error_then).abs().mean())


@torch.no_grad()
def encode_mirrored(images: PosedImages, encoder: Encoder, view_size: tuple[int, int],
                    cells_per_image: int, generator: torch.Generator,
                    device: torch.device) -> Tensor:
    """Features (M, C), float16, of random cells of the images, left and right exchanged."""
    parts = []
    for first in range(0, len(images), ENCODING_BATCH):
        chosen = slice(first, first + ENCODING_BATCH)
        views = real_views(
            as_float_images(images.images_bhw3[chosen].flip(2).to(device)), images.K_b33[chosen],
            images.R_world_camera_b33[chosen], images.t_local_camera_b3[chosen], view_size)
        features_bnc = encoder(views.images_b3hw).flatten(2).transpose(1, 2)
        count, cells = features_bnc.shape[:2]
        order = torch.rand(count, cells, generator=generator).argsort(dim=1)[:, :cells_per_image]
        parts.append(torch.cat([features[index.to(device)] for features, index in zip(
            features_bnc, order, strict=True)]).half().cpu())
    return torch.cat(parts)
