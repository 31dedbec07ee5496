# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Robust Gauss-Newton refinement of camera poses on the reprojection of world points."""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.geometry.rigid import skew

# Per iteration a point contributes 2 x 7 numbers: the derivatives of its image position by the
# six pose parameters, and its residual. Their weighted Gram matrix holds the normal equations.


def refine_pose(R_world_camera_b33: Tensor, t_world_camera_b3: Tensor, points_world_bn3: Tensor,
                pixels_bn2: Tensor, K_b33: Tensor, weights_bn: Tensor, iterations: int = 12,
                delta_px: float = 3.0, start_delta_px: float = 12.0,
                min_depth_m: float = 0.1) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Poses that minimise sum_i w_i rho(|| project(world point i) - pixel i ||).

    rho is Geman-McClure's delta^2 e^2 / (delta^2 + e^2), by iteratively reweighted least squares
    with weights w (delta^2 / (delta^2 + e^2))^2; delta shrinks geometrically from start_delta_px
    to delta_px over the first half of the iterations. A step that raises the cost is undone and
    damped more (Levenberg-Marquardt). Points nearer than min_depth_m or behind the camera have no
    say; a pose that sees fewer than three points with weight is returned unchanged. Gradients
    flow to all tensor arguments through the unrolled iterations.

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
        reprojection errors, 1e6 for points behind the camera.
    """
    weights_bn = weights_bn.clamp(min=0.0)
    # Relative to the camera, float32 keeps coordinates of a large map accurate.
    points_b3n = (points_world_bn3 - t_world_camera_b3.unsqueeze(1)).transpose(1, 2).contiguous()
    plane_b2n = unproject(pixels_bn2, K_b33)[..., :2].transpose(1, 2).contiguous()
    K_b22 = K_b33[:, :2, :2].contiguous()
    eye = torch.eye(6, dtype=weights_bn.dtype, device=weights_bn.device)

    R_b33, moved_b31 = R_world_camera_b33, torch.zeros_like(t_world_camera_b3).unsqueeze(-1)
    rows_b27n, squared_bn, front_bn = _linearise(
        R_b33, moved_b31, points_b3n, plane_b2n, K_b22, min_depth_m)
    damping_b11 = torch.full_like(weights_bn[:, :1, None], 1e-5)
    shrinking = max(iterations // 2, 1)
    for step in range(iterations):
        progress = min(float(step) / shrinking, 1.0)
        delta2 = (start_delta_px * (delta_px / start_delta_px) ** progress) ** 2
        gram_b77, cost_b = _normal_equations(rows_b27n, squared_bn, front_bn, weights_bn, delta2)
        enough_b = (front_bn * weights_bn > 0).sum(-1) >= 3
        rho_b3, phi_b3 = _solve(gram_b77, damping_b11, eye, enough_b)

        trial_R_b33 = R_b33 @ _rotation_step(phi_b3)
        trial_moved_b31 = moved_b31 + R_b33 @ rho_b3.unsqueeze(-1)
        trial_rows_b27n, trial_squared_bn, trial_front_bn = _linearise(
            trial_R_b33, trial_moved_b31, points_b3n, plane_b2n, K_b22, min_depth_m)
        trial_cost_b = _robust_cost(trial_squared_bn, weights_bn, delta2)
        better_b11 = ((trial_cost_b <= cost_b * (1 + 1e-4)) & enough_b)[:, None, None]

        R_b33 = torch.where(better_b11, trial_R_b33, R_b33)
        moved_b31 = torch.where(better_b11, trial_moved_b31, moved_b31)
        rows_b27n = torch.where(better_b11.unsqueeze(-1), trial_rows_b27n, rows_b27n)
        squared_bn = torch.where(better_b11.squeeze(-1), trial_squared_bn, squared_bn)
        front_bn = torch.where(better_b11.squeeze(-1), trial_front_bn, front_bn)
        damping_b11 = torch.where(better_b11, 0.1 * damping_b11, 30 * damping_b11)
        damping_b11 = damping_b11.clamp(1e-5, 1e3)

    # Rounding in a dozen products leaves R a few eps from orthogonal; one Newton step mends it.
    R_b33 = 1.5 * R_b33 - 0.5 * R_b33 @ (R_b33.transpose(1, 2) @ R_b33)
    gram_b77, _ = _normal_equations(rows_b27n, squared_bn, front_bn, weights_bn, delta_px ** 2)
    return (R_b33, t_world_camera_b3 + moved_b31.squeeze(-1),
            _information_in_world(gram_b77, R_b33), (squared_bn + 1e-12).sqrt())


def _linearise(R_b33: Tensor, moved_b31: Tensor, points_b3n: Tensor, plane_b2n: Tensor,
               K_b22: Tensor, min_depth_m: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Derivatives and residuals in pixels, squared errors (1e12 behind), and 1 for in front.

    The pose moves as R <- R exp(phi), t <- t + R rho, so that a point x in the camera frame moves
    by -rho + x cross phi.
    """
    points_b3n = R_b33.transpose(1, 2) @ (points_b3n - moved_b31)
    z_bn = points_b3n[:, 2]
    front_bn = z_bn > min_depth_m
    per_z_bn = z_bn.clamp(min=min_depth_m).reciprocal()
    seen_b2n = points_b3n[:, :2] * per_z_bn.unsqueeze(1)
    a_bn, b_bn = seen_b2n.unbind(1)
    da_bn, db_bn = (seen_b2n - plane_b2n).unbind(1)
    o_bn = torch.zeros_like(z_bn)
    minus_bn = -per_z_bn
    ab_bn = a_bn * b_bn
    rows_b27n = torch.stack([
        minus_bn, o_bn, a_bn * per_z_bn, ab_bn, -1 - a_bn * a_bn, b_bn, da_bn,
        o_bn, minus_bn, b_bn * per_z_bn, 1 + b_bn * b_bn, -ab_bn, -a_bn, db_bn], dim=1)
    B, N = z_bn.shape[0], z_bn.shape[1]
    rows_b27n = (K_b22 @ rows_b27n.view(B, 2, 7 * N)).view(B, 2, 7, N)
    residuals_b2n = rows_b27n[:, :, 6]
    squared_bn = (residuals_b2n * residuals_b2n).sum(1)
    return rows_b27n, squared_bn.masked_fill(~front_bn, 1e12), front_bn.to(z_bn.dtype)


