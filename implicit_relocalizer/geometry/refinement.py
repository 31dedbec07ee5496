# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Robust Gauss-Newton refinement of camera poses on the reprojection of world points."""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul


def refine_pose(R_world_camera_b33: Tensor, t_world_camera_b3: Tensor, points_world_bn3: Tensor,
                pixels_bn2: Tensor, K_b33: Tensor, weights_bn: Tensor, iterations: int = 12,
                delta_px: float = 3.0, start_delta_px: float = 12.0,
                min_depth_m: float = 0.1) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Poses that minimise sum_i w_i rho(|| project(world point i) - pixel i ||).

    rho is Geman-McClure's delta^2 e^2 / (delta^2 + e^2), by iteratively reweighted least squares
    with weights w (delta^2 / (delta^2 + e^2))^2; delta shrinks geometrically from start_delta_px
    to delta_px over the first half of the iterations. A step that raises the cost is undone and
    damped more (Levenberg-Marquardt). Points nearer than min_depth_m or behind the camera have no
    say, nor have those that are not finite; a pose that sees fewer than three points with weight
    is returned unchanged. Gradients flow to all tensor arguments through the unrolled iterations.

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
    # Relative to the camera, float32 keeps coordinates of a large map accurate.
    points_bn3 = points_world_bn3 - t_world_camera_b3.unsqueeze(1)
    usable_bn = (points_bn3.detach().abs().amax(-1) < 1e6) & (weights_bn.detach() < 1e15)
    points_bn3 = points_bn3.masked_fill(~usable_bn.unsqueeze(-1), 0.0)
    weights_bn = weights_bn.masked_fill(~usable_bn, 0.0).clamp(min=0.0)
    points_b4n = torch.nn.functional.pad(points_bn3, [0, 1], value=1.0)
    points_b4n = points_b4n.transpose(1, 2).contiguous()
    minus_pixels_b21n = -pixels_bn2.transpose(1, 2).unsqueeze(2)
    offset_bkn = torch.nn.functional.pad(minus_pixels_b21n, [0, 0, 6, 0]).flatten(1, 2)
    basis_bkm = matmul(K_b33[:, :2], _derivatives(K_b33)).unflatten(2, (7, 16)).flatten(1, 2)
    generators, eye = _half_generators(K_b33), torch.eye(6, dtype=K_b33.dtype, device=K_b33.device)

    # T maps world axes with origin at the initial camera position to the camera frame.
    T_b44 = torch.nn.functional.pad(R_world_camera_b33.transpose(1, 2), [0, 1, 0, 1])
    T_b44 = T_b44 + torch.nn.functional.pad(eye[:1, :1], [3, 0, 3, 0])
    rows_bkn, squared_bn = _linearise(T_b44, points_b4n, basis_bkm, offset_bkn, min_depth_m)
    enough_b = ((squared_bn < 1e30) & (weights_bn > 0)).sum(-1) >= 3
    damping_b11 = torch.full_like(T_b44[:, :1, :1], 1e-5)
    shrinking = max(iterations // 2, 1)
    for step in range(iterations):
        progress = min(float(step) / shrinking, 1.0)
        delta2 = (start_delta_px * (delta_px / start_delta_px) ** progress) ** 2
        gram_b77, cost_b = _normal_equations(rows_bkn, squared_bn, weights_bn, delta2)
        trial_T_b44 = matmul(_step(gram_b77, damping_b11 * eye, generators), T_b44)
        trial_rows_bkn, trial_squared_bn = _linearise(
            trial_T_b44, points_b4n, basis_bkm, offset_bkn, min_depth_m)
        trial_cost_b = (weights_bn * (delta2 / (delta2 + trial_squared_bn))
                        * trial_squared_bn).sum(-1)
        better_b1 = ((trial_cost_b <= cost_b * (1 + 1e-4)) & enough_b).unsqueeze(-1)
        better_b11 = better_b1.unsqueeze(-1)
        T_b44 = torch.where(better_b11, trial_T_b44, T_b44)
        rows_bkn = torch.where(better_b11, trial_rows_bkn, rows_bkn)
        squared_bn = torch.where(better_b1, trial_squared_bn, squared_bn)
        damping_b11 = (torch.where(better_b11, 0.1, 30.0) * damping_b11).clamp(1e-5, 1e3)

    R_b33 = T_b44[:, :3, :3].transpose(1, 2)
    # Rounding in a dozen products leaves R a few eps from orthogonal; one Newton step mends it.
    R_b33 = 1.5 * R_b33 - 0.5 * matmul(R_b33, matmul(R_b33.transpose(1, 2), R_b33))
    t_b3 = t_world_camera_b3 - matmul(R_b33, T_b44[:, :3, 3:]).squeeze(-1)
    gram_b77, _ = _normal_equations(rows_bkn, squared_bn, weights_bn, delta_px ** 2)
    # The 1e-12 keeps the gradient of the root finite at zero error.
    errors_px_bn = (squared_bn.clamp(max=1e12) + 1e-12).sqrt()
    return R_b33, t_b3, _information_in_world(gram_b77, R_b33), errors_px_bn


def _linearise(T_b44: Tensor, points_b4n: Tensor, basis_bkm: Tensor, offset_bkn: Tensor,
               min_depth_m: float) -> Tuple[Tensor, Tensor]:
    """Derivatives and residuals in pixels (14 = 2 x 7 rows), and squared errors (1e30 behind)."""
    points_b4n = matmul(T_b44, points_b4n)
    z_b1n = points_b4n[:, 2:3]
    seen_b4n = points_b4n / z_b1n.clamp(min=min_depth_m)
    products_bmn = (seen_b4n.unsqueeze(2) * seen_b4n.unsqueeze(1)).flatten(1, 2)
    rows_bkn = matmul(basis_bkm, products_bmn) + offset_bkn
    residuals_b2n = rows_bkn[:, 6::7]
    squared_bn = (residuals_b2n * residuals_b2n).sum(1)
    # So large that its Geman-McClure weight is zero and its cost the largest a point can have.
    return rows_bkn, squared_bn.masked_fill((z_b1n <= min_depth_m).squeeze(1), 1e30)


def _derivatives(like: Tensor) -> Tensor:
    """Constants of the linearisation, (3, 7 * 16).

    With a = x/z, b = y/z, i = 1/z a camera that moves by (rho, phi) in its own axes moves the
    image point (a, b, 1) by
        da = -i rho_x          + a i rho_z + a b phi_x - (1 + a^2) phi_y + b phi_z
        db =        - i rho_y  + b i rho_z + (1 + b^2) phi_x - a b phi_y - a phi_z,
    linear in the 16 products of (a, b, 1, i) with itself. The seventh column is the point itself.
    Times the first two rows of K it gives pixels.
    """
    # Rows start at a, b, c; columns of 16; within them (a, b, 1, i) x (a, b, 1, i) row by row.
    a, b, c = 0, 112, 224
    i, ai, bi, aa, bb, ab, one, just_a, just_b = 11, 3, 7, 0, 5, 1, 10, 2, 6
    places = [a + i, a + 32 + ai, a + 48 + ab, a + 64 + one, a + 64 + aa, a + 80 + just_b,
              b + 16 + i, b + 32 + bi, b + 48 + one, b + 48 + bb, b + 64 + ab, b + 80 + just_a,
              a + 96 + just_a, b + 96 + just_b, c + 96 + one]
    values = [-1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    flat = torch.zeros(336, dtype=like.dtype, device=like.device)
    flat[torch.tensor(places, device=like.device)] = torch.tensor(
        values, dtype=like.dtype, device=like.device)
    return flat.view(3, 112)


def _half_generators(like: Tensor) -> Tensor:
    """(6, 16): half the 4x4 twist matrix [[phi], rho; 0, 0] of each of the six parameters."""
    rows = [[0.0] * 16 for _ in range(6)]
    rows[0][3], rows[1][7], rows[2][11] = 0.5, 0.5, 0.5
    rows[3][6], rows[3][9] = -0.5, 0.5
    rows[4][2], rows[4][8] = 0.5, -0.5
    rows[5][1], rows[5][4] = -0.5, 0.5
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _normal_equations(rows_bkn: Tensor, squared_bn: Tensor, weights_bn: Tensor,
                      delta2: float) -> Tuple[Tensor, Tensor]:
    """Gram matrix [J r]^T W [J r] and the robust cost."""
    robust_bn = delta2 / (delta2 + squared_bn)
    weighted_bn = weights_bn * robust_bn
    cost_b = (weighted_bn * squared_bn).sum(-1)
    weighted_rows_bkn = rows_bkn * (weighted_bn * robust_bn).unsqueeze(1)
    gram_m77 = matmul(weighted_rows_bkn.unflatten(1, (2, 7)).flatten(0, 1),
                      rows_bkn.unflatten(1, (2, 7)).flatten(0, 1).transpose(1, 2))
    return gram_m77.unflatten(0, (-1, 2)).sum(1), cost_b


def _step(gram_b77: Tensor, damping_b66: Tensor, generators: Tensor) -> Tensor:
    """The 4x4 transform of camera coordinates by a damped Gauss-Newton step.

    With Z half the twist matrix, I + 2 (Z + Z^2) / (1 + |phi|^2 / 4) is Cayley's rotation: exactly
    orthogonal, equal to the exponential to second order, and without branches.
    """
    # Scaled to a unit diagonal, damping means the same for metres and radians, and keeps the
    # matrix invertible where the points do not determine the pose.
    scale_b6 = (torch.diagonal(gram_b77, dim1=1, dim2=2)[:, :6] + 1e-12).rsqrt()
    A_b66 = gram_b77[:, :6, :6] * (scale_b6.unsqueeze(2) * scale_b6.unsqueeze(1)) + damping_b66
    back_b6, _ = torch.linalg.solve_ex(A_b66, gram_b77[:, :6, 6] * scale_b6)
    back_b6 = back_b6 * scale_b6
    Z_b44 = matmul(back_b6, generators).unflatten(1, (4, 4))
    phi_b3 = back_b6[:, 3:]
    share_b11 = (2 / (1 + 0.25 * (phi_b3 * phi_b3).sum(1)))[:, None, None]
    eye = torch.eye(4, dtype=Z_b44.dtype, device=Z_b44.device)
    return eye + share_b11 * (Z_b44 + matmul(Z_b44, Z_b44))


def _information_in_world(gram_b77: Tensor, R_b33: Tensor) -> Tensor:
    """Information about (rho, phi) in camera axes, turned into world axes."""
    turn_b66 = torch.cat([torch.nn.functional.pad(R_b33, [0, 3]),
                          torch.nn.functional.pad(R_b33, [3, 0])], dim=1)
    information_b66 = matmul(matmul(turn_b66, gram_b77[:, :6, :6]), turn_b66.transpose(1, 2))
    return 0.5 * (information_b66 + information_b66.transpose(1, 2))
