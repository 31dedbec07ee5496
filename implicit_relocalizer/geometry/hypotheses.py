# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pose hypotheses from four points each, solved and scored as one batch.

The random numbers come in as an argument, so that the same image gives the same pose.
"""

import math
from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul
from implicit_relocalizer.geometry.quaternion_alignment import quaternion_alignment


def sample_indices(weights_bn: Tensor, uniforms_h4: Tensor) -> Tensor:
    """Indices of points drawn in proportion to their weights, by the inverse of the CDF.

    A point of weight zero is never drawn unless all are zero, when every point is as likely as
    another. Negative and non-finite weights count as zero.

    Args:
        weights_bn: Weights of any scale.
        uniforms_h4: Numbers in [0, 1), shared by the batch.

    Returns:
        indices_bh4, int64.
    """
    # In float64 the cumulative sum, and with it the draw, is the same on every device.
    weights_bn = _usable(weights_bn.detach().double())
    empty_b1 = weights_bn.sum(-1, keepdim=True) <= 0
    cumulative_bn = torch.where(empty_b1, torch.ones_like(weights_bn), weights_bn).cumsum(-1)
    total_b1 = cumulative_bn[:, -1:].contiguous()
    levels_bm = total_b1 * uniforms_h4.double().reshape(1, -1)
    indices_bm = torch.searchsorted(cumulative_bn, levels_bm, right=True)
    last_b1 = torch.searchsorted(cumulative_bn, total_b1)
    return torch.minimum(indices_bm, last_b1).unflatten(-1, list(uniforms_h4.shape))


def four_point_hypotheses(points_camera_bn3: Tensor, points_world_bn3: Tensor,
                          indices_bh4: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """One pose T_world_camera for each four points, by unweighted Kabsch.

    Args:
        points_camera_bn3: Points in metres, camera frame.
        points_world_bn3: The same points in metres, world frame.
        indices_bh4: Which four points make each of the H hypotheses.

    Returns:
        (R_world_camera_bh33, t_world_camera_bh3, degenerate_bh).
    """
    B, H = indices_bh4.shape[0], indices_bh4.shape[1]
    index_bm3 = indices_bh4.reshape(B, -1, 1).expand(-1, -1, 3)
    source_bh43 = points_camera_bn3.gather(1, index_bm3).reshape(B, H, -1, 3)
    target_bh43 = points_world_bn3.gather(1, index_bm3).reshape(B, H, -1, 3)
    return quaternion_alignment(source_bh43, target_bh43)


def reprojection_errors(R_world_camera_bh33: Tensor, t_world_camera_bh3: Tensor,
                        points_world_bn3: Tensor, pixels_bn2: Tensor, K_b33: Tensor,
                        min_depth_m: float = 0.1, behind_px: float = 1e6) -> Tensor:
    """Distances in pixels between where each pose sees the world points and where they were seen.

    Args:
        R_world_camera_bh33: Orientations of H candidate poses.
        t_world_camera_bh3: Their positions in metres, world frame.
        points_world_bn3: Points in metres, world frame.
        pixels_bn2: Where the image shows them.
        K_b33: Intrinsics.
        min_depth_m: Points nearer than this, behind the camera, or not finite get behind_px.
        behind_px: A large finite number, and the largest error.

    Returns:
        errors_bhn in pixels.
    """
    B, H = R_world_camera_bh33.shape[0], R_world_camera_bh33.shape[1]
    # Near their own centre float32 keeps coordinates of a large map accurate.
    centre_b13 = points_world_bn3.detach().nan_to_num(0.0, 0.0, 0.0).mean(1, keepdim=True)
    unusable_bn1 = ~points_world_bn3.isfinite().all(-1, keepdim=True)
    points_bn3 = (points_world_bn3 - centre_b13).masked_fill(unusable_bn1, 0.0)
    pixels_b2n = pixels_bn2.masked_fill(unusable_bn1, 1e3 * behind_px).transpose(1, 2)
    P_bh33 = matmul(K_b33.unsqueeze(1), R_world_camera_bh33.transpose(-1, -2))
    offset_bh31 = matmul(P_bh33, (centre_b13 - t_world_camera_bh3).unsqueeze(-1))
    P_bm4 = torch.cat([P_bh33, offset_bh31], dim=-1).reshape(B, H * 3, 4)
    points_bn4 = torch.nn.functional.pad(points_bn3, [0, 1], value=1.0)
    uvz_bmn = matmul(P_bm4, points_bn4.transpose(1, 2))
    u_bhn, v_bhn, z_bhn = uvz_bmn.reshape(B, H, 3, -1).unbind(2)
    # H x N numbers are many. In-place steps, on what this function made and no derivative needs,
    # halve the time; so does adding a penalty rather than filling by a mask.
    per_depth_bhn = z_bhn.clamp(min=min_depth_m).reciprocal_()
    du_bhn = (u_bhn * per_depth_bhn).sub_(pixels_b2n[:, :1])
    dv_bhn = (v_bhn * per_depth_bhn).sub_(pixels_b2n[:, 1:])
    squared_bhn = (du_bhn * du_bhn).addcmul_(dv_bhn, dv_bhn)
    minus_behind_bhn = torch.threshold(z_bhn, min_depth_m, -1.0).clamp_(max=0.0)
    squared_bhn = squared_bhn.add_(minus_behind_bhn, alpha=-(behind_px * behind_px))
    # The 1e-12 keeps the gradient of the root finite at zero error.
    return squared_bhn.clamp_(max=behind_px * behind_px).add_(1e-12).sqrt_()


def score_hypotheses(errors_bhn: Tensor, weights_bn: Tensor, threshold_px: float) -> Tensor:
    """Weighted share of soft inliers: sum w sigmoid(5 (1 - error / threshold)) / sum w.

    Args:
        errors_bhn: Reprojection errors in pixels.
        weights_bn: Non-negative weights; if all are zero, every point counts the same.
        threshold_px: The error at which a point counts half.

    Returns:
        scores_bh in [0, 1).
    """
    weights_bn = _usable(weights_bn)
    total_b1 = weights_bn.sum(-1, keepdim=True)
    weights_bn = torch.where(total_b1 > 0, weights_bn, torch.ones_like(weights_bn))
    shares_bn1 = (weights_bn / weights_bn.sum(-1, keepdim=True)).unsqueeze(-1)
    inlier_bhn = (errors_bhn * (-5 / threshold_px)).add_(5.0).sigmoid_()
    return matmul(inlier_bhn, shares_bn1).squeeze(-1)


def _usable(weights_bn: Tensor) -> Tensor:
    """Zero for weights that are negative, infinite or no numbers."""
    return torch.where((weights_bn > 0) & (weights_bn < 1e30), weights_bn,
                       torch.zeros_like(weights_bn))


def select_hypothesis(R_bh33: Tensor, t_bh3: Tensor, degenerate_bh: Tensor,
                      scores_bh: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """(R_b33, t_b3, score_b) of the best score; degenerate ones only where all are."""
    best_b = (scores_bh - 2 * degenerate_bh.to(scores_bh.dtype)).argmax(1)
    batch_b = torch.arange(best_b.shape[0], device=best_b.device)
    return R_bh33[batch_b, best_b], t_bh3[batch_b, best_b], scores_bh[batch_b, best_b]


def share_in_agreement(R_h33: Tensor, t_h3: Tensor, scores_h: Tensor, R_33: Tensor, t_3: Tensor,
                       depth_m: Tensor) -> Tensor:
    """How much of all hypotheses' score belongs to those that tell of the same pose.

    The same is a camera within a fifth of the scene's depth and a fifth of a radian: images move
    alike by either. A place that looks like another splits the score; one that is unknown leaves
    little for any pose.

    Args:
        R_h33, t_h3: Hypotheses, t in metres.
        scores_h: Of `score_hypotheses`; negative ones count as none.
        R_33, t_3: The pose, also as (1, 3, 3) and (1, 3).
        depth_m: How far the points are, typically.

    Returns:
        From 0 to 1, a scalar; 0 where no hypothesis has any score.
    """
    scores_h = scores_h.clamp(min=0.0)
    apart_h = torch.linalg.vector_norm(t_h3 - t_3, dim=1)
    # |R - R'|_F = 2 sqrt(2) sin(angle / 2)
    turned_h = torch.linalg.vector_norm((R_h33 - R_33).flatten(1), dim=1)
    is_near_h = (apart_h < 0.2 * depth_m) & (turned_h < 2.0 * math.sqrt(2.0) * math.sin(0.1))
    near = (scores_h * is_near_h.to(scores_h.dtype)).sum()
    return near / scores_h.sum().clamp(min=1e-9)


def best_hypothesis(points_camera_bn3: Tensor, points_world_bn3: Tensor, pixels_bn2: Tensor,
                    K_b33: Tensor, weights_bn: Tensor, uniforms_h4: Tensor,
                    threshold_px: float = 10.0,
                    min_depth_m: float = 0.1) -> Tuple[Tensor, Tensor, Tensor]:
    """The best of H four-point hypotheses drawn by weight.

    Args:
        points_camera_bn3: Points in metres, camera frame.
        points_world_bn3: The same points in metres, world frame.
        pixels_bn2: Where the image shows them.
        K_b33: Intrinsics.
        weights_bn: Non-negative weights.
        uniforms_h4: Random numbers in [0, 1), four for each hypothesis.
        threshold_px: Reprojection error at which a point counts as half an inlier.
        min_depth_m: Nearer points are outliers.

    Returns:
        (R_world_camera_b33, t_world_camera_b3, score_b), the score in [0, 1).
    """
    indices_bh4 = sample_indices(weights_bn, uniforms_h4)
    R_bh33, t_bh3, degenerate_bh = four_point_hypotheses(
        points_camera_bn3, points_world_bn3, indices_bh4)
    errors_bhn = reprojection_errors(
        R_bh33, t_bh3, points_world_bn3, pixels_bn2, K_b33, min_depth_m)
    scores_bh = score_hypotheses(errors_bhn, weights_bn, threshold_px)
    return select_hypothesis(R_bh33, t_bh3, degenerate_bh, scores_bh)