def _normal_equations(rows_b27n: Tensor, squared_bn: Tensor, front_bn: Tensor, weights_bn: Tensor,
                      delta2: float) -> Tuple[Tensor, Tensor]:
    """Gram matrix [J r]^T W [J r] and the robust cost."""
    robust_bn = delta2 / (delta2 + squared_bn)
    weighted_bn = weights_bn * robust_bn
    cost_b = (weighted_bn * squared_bn).sum(-1)
    weighted_b11n = (weighted_bn * robust_bn * front_bn)[:, None, None]
    rows_m7n = rows_b27n.flatten(0, 1)
    gram_m77 = (rows_b27n * weighted_b11n).flatten(0, 1) @ rows_m7n.transpose(1, 2)
    return gram_m77.unflatten(0, (-1, 2)).sum(1), cost_b


def _robust_cost(squared_bn: Tensor, weights_bn: Tensor, delta2: float) -> Tensor:
    return (weights_bn * (delta2 * squared_bn / (delta2 + squared_bn))).sum(-1)


def _solve(gram_b77: Tensor, damping_b11: Tensor, eye: Tensor,
           enough_b: Tensor) -> Tuple[Tensor, Tensor]:
    """The damped step (rho, phi), zero where it is not defined."""
    # Scaled to a unit diagonal, so that damping means the same for metres and radians and the
    # factorisation cannot fail for lack of information.
    diagonal_b6 = torch.diagonal(gram_b77, dim1=1, dim2=2)[:, :6]
    scale_b6 = (diagonal_b6 + 1e-12).rsqrt()
    scale_b6 = torch.where(enough_b.unsqueeze(-1), scale_b6, torch.zeros_like(scale_b6))
    A_b66 = gram_b77[:, :6, :6] * (scale_b6.unsqueeze(-1) * scale_b6.unsqueeze(-2))
    A_b66 = A_b66 + damping_b11 * eye
    step_b6, _ = torch.linalg.solve_ex(A_b66, -gram_b77[:, :6, 6] * scale_b6)
    step_b6 = step_b6 * scale_b6
    return step_b6[:, :3], step_b6[:, 3:]


def _rotation_step(phi_b3: Tensor) -> Tensor:
    """Cayley's rotation: equal to exp(phi) to second order, exactly orthogonal, no branches."""
    half_b33 = skew(0.5 * phi_b3)
    scale_b11 = (2 / (1 + 0.25 * (phi_b3 * phi_b3).sum(-1)))[:, None, None]
    eye = torch.eye(3, dtype=phi_b3.dtype, device=phi_b3.device)
    return eye + scale_b11 * (half_b33 + half_b33 @ half_b33)


def _information_in_world(gram_b77: Tensor, R_b33: Tensor) -> Tensor:
    """Information about (rho, phi) in camera axes, turned into world axes."""
    blocks_b2233 = gram_b77[:, :6, :6].unflatten(2, (2, 3)).unflatten(1, (2, 3)).transpose(2, 3)
    R_b1133 = R_b33[:, None, None]
    blocks_b2233 = R_b1133 @ blocks_b2233 @ R_b1133.transpose(-1, -2)
    information_b66 = blocks_b2233.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return 0.5 * (information_b66 + information_b66.transpose(1, 2))
