# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Against forgetting: what a head said of other sights, it shall go on saying.

Distillation as in Li and Hoiem, Learning without Forgetting, ECCV 2016. Best are images that the
model knows already, which need no labels for it. Where those are not at hand, the images to learn
from, mirrored, look like the place in every statistic and show nothing that is there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from implicit_relocalizer.data.images import as_float_images
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.heads import PointHead

ENCODING_BATCH = 8
DEPTH_SHARE, ERROR_SHARE = 0.2, 0.05


class KeptAnswers:
    """The answers of a head, as it was, to cells of other images.

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
def encode_cells(images_bhw3: Tensor, encoder: Encoder, view_size: tuple[int, int],
                 cells_per_image: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Features (M, C), float16, of random cells of uint8 images."""
    parts = []
    width, height = view_size
    for images in images_bhw3.split(ENCODING_BATCH):
        resized = torch.nn.functional.interpolate(
            as_float_images(images.to(device)), size=(height, width), mode='bilinear',
            align_corners=False, antialias=True)
        features_bnc, _ = encoder.sample(resized)
        count, cells = features_bnc.shape[:2]
        order = torch.rand(count, cells, generator=generator).argsort(dim=1)[:, :cells_per_image]
        parts.append(torch.cat([features[index.to(device)] for features, index in zip(
            features_bnc, order, strict=True)]).half().cpu())
    return torch.cat(parts)
