# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Which views see the same things from usefully different places."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_BASELINE = 0.05
USUAL_BASELINE = 0.25
USUAL_TURN_RAD = math.radians(20.0)


def overlapping_views(R_world_camera_i33: Tensor, t_world_camera_i3: Tensor, depth_m: float,
                      count: int) -> Tensor:
    """For each view the `count` best partners to triangulate with: indices (I, count).

    Cheap are partners that look the same way, at the same region `depth_m` ahead, from a baseline
    of about a quarter of that depth; baselines under a twentieth of it say little about depth.
    """
    ahead_i3 = t_world_camera_i3 + R_world_camera_i33[:, :, 2] * depth_m
    trace = torch.einsum('aij,bij->ab', R_world_camera_i33, R_world_camera_i33)
    turn = torch.arccos(((trace - 1.0) / 2.0).clamp(-1.0, 1.0))
    baseline = _distances(t_world_camera_i3) / depth_m
    cost = (turn / USUAL_TURN_RAD + baseline / USUAL_BASELINE
            + _distances(ahead_i3) / depth_m
            + 3.0 * (LEAST_BASELINE - baseline).clamp(min=0.0) / LEAST_BASELINE)
    cost.fill_diagonal_(math.inf)
    return cost.topk(min(count, len(cost) - 1), dim=1, largest=False)[1]


def _distances(points_i3: Tensor) -> Tensor:
    # the faster way by products is off by decimetres some hundred metres from the origin
    return torch.cdist(points_i3, points_i3, compute_mode='donot_use_mm_for_euclid_dist')
