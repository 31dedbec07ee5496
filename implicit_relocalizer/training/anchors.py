# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Anchors of the point head: where a map's points may roughly be, from poses alone."""

from __future__ import annotations

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from implicit_relocalizer.data.images import PosedImages

RAYS_PER_SIDE = 3
MAX_POINTS = 20_000


def spread_anchors(images: PosedImages, count: int, nominal_depth_m: float, seed: int) -> Tensor:
    """k-means centres of points at the nominal depth on rays of all cameras: (count, 3).

    Points are metres in the images' local frame.
    """
    height, width = images.images_bhw3.shape[1:3]
    share = (torch.arange(RAYS_PER_SIDE) + 0.5) / RAYS_PER_SIDE
    v, u = torch.meshgrid(share * height, share * width, indexing='ij')
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
    rays = pixels @ torch.linalg.inv(images.K_b33).transpose(1, 2)
    points = (nominal_depth_m * rays) @ images.R_world_camera_b33.transpose(1, 2)
    points = (points + images.t_local_camera_b3.unsqueeze(1)).reshape(-1, 3)
    points = points[::max(1, len(points) // MAX_POINTS)]
    if len(points) <= count:
        return points[torch.arange(count) % len(points)]
    centres, _ = kmeans2(points.double().numpy(), count, iter=20, minit='++', seed=seed)
    return torch.from_numpy(centres).float()
