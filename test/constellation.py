# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Points that look like nothing else, seen by eight cameras: keypoints whose depths are exact."""

import math

import torch
from torch import Tensor

from implicit_relocalizer.training.landmarks.observations import Observations
from implicit_relocalizer.training.landmarks.overlap import overlapping_views

POINTS, KEY_SIZE = 60, 32
SIZE = (360, 240)
K = torch.tensor([[300.0, 0.0, 179.5], [0.0, 300.0, 119.5], [0.0, 0.0, 1.0]])
PLACES = 8


class Constellation:
    """Points 2 to 5 m ahead that every one of eight cameras, 0.2 m apart, sees.

    Attributes:
        observations: Each camera sees the points in an order of its own; their features are the
            keys of the points.
        point_in: Which point each keypoint is.
        depth_in: How far ahead it is, metres.
    """

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        points = torch.rand(POINTS, 3, generator=generator) * torch.tensor([1.0, 0.6, 3.0])
        points = (points + torch.tensor([-0.5, -0.3, 2.0])) * scale
        self.keys_md = unit(torch.randn(POINTS, KEY_SIZE, generator=generator))
        t = torch.stack([torch.tensor([0.2 * (i % 4) - 0.3, 0.2 * (i // 4) - 0.1, 0.05 * i])
                         for i in range(PLACES)]) * scale
        R = torch.stack([turn(0.03 * (i - 3.5), 0.02 * (i % 3)) for i in range(PLACES)])
        self.point_in = torch.stack([torch.randperm(POINTS, generator=generator)
                                     for _ in range(PLACES)])
        seen = (points[self.point_in] - t[:, None]) @ R
        self.depth_in = seen[..., 2]
        pixels = (seen @ K.T)[..., :2] / self.depth_in[..., None]
        self.observations = Observations(self.keys_md[self.point_in].half(), pixels,
                                         K.expand(PLACES, 3, 3), R, t, SIZE)

    @property
    def queries_ind(self) -> Tensor:
        return self.keys_md[self.point_in]

    def partners(self, count: int = 5) -> Tensor:
        o = self.observations
        return overlapping_views(o.R_world_camera_i33, o.t_local_camera_i3, 3.0, count)


def unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def turn(yaw_rad: float, pitch_rad: float) -> Tensor:
    """R_world_camera: camera axes are the world's, turned about y, then about x."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    R_y = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    c, s = math.cos(pitch_rad), math.sin(pitch_rad)
    return R_y @ torch.tensor([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
