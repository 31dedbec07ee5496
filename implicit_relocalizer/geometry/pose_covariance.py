# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How uncertain a refined pose is, by the residuals that it leaves."""

import torch
from torch import Tensor

from implicit_relocalizer.geometry.linearisation import (
    homogeneous_points,
    linearise,
    motion_basis,
    observed_pixels,
    turn_to_camera,
    turn_to_world,
    weighted_gram,
)
from implicit_relocalizer.geometry.refinement import robust_factor


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
    R_133, K_133 = R_world_camera_33.double().unsqueeze(0), K_33.double().unsqueeze(0)
    points_14n = homogeneous_points((points_world_n3 - t_world_camera_3).unsqueeze(0).double())
    rows_172n, squared_111n = linearise(
        turn_to_camera(R_133, torch.zeros_like(R_133[:, 0])), points_14n, motion_basis(K_133),
        observed_pixels(pixels_n2.t().unsqueeze(0).double()), min_depth_m)
    weights_n = weights_n.masked_fill(~(weights_n < 1e15), 0.0).clamp(min=0.0)
    return covariance_of_rows(rows_172n, squared_111n.view(-1), weights_n, R_133, delta_px)


def covariance_of_rows(rows_172n: Tensor, squared_n: Tensor, weights_n: Tensor,
                       R_world_camera_133: Tensor, delta_px: float) -> Tensor:
    """`pose_covariance` from what `refinement.refine_and_linearise` ended with."""
    rows_172n, squared_n = rows_172n.double(), squared_n.double()
    R_133, weights_n = R_world_camera_133.double(), weights_n.double()
    robust_n = robust_factor(squared_n, delta_px)
    weights_n = weights_n * (robust_n * robust_n)  # 0 of what is not seen
    total = weights_n.sum().clamp(min=1e-30)
    variance_px2 = (0.5 * torch.dot(weights_n, squared_n) / total).clamp(min=1e-4)  # of u or v
    # In units of the noise, so that the prior weighs the same whatever the weights.
    count = total * total / torch.dot(weights_n, weights_n).clamp(min=1e-60)
    weights_n = weights_n * (count / total / variance_px2)
    curvature_n = (robust_n + robust_n - 1.0).clamp(min=0.0)
    gram_177 = weighted_gram(rows_172n, (weights_n * curvature_n).view(1, 1, 1, -1))
    information_66 = gram_177[0, :6, :6]
    scores_6n = (rows_172n[0, :6] * rows_172n[0, 6:]).sum(1) * weights_n
    # What the image says nothing about is known to 100 m and 3 rad; nothing is known better than
    # to half a millimetre and a hundredth of a degree.
    variances_26 = torch.tensor([[1e-4, 1e-4, 1e-4, 0.1, 0.1, 0.1],
                                 [2.5e-7, 2.5e-7, 2.5e-7, 3e-8, 3e-8, 3e-8]], dtype=torch.float64)
    prior_66 = torch.diag(variances_26[0]).to(weights_n)
    floor_66 = torch.diag(variances_26[1]).to(weights_n)
    inverse_66 = torch.linalg.inv_ex(information_66 + prior_66)[0]
    half_6n = torch.mm(inverse_66, scores_6n)
    correction = (count / (count - 3.0).clamp(min=0.1)).clamp(max=10.0)
    # A twentieth of the covariance of equal residuals: directions that no point tells about have
    # no residuals either, and would seem to be known.
    covariance_66 = torch.addcmul(0.05 * inverse_66, correction, torch.mm(half_6n, half_6n.t()))
    # Nobody needs more than a kilometre, beside which rounding would take the floor away.
    covariance_66 = covariance_66 * (1e6 / torch.trace(covariance_66)).clamp(max=1.0)
    # From the camera's axes, where a motion in its own axes is linear, to the world's.
    return turn_to_world(covariance_66.unsqueeze(0), R_133)[0] + floor_66
