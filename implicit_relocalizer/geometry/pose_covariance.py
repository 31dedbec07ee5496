# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How uncertain a refined pose is, by the residuals that it leaves."""

from typing import Tuple

import torch
from torch import Tensor


def pose_covariance(R_world_camera_33: Tensor, t_world_camera_3: Tensor, points_world_n3: Tensor,
                    pixels_n2: Tensor, K_33: Tensor, weights_n: Tensor, delta_px: float,
                    min_depth_m: float = 0.1) -> Tensor:
    """Covariance of a pose that `refine_pose` ended with, from the actual residuals.

    The sandwich H^-1 B H^-1 of an M-estimator (Huber, The behavior of maximum likelihood
    estimates under nonstandard conditions, 1967; White, Econometrica 1980) with
    H = sum_i c_i w_i J_i^T J_i and B = sum_i w_i^2 J_i^T r_i r_i^T J_i over points i with
    residuals r_i: it needs no equal or known noise, and says more where the points that decide a
    direction are those that disagree. w_i are the weights times Geman-McClure's; c_i =
    (delta^2 - e_i^2) / (delta^2 + e_i^2), at least 0, is how much of a point's pull changes with
    the pose, the mean of all directions. It is multiplied by n / (n - 3), n the effective number
    of points, of which three determine a pose.

    Args:
        R_world_camera_33, t_world_camera_3: The pose, t in metres.
        points_world_n3: Points in metres, the same frame.
        pixels_n2: Where the image shows them.
        K_33: Intrinsics.
        weights_n: Non-negative.
        delta_px: Of the last refinement: where a point's pull has dropped to a quarter.
        min_depth_m: Nearer points have no say.

    Returns:
        (6, 6) float64, symmetric, positive definite: x y z (m^2) and the rotation about
        world-fixed axes through the camera's centre (rad^2), in the order of ROS REP 103.
    """
    jacobian_n26, residuals_n2, is_seen_n = _linearise(
        R_world_camera_33.double(), t_world_camera_3.double(), points_world_n3.double(),
        pixels_n2.double(), K_33.double(), min_depth_m)
    squared_n = residuals_n2.square().sum(1)
    robust_n = delta_px * delta_px / (delta_px * delta_px + squared_n)
    usable_n = is_seen_n & (weights_n > 0.0) & (weights_n < 1e15)
    weights_n = torch.where(usable_n, weights_n.double(), torch.zeros_like(squared_n))
    weights_n = weights_n / weights_n.sum().clamp(min=1e-30) * (robust_n * robust_n)
    total = weights_n.sum().clamp(min=1e-30)
    variance_px2 = (0.5 * (weights_n * squared_n).sum() / total).clamp(min=1e-4)  # of u or v
    # In units of the noise, so that the prior weighs the same whatever the weights.
    count = total * total / weights_n.square().sum().clamp(min=1e-60)
    weights_n = weights_n * (count / total / variance_px2)
    curvature_n = (2.0 * robust_n - 1.0).clamp(min=0.0)
    weighted_n26 = jacobian_n26 * weights_n[:, None, None]
    information_66 = torch.einsum('nki,nkj->ij', weighted_n26 * curvature_n[:, None, None],
                                  jacobian_n26)
    scores_n6 = (weighted_n26 * residuals_n2.unsqueeze(2)).sum(1)
    # What the image says nothing about is known to 100 m and 3 rad; nothing is known better than
    # to half a millimetre and a hundredth of a degree.
    prior_6 = torch.tensor([1e-4, 1e-4, 1e-4, 0.1, 0.1, 0.1], dtype=torch.float64,
                           device=information_66.device)
    floor_6 = torch.tensor([2.5e-7, 2.5e-7, 2.5e-7, 3e-8, 3e-8, 3e-8], dtype=torch.float64,
                           device=information_66.device)
    inverse_66 = torch.linalg.inv_ex(information_66 + torch.diag(prior_6))[0]
    sandwich_66 = inverse_66 @ (scores_n6.t() @ scores_n6) @ inverse_66
    correction = (count / (count - 3.0).clamp(min=0.1)).clamp(max=10.0)
    # A twentieth of the covariance of equal residuals: directions that no point tells about have
    # no residuals either, and would seem to be known.
    covariance_66 = correction * sandwich_66 + 0.05 * inverse_66
    return 0.5 * (covariance_66 + covariance_66.t()) + torch.diag(floor_6)


def _linearise(R_world_camera_33: Tensor, t_world_camera_3: Tensor, points_world_n3: Tensor,
               pixels_n2: Tensor, K_33: Tensor,
               min_depth_m: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Derivatives (n, 2, 6) of projections by the pose, residuals (n, 2), and who is in front.

    With p = K P / z, P = R^T (X - t): a camera that moves by rho (world axes) moves P by
    -R^T rho, and one that turns by phi about world axes through its centre by R^T ((X - t) x phi).
    """
    from_camera_n3 = points_world_n3 - t_world_camera_3
    is_finite_n = from_camera_n3.isfinite().all(dim=1) & (from_camera_n3.abs().amax(1) < 1e6)
    from_camera_n3 = torch.where(is_finite_n.unsqueeze(1), from_camera_n3,
                                 torch.zeros_like(from_camera_n3))
    points_camera_n3 = from_camera_n3 @ R_world_camera_33
    is_seen_n = is_finite_n & (points_camera_n3[:, 2] > min_depth_m)
    depth_n1 = points_camera_n3[:, 2:].clamp(min=min_depth_m)
    plane_n2 = points_camera_n3[:, :2] / depth_n1
    focal_22 = K_33[:2, :2]
    residuals_n2 = plane_n2 @ focal_22.t() + K_33[:2, 2] - pixels_n2
    # d(x/z, y/z) = [1/z, 0, -x/z^2; 0, 1/z, -y/z^2] dP
    eye_22 = torch.eye(2, dtype=K_33.dtype, device=K_33.device).unsqueeze(0)
    by_point_n23 = torch.cat([eye_22.expand(plane_n2.shape[0], -1, -1),
                              -plane_n2.unsqueeze(2)], dim=2) / depth_n1.unsqueeze(2)
    by_world_n23 = focal_22 @ by_point_n23 @ R_world_camera_33.t()
    by_turn_n23 = torch.linalg.cross(from_camera_n3.unsqueeze(1).expand(-1, 2, -1), by_world_n23,
                                     dim=2)
    return torch.cat([-by_world_n23, -by_turn_n23], dim=2), residuals_n2, is_seen_n
