# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The losses: all need poses only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.camera import project, unproject
from implicit_relocalizer.geometry.rigid import geodesic_angle

MAX_ERROR_PX = 1000.0
MAX_LIKELIHOOD_ERROR_PX = 400.0


@dataclass(frozen=True)
class PointErrors:
    """How well predicted world points fit the posed camera that saw them (any leading shape).

    Attributes:
        reprojection_px: Distance between the projected world point and its pixel.
        ray_m: Distance of the world point to a stand-in on its pixel's ray, used where the
            projection means nothing (behind the camera or far outside the image).
        usable: Whether the projection means something.
        consistency: ||R c + t - g|| relative to the depth of g.
        depth_m: Depth of the world point in the camera that saw it.
    """

    reprojection_px: Tensor
    ray_m: Tensor
    usable: Tensor
    consistency: Tensor
    depth_m: Tensor


def point_errors(points_world_n3: Tensor, depth_n: Tensor, pixels_n2: Tensor, K_n33: Tensor,
                 R_world_camera_n33: Tensor, t_world_camera_n3: Tensor, nominal_depth_m: float,
                 min_depth_m: float = 0.1, max_error_px: float = MAX_ERROR_PX) -> PointErrors:
    """Errors of single points, each with its own camera.

    Args:
        points_world_n3: Predicted points in the world frame, metres.
        depth_n: Predicted depth in the camera frame, metres.
        pixels_n2: Where each point was seen.
        K_n33, R_world_camera_n33, t_world_camera_n3: The camera that saw it.
        nominal_depth_m: Depth of the stand-in on the ray.
        min_depth_m: Points nearer than this count as behind the camera.
        max_error_px: Larger reprojection errors count as unusable.
    """
    offset_n3 = points_world_n3 - t_world_camera_n3
    points_camera_n3 = (offset_n3.unsqueeze(-2) @ R_world_camera_n33).squeeze(-2)
    pixels, depth_true = project(points_camera_n3.unsqueeze(-2), K_n33, min_depth_m)
    reprojection_px = _length(pixels.squeeze(-2) - pixels_n2)
    z = depth_true.squeeze(-1)
    usable = (z.detach() > min_depth_m) & (reprojection_px.detach() < max_error_px)
    rays_n3 = unproject(pixels_n2.unsqueeze(-2), K_n33).squeeze(-2)
    stand_in_n3 = rays_n3 * nominal_depth_m
    predicted_n3 = rays_n3 * depth_n.unsqueeze(-1)
    distance = _length(predicted_n3 - points_camera_n3)
    consistency = distance / z.detach().clamp(min=0.1 * nominal_depth_m)
    return PointErrors(reprojection_px, _length(points_camera_n3 - stand_in_n3), usable,
                       consistency, z)


@dataclass(frozen=True)
class CloudLossWeights:
    """How much each loss of the two clouds counts."""

    reprojection: float
    consistency: float
    likelihood: float


class CloudLoss(NamedTuple):
    """The loss of every point, and what it is made of.

    Attributes:
        total: The weighted sum of the parts.
        errors: What the parts were computed from.
        parts: 'reprojection', 'consistency' and 'likelihood', each before it is weighted.
    """

    total: Tensor
    errors: PointErrors
    parts: dict[str, Tensor]


def cloud_loss(points_world_n3: Tensor, depth_n: Tensor, log_error_n: Tensor, pixels_n2: Tensor,
               K_n33: Tensor, R_world_camera_n33: Tensor, t_world_camera_n3: Tensor,
               nominal_depth_m: float, limit_px: float, weights: CloudLossWeights,
               ) -> CloudLoss:
    """Reprojection, consistency and likelihood losses of single points (any leading shape)."""
    errors = point_errors(points_world_n3, depth_n, pixels_n2, K_n33, R_world_camera_n33,
                          t_world_camera_n3, nominal_depth_m)
    pull = math.log1p(MAX_ERROR_PX / limit_px) + errors.ray_m / nominal_depth_m
    fit = torch.where(errors.usable, log_clamp(errors.reprojection_px, limit_px), pull)
    consistency = soft_clamp(errors.consistency, 1.0)
    likelihood = laplace_negative_log_likelihood(
        errors.reprojection_px.clamp(max=MAX_LIKELIHOOD_ERROR_PX), log_error_n)
    loss = (weights.reprojection * fit + weights.consistency * consistency
            + weights.likelihood * likelihood)
    return CloudLoss(loss, errors, {'reprojection': fit, 'consistency': consistency,
                                    'likelihood': likelihood})


def soft_clamp(error: Tensor, limit: float) -> Tensor:
    """limit tanh(error / limit): linear for small errors, at most `limit` for large ones."""
    return limit * torch.tanh(error / limit)


def log_clamp(error: Tensor, limit: float) -> Tensor:
    """log(1 + error / limit): linear for small errors; large ones count little but always pull.

    The hyperbolic tangent of ACE gives no gradient at many times its limit; where a robot looks
    outwards from the middle of its map, that is where training starts.
    """
    return torch.log1p(error / limit)


def laplace_negative_log_likelihood(error: Tensor, log_scale: Tensor) -> Tensor:
    """error / b + log b for b = exp(log_scale); the errors themselves get no gradient."""
    return error.detach() * torch.exp(-log_scale) + log_scale


def pose_loss(R_b33: Tensor, t_b3: Tensor, R_true_b33: Tensor, t_true_b3: Tensor,
              metres_per_radian: float) -> Tensor:
    """||t - t*|| + metres_per_radian * geodesic angle, metres, one number per image."""
    return _length(t_b3 - t_true_b3) + metres_per_radian * geodesic_angle(R_b33, R_true_b33)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean length over the last dimension with a finite gradient at zero."""
    return torch.sqrt((vectors * vectors).sum(dim=-1) + 1e-12)
