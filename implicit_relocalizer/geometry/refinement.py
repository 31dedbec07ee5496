# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Robust Gauss-Newton refinement of camera poses on the reprojection of world points."""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.linearisation import (
    homogeneous_points,
    linear_maps,
    linearise,
    turn_to_camera,
    turn_to_world,
    weighted_gram,
)
from implicit_relocalizer.geometry.precision import matmul


def refine_pose(R_world_camera_b33: Tensor, t_world_camera_b3: Tensor, points_world_bn3: Tensor,
                pixels_bn2: Tensor, K_b33: Tensor, weights_bn: Tensor, iterations: int = 12,
                delta_px: float = 3.0, start_delta_px: float = 12.0,
                min_depth_m: float = 0.1) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Poses that minimise sum_i w_i rho(|| project(world point i) - pixel i ||).

    rho is Geman-McClure's delta^2 e^2 / (delta^2 + e^2), by iteratively reweighted least squares
    with weights w (delta^2 / (delta^2 + e^2))^2. delta shrinks geometrically from start_delta_px
    to delta_px over the first half of the iterations; the more it has shrunk, the nearer are the
    steps to Newton's, which know that points lose their pull as they move on, and are longer:
    with noise of many pixels six of them get as far as ten without. Where the cost has not fallen
    in the end the initial pose is returned. Points nearer than min_depth_m or behind the camera
    have no say, nor have those that are not finite; nor is a pose changed that sees fewer than
    three points with weight. Gradients flow to all tensor arguments through the unrolled
    iterations.

    Args:
        R_world_camera_b33: Initial orientations.
        t_world_camera_b3: Initial camera positions in metres, world frame.
        points_world_bn3: Points in metres, world frame.
        pixels_bn2: Where the image shows them.
        K_b33: Intrinsics.
        weights_bn: Non-negative weights, best the inverse variances of the pixels.
        iterations: Number of steps.
        delta_px: Error at which a point's pull has dropped to a quarter, at the end.
        start_delta_px: The same, at the start.
        min_depth_m: Least depth of a point that counts.

    Returns:
        (R_world_camera_b33, t_world_camera_b3, information_b66, errors_px_bn).
        information_b66 is J^T W J at the final pose in the order of ROS REP 103 (x y z, rotation
        about x y z): translation of the camera in world axes, then rotation about world-fixed
        axes through the camera centre; residuals in pixels. errors_px_bn are the final
        reprojection errors, at most 1e6, which is also that of points behind the camera.
    """
    R_b33, t_b3, rows_b72n, squared_bn, weights_bn = refine_and_linearise(
        R_world_camera_b33, t_world_camera_b3, points_world_bn3, pixels_bn2, K_b33, weights_bn,
        iterations, delta_px, start_delta_px, min_depth_m)
    robust_bn = robust_factor(squared_bn, delta_px)
    gram_b77 = weighted_gram(rows_b72n, (weights_bn * robust_bn * robust_bn)[:, None, None])
    return (R_b33, t_b3, turn_to_world(gram_b77[:, :6, :6], R_b33), errors_of(squared_bn))


def errors_of(squared_bn: Tensor) -> Tensor:
    """Reprojection errors, at most 1e6; 1e-12 keeps the gradient of the root finite at zero."""
    return (squared_bn.clamp(max=1e12) + 1e-12).sqrt()


def refine_and_linearise(R_world_camera_b33: Tensor, t_world_camera_b3: Tensor,
                         points_world_bn3: Tensor, pixels_bn2: Tensor, K_b33: Tensor,
                         weights_bn: Tensor, iterations: int, delta_px: float,
                         start_delta_px: float, min_depth_m: float = 0.1,
                         ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`refine_pose` with the derivatives that it ended with.

    Returns:
        (R_world_camera_b33, t_world_camera_b3, rows_b72n, squared_bn, weights_bn): derivatives
        and squared errors as `linearisation.linearise` has them, weights 0 of unusable points.
    """
    # Relative to the camera, float32 keeps coordinates of a large map accurate.
    points_b4n, weights_bn = homogeneous_points(
        points_world_bn3 - t_world_camera_b3.unsqueeze(1), weights_bn)
    weights_b11n = weights_bn[:, None, None]
    basis_bkm, offset_bkn = linear_maps(pixels_bn2, K_b33)
    batch, count = points_b4n.shape[0], points_b4n.shape[2]
    eye_44, generators_b166, damping_266 = _constants(K_b33)
    # T maps world axes with origin at the initial camera position to the camera frame.
    start_T_b44 = turn_to_camera(R_world_camera_b33)
    start_rows_b72n, start_squared_b11n = linearise(start_T_b44, points_b4n, basis_bkm,
                                                    offset_bkn, min_depth_m)
    T_b44, rows_b72n, squared_b11n = start_T_b44, start_rows_b72n, start_squared_b11n
    shrinking = max(iterations // 2, 1)
    # Numbers as tensors: torch takes as long to wrap a number as to multiply with it.
    one = torch.ones([], dtype=K_b33.dtype, device=K_b33.device)
    for step in range(iterations):
        progress = min(float(step) / shrinking, 1.0)
        delta_now_px = start_delta_px * (delta_px / start_delta_px) ** progress
        delta2 = torch.full([], delta_now_px ** 2, dtype=K_b33.dtype, device=K_b33.device)
        # Geman-McClure's weight but for a factor, which moves no step, and rho's curvature over
        # its weight, the mean of all directions: 2 delta^2 / (delta^2 + e^2) - 1.
        sum_b11n = squared_b11n + delta2
        pulled_b72n = rows_b72n * (weights_b11n / (sum_b11n * sum_b11n))
        kept_b11n = ((delta2 + delta2) / sum_b11n - one).clamp(min=1.0 - 0.6 * progress)
        rows_bm7 = rows_b72n.view(batch, 7, 2 * count).transpose(1, 2)
        gradient_b71 = matmul(pulled_b72n.view(batch, 7, 2 * count), rows_bm7.narrow(2, 6, 1))
        hessian_b77 = matmul((pulled_b72n * kept_b11n).view(batch, 7, 2 * count), rows_bm7)
        T_b44 = _step(hessian_b77.narrow(1, 0, 6).narrow(2, 0, 6), gradient_b71.narrow(1, 0, 6),
                      T_b44, eye_44, generators_b166, damping_266)
        rows_b72n, squared_b11n = linearise(T_b44, points_b4n, basis_bkm, offset_bkn, min_depth_m)

    enough_b111 = ((start_squared_b11n < 1e30) & (weights_b11n > 0)).sum(-1, keepdim=True) >= 3
    fallen_b111 = (_cost(squared_b11n, weights_b11n, delta_px)
                   <= _cost(start_squared_b11n, weights_b11n, delta_px) * (1 + 1e-4))
    taken_b111 = fallen_b111 & enough_b111
    T_b44 = torch.where(taken_b111.squeeze(1), T_b44, start_T_b44)
    rows_b72n = torch.where(taken_b111, rows_b72n, start_rows_b72n)
    squared_b11n = torch.where(taken_b111, squared_b11n, start_squared_b11n)

    R_b33 = T_b44[:, :3, :3].transpose(1, 2)
    # Rounding in a dozen products leaves R a few eps from orthogonal; one Newton step mends it.
    R_b33 = 1.5 * R_b33 - 0.5 * matmul(R_b33, matmul(R_b33.transpose(1, 2), R_b33))
    t_b3 = t_world_camera_b3 - matmul(R_b33, T_b44[:, :3, 3:]).squeeze(-1)
    return R_b33, t_b3, rows_b72n, squared_b11n.view(batch, count), weights_bn


def robust_factor(squared: Tensor, delta_px: float) -> Tensor:
    """delta^2 / (delta^2 + e^2), whose square is Geman-McClure's weight."""
    return delta_px ** 2 / (squared + delta_px ** 2)


def _cost(squared_b11n: Tensor, weights_b11n: Tensor, delta_px: float) -> Tensor:
    return (weights_b11n * robust_factor(squared_b11n, delta_px) * squared_b11n
            ).sum(-1, keepdim=True)


def _constants(K_b33: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """eye_44; (b, 16, 6) from the six parameters to half the twist [[phi], rho; 0, 0]; damping."""
    flat = [0.0] * 96
    rho, phi = [3, 7, 11], [[9, 6], [2, 8], [4, 1]]
    for axis in range(3):
        flat[6 * rho[axis] + axis] = 0.5
        flat[6 * phi[axis][0] + 3 + axis] = 0.5
        flat[6 * phi[axis][1] + 3 + axis] = -0.5
    generators_166 = torch.tensor(flat, dtype=K_b33.dtype, device=K_b33.device).view(16, 6)
    eye_44 = torch.eye(4, dtype=K_b33.dtype, device=K_b33.device)
    eye_66 = torch.eye(6, dtype=K_b33.dtype, device=K_b33.device)
    # Relative to the diagonal, so that it means the same for metres and radians; and so little
    # that it only keeps the matrix invertible where no point has a say.
    damping_266 = torch.stack([1.0 + 1e-5 * eye_66, 1e-17 * eye_66])
    return eye_44, generators_166.expand(K_b33.shape[0], -1, -1), damping_266


def _step(hessian_b66: Tensor, gradient_b61: Tensor, T_b44: Tensor, eye_44: Tensor,
          generators_b166: Tensor, damping_266: Tensor) -> Tensor:
    """T after a damped step.

    With Z half the twist matrix, (I - Z)^-1 (I + Z) is Cayley's transform: exactly rigid, equal
    to the exponential to second order, and without branches.
    """
    damped_b66 = torch.addcmul(damping_266[1], hessian_b66, damping_266[0])
    back_b61, _ = torch.linalg.solve_ex(damped_b66, gradient_b61)
    Z_b44 = matmul(generators_b166, back_b61).view(T_b44.shape)
    moved_b44, _ = torch.linalg.solve_ex(eye_44 - Z_b44, matmul(eye_44 + Z_b44, T_b44))
    return moved_b44
