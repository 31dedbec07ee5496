# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The orientation of a camera whose position is known, from world points and their pixels."""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.geometry.hypotheses import (
    reprojection_errors,
    sample_indices,
    score_hypotheses,
    select_hypothesis,
)
from implicit_relocalizer.geometry.kabsch import weighted_kabsch


def orientation_at_position(points_world_bn3: Tensor, pixels_bn2: Tensor, K_b33: Tensor,
                            t_world_camera_b3: Tensor, weights_bn: Tensor, uniforms_h2: Tensor,
                            threshold_px: float = 10.0, delta_px: float = 3.0,
                            iterations: int = 5) -> Tuple[Tensor, Tensor]:
    """Orientations that best see world points at their pixels from known positions.

    With the position known three numbers are left, and two points determine them: hypotheses
    from pairs of directions, the best by soft inliers, then Wahba's problem reweighted by
    Geman-McClure's function of the reprojection error. Depths are not used.

    Args:
        points_world_bn3: Points in metres, world frame.
        pixels_bn2: Where the image shows them.
        K_b33: Intrinsics.
        t_world_camera_b3: Camera positions in metres, world frame.
        weights_bn: Non-negative weights.
        uniforms_h2: Random numbers in [0, 1), two for each hypothesis.
        threshold_px: Reprojection error at which a point counts as half an inlier.
        delta_px: Reprojection error at which a point's pull has dropped to a quarter.
        iterations: Of the reweighting.

    Returns:
        (R_world_camera_b33, score_b), the score in [0, 1]: the weighted share of soft inliers.
    """
    directions_camera = torch.nn.functional.normalize(unproject(pixels_bn2, K_b33), dim=-1)
    directions_world = torch.nn.functional.normalize(
        points_world_bn3 - t_world_camera_b3.unsqueeze(-2), dim=-1)
    indices_bh2 = sample_indices(weights_bn, uniforms_h2)
    B, H = indices_bh2.shape[0], indices_bh2.shape[1]
    index_bm3 = indices_bh2.reshape(B, -1, 1).expand(-1, -1, 3)
    R_bh33, degenerate_bh = rotation_between_directions(
        directions_camera.gather(1, index_bm3).reshape(B, H, -1, 3),
        directions_world.gather(1, index_bm3).reshape(B, H, -1, 3),
        torch.ones_like(indices_bh2, dtype=weights_bn.dtype))
    t_b13 = t_world_camera_b3.unsqueeze(1)
    errors_bhn = reprojection_errors(R_bh33, t_b13.expand(-1, H, -1), points_world_bn3,
                                     pixels_bn2, K_b33)
    scores_bh = score_hypotheses(errors_bhn, weights_bn, threshold_px)
    R_b33, _, score_b = select_hypothesis(R_bh33, t_b13.expand(-1, H, -1), degenerate_bh,
                                          scores_bh)
    for step in range(iterations):
        errors_bn = reprojection_errors(R_b33.unsqueeze(1), t_b13, points_world_bn3, pixels_bn2,
                                        K_b33)[:, 0]
        limit_px = max(delta_px, threshold_px * 0.5 ** step)
        robust_bn = weights_bn * (limit_px ** 2 / (limit_px ** 2 + errors_bn ** 2)) ** 2
        trial_b33, degenerate_b = rotation_between_directions(
            directions_camera, directions_world, robust_bn)
        trial_score_b = score_hypotheses(
            reprojection_errors(trial_b33.unsqueeze(1), t_b13, points_world_bn3, pixels_bn2,
                                K_b33), weights_bn, threshold_px)[:, 0]
        better_b = (trial_score_b >= score_b - 0.02) & ~degenerate_b
        R_b33 = torch.where(better_b[:, None, None], trial_b33, R_b33)
        score_b = torch.where(better_b, trial_score_b, score_b)
    return R_b33, score_b


def rotation_between_directions(source_bn3: Tensor, target_bn3: Tensor,
                                weights_bn: Tensor) -> Tuple[Tensor, Tensor]:
    """argmin over rotations of sum_i w_i || R source_i - target_i ||^2 (Wahba's problem).

    It is Kabsch's alignment of the directions and their opposites, whose centre is the origin.

    Returns:
        (R_b33, degenerate_b): the rotation, and whether the directions do not determine it.
    """
    R_b33, _, degenerate_b = weighted_kabsch(
        torch.cat([source_bn3, -source_bn3], dim=-2), torch.cat([target_bn3, -target_bn3], dim=-2),
        torch.cat([weights_bn, weights_bn], dim=-1))
    return R_b33, degenerate_b
