# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pose hypotheses from three points each, solved and scored as one batch.

The random numbers come in as an argument, so that the same image gives the same pose.
"""

import math
from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.linearisation import homogeneous_points
from implicit_relocalizer.geometry.precision import bmm
from implicit_relocalizer.geometry.triangle_alignment import align_triangle_pairs


def point_shares(weights_bn: Tensor) -> Tensor:
    """Weights as shares of their sum, float64: the same on every device.

    Negative and non-finite weights count as zero; if all are, every point counts the same.
    """
    usable_bn = weights_bn.detach().double().nan_to_num(0.0, 0.0, 0.0).clamp(min=0.0)
    usable_bn = usable_bn + (usable_bn.sum(-1, keepdim=True) <= 0)
    return usable_bn / usable_bn.sum(-1, keepdim=True)


def sample_indices(weights_bn: Tensor, uniforms_hk: Tensor) -> Tensor:
    """Indices of points drawn in proportion to their weights, by the inverse of the CDF.

    A point of weight zero is never drawn unless all are zero; see `point_shares`.

    Args:
        weights_bn: Weights of any scale.
        uniforms_hk: Numbers in [0, 1), shared by the batch.

    Returns:
        indices_bhk, int64.
    """
    return draw_indices(point_shares(weights_bn), uniforms_hk)


def draw_indices(shares_bn: Tensor, uniforms_hk: Tensor) -> Tensor:
    """`sample_indices` by shares that `point_shares` gave."""
    cumulative_bn = shares_bn.cumsum(-1)
    # So little below 1 that no product is rounded up to the total, beyond the last point.
    uniforms_1m = uniforms_hk.t().double().clamp(max=1.0 - 1e-15).reshape(1, -1)
    levels_bm = cumulative_bn.narrow(1, cumulative_bn.shape[1] - 1, 1) * uniforms_1m
    indices_bm = torch.searchsorted(cumulative_bn, levels_bm, right=True)
    # In memory the other way round, as `three_point_hypotheses` needs them.
    return indices_bm.view(-1, uniforms_hk.shape[1], uniforms_hk.shape[0]).transpose(1, 2)


def three_point_hypotheses(points_camera_bn3: Tensor, points_world_bn3: Tensor,
                           indices_bh3: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """One pose T_world_camera for each three points, by unweighted Kabsch.

    Args:
        points_camera_bn3: Points in metres, camera frame.
        points_world_bn3: The same points in metres, world frame.
        indices_bh3: Which three points make each of the H hypotheses.

    Returns:
        (R_world_camera_bh33, t_world_camera_bh3, degenerate_bh).
    """
    B, H = indices_bh3.shape[0], indices_bh3.shape[1]
    clouds_b6n = torch.cat([points_camera_bn3.transpose(1, 2), points_world_bn3.transpose(1, 2)],
                           dim=1)
    index_b1m = indices_bh3.transpose(1, 2).flatten(1).unsqueeze(1)  # all first points, then ...
    triangles_b6m = clouds_b6n.gather(2, index_b1m.expand(-1, 6, -1))
    R_33m, t_3m, degenerate_m = align_triangle_pairs(
        triangles_b6m.view(B, 6, 3, H).permute(1, 2, 0, 3).flatten(2))
    return (R_33m.view(3, 3, B, H).permute(2, 3, 0, 1), t_3m.view(3, B, H).permute(1, 2, 0),
            degenerate_m.view(B, H))


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
    # Near their own centre float32 keeps coordinates of a large map accurate.
    centre_b13 = points_world_bn3.detach().nan_to_num(0.0, 0.0, 0.0).clamp(-1e6, 1e6).mean(
        1, keepdim=True)
    squared_bhn = squared_projection_errors(
        R_world_camera_bh33, t_world_camera_bh3 - centre_b13,
        homogeneous_points(points_world_bn3 - centre_b13), pixels_bn2.transpose(1, 2), K_b33,
        min_depth_m, behind_px)
    # The 1e-12 keeps the gradient of the root finite at zero error.
    return squared_bhn.clamp_(1e-12, behind_px * behind_px).sqrt_()


def squared_projection_errors(R_world_camera_bh33: Tensor, t_world_camera_bh3: Tensor,
                              points_b4n: Tensor, pixels_b2n: Tensor, K_b33: Tensor,
                              min_depth_m: float = 0.1, behind_px: float = 1e6) -> Tensor:
    """Squares of `reprojection_errors` of `linearisation.homogeneous_points` near the origin; of
    points behind the camera behind_px^2 or more, also infinity."""
    B, H = R_world_camera_bh33.shape[0], R_world_camera_bh33.shape[1]
    # K R^T for all poses is one product; beside it what the position adds.
    R_transposed_b3m = R_world_camera_bh33.permute(0, 3, 2, 1).flatten(2)
    P_b33h = bmm(K_b33, R_transposed_b3m).view(B, 3, 3, H)
    offset_b31h = (P_b33h * t_world_camera_bh3.transpose(1, 2).unsqueeze(1)).sum(2, keepdim=True)
    P_m4h = torch.cat([P_b33h, offset_b31h.neg()], dim=2).flatten(0, 1)
    points_m4n = points_b4n.unsqueeze(1).expand(-1, 3, -1, -1).flatten(0, 1)
    uvz_b3hn = bmm(P_m4h.transpose(1, 2), points_m4n).unflatten(0, [B, 3])
    # H x N numbers are many, and each pass over them counts: nearly all are in place, on what this
    # function made and no derivative needs. Points behind the camera get a depth of next to
    # nothing, and the inverse of that is their error.
    per_depth_bhn = torch.threshold(uvz_b3hn[:, 2], min_depth_m, 1e-12).reciprocal_()
    uv_b2hn, per_depth_b1hn = uvz_b3hn[:, :2], per_depth_bhn.unsqueeze(1)
    uv_b2hn = uv_b2hn * per_depth_b1hn if uvz_b3hn.requires_grad else uv_b2hn.mul_(per_depth_b1hn)
    offset_b2hn = uv_b2hn.sub_(pixels_b2n.contiguous().unsqueeze(2))
    du_bhn, dv_bhn = offset_b2hn[:, 0], offset_b2hn[:, 1]
    return (du_bhn * du_bhn).addcmul_(dv_bhn, dv_bhn).addcmul_(
        per_depth_bhn, per_depth_bhn, value=2e-24 * behind_px * behind_px)


def score_hypotheses(errors_bhn: Tensor, weights_bn: Tensor, threshold_px: float) -> Tensor:
    """Weighted share of soft inliers: sum w / (1 + (error / threshold)^4) / sum w.

    Args:
        errors_bhn: Reprojection errors in pixels.
        weights_bn: Non-negative weights; if all are zero, every point counts the same.
        threshold_px: The error at which a point counts half.

    Returns:
        scores_bh in [0, 1].
    """
    return share_of_inliers(errors_bhn * errors_bhn, point_shares(weights_bn), threshold_px)


def share_of_inliers(squared_bhn: Tensor, shares_bn: Tensor, threshold_px: float) -> Tensor:
    """`score_hypotheses` of squared errors, in place, by shares that `point_shares` gave."""
    # No root and no exponential: they took as long as the projection.
    limit_px4 = threshold_px ** 4
    per_px4_bhn = squared_bhn.mul_(squared_bhn).add_(limit_px4).reciprocal_()
    shares_bn1 = (limit_px4 * shares_bn).to(per_px4_bhn.dtype).unsqueeze(-1)
    return bmm(per_px4_bhn, shares_bn1).squeeze(-1)


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
    apart_h3, turned_h33, limit_m = t_h3 - t_3, R_h33 - R_33, 0.2 * depth_m
    # |R - R'|_F = 2 sqrt(2) sin(angle / 2)
    most_squared = 8.0 * math.sin(0.1) ** 2
    is_near_h = (((apart_h3 * apart_h3).sum(1) < limit_m * limit_m)
                 & ((turned_h33 * turned_h33).sum([1, 2]) < most_squared))
    near = torch.dot(scores_h, is_near_h.to(scores_h.dtype))
    return near / scores_h.sum().clamp(min=1e-9)


def best_hypothesis(points_camera_bn3: Tensor, points_world_bn3: Tensor, pixels_bn2: Tensor,
                    K_b33: Tensor, weights_bn: Tensor, uniforms_h3: Tensor,
                    threshold_px: float = 10.0,
                    min_depth_m: float = 0.1) -> Tuple[Tensor, Tensor, Tensor]:
    """The best of H three-point hypotheses drawn by weight.

    Args:
        points_camera_bn3: Points in metres, camera frame.
        points_world_bn3: The same points in metres, world frame.
        pixels_bn2: Where the image shows them.
        K_b33: Intrinsics.
        weights_bn: Non-negative weights.
        uniforms_h3: Random numbers in [0, 1), three for each hypothesis.
        threshold_px: Reprojection error at which a point counts as half an inlier.
        min_depth_m: Nearer points are outliers.

    Returns:
        (R_world_camera_b33, t_world_camera_b3, score_b), the score in [0, 1].
    """
    indices_bh3 = sample_indices(weights_bn, uniforms_h3)
    R_bh33, t_bh3, degenerate_bh = three_point_hypotheses(
        points_camera_bn3, points_world_bn3, indices_bh3)
    errors_bhn = reprojection_errors(
        R_bh33, t_bh3, points_world_bn3, pixels_bn2, K_b33, min_depth_m)
    scores_bh = score_hypotheses(errors_bhn, weights_bn, threshold_px)
    return select_hypothesis(R_bh33, t_bh3, degenerate_bh, scores_bh)
