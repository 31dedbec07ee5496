# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Robust Gauss-Newton refinement of camera poses on the reprojection of world points."""

import math
from typing import List, Tuple

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
from implicit_relocalizer.geometry.precision import add_product, bmm


def refine_pose(R_world_camera_b33: Tensor, t_world_camera_b3: Tensor, points_world_bn3: Tensor,
                pixels_bn2: Tensor, K_b33: Tensor, weights_bn: Tensor, iterations: int = 12,
                delta_px: float = 3.0, start_delta_px: float = 12.0,
                min_depth_m: float = 0.1) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Poses that minimise sum_i w_i rho(|| project(world point i) - pixel i ||).

    rho is Geman-McClure's delta^2 e^2 / (delta^2 + e^2), by iteratively reweighted least squares
    with weights w (delta^2 / (delta^2 + e^2))^2. delta shrinks geometrically from start_delta_px
    to delta_px over the first half of the iterations. The later a step the nearer it is to
    Newton's, which know that points lose their pull as they move on, and are longer: so few steps
    suffice, but early ones like that lose points that a pose still far away needs. Where the cost
    has not fallen in the end the initial pose is returned. Points nearer than min_depth_m or
    behind the camera have no say, nor have those that are not finite; nor is a pose changed that
    sees fewer than three points with weight. Gradients flow to all tensor arguments through the
    unrolled iterations.

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
    # Relative to the start, float32 keeps coordinates of a large map accurate.
    weights_bn = weights_bn.masked_fill(~(weights_bn.detach() < 1e15), 0.0).clamp(min=0.0)
    R_b33, offset_b3, rows_b72n, squared_bn, _ = refine_and_linearise(
        R_world_camera_b33, torch.zeros_like(t_world_camera_b3),
        homogeneous_points(points_world_bn3 - t_world_camera_b3.unsqueeze(1)),
        pixels_bn2.transpose(1, 2), K_b33, weights_bn, iterations, delta_px, start_delta_px,
        min_depth_m)
    robust_bn = robust_factor(squared_bn, delta_px)
    gram_b77 = weighted_gram(rows_b72n, (weights_bn * robust_bn * robust_bn)[:, None, None])
    return (R_b33, t_world_camera_b3 + offset_b3, turn_to_world(gram_b77[:, :6, :6], R_b33),
            errors_of(squared_bn))


def errors_of(squared_bn: Tensor) -> Tensor:
    """Reprojection errors, at most 1e6; 1e-12 keeps the gradient of the root finite at zero."""
    return torch.sqrt(squared_bn.clamp(1e-12, 1e12))


def refine_and_linearise(R_world_camera_b33: Tensor, t_world_camera_b3: Tensor,
                         points_b4n: Tensor, pixels_b2n: Tensor, K_b33: Tensor,
                         weights_bn: Tensor, iterations: int, delta_px: float,
                         start_delta_px: float, min_depth_m: float = 0.1,
                         ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`refine_pose` of usable weights, with the derivatives and the cost that it ended with.

    Args:
        points_b4n: Of `linearisation.homogeneous_points`; as pixels, K and weights for each pose,
            or of one image for all.
        pixels_b2n: Where the image shows them.
        weights_bn: Finite and not negative.
        The others as those of `refine_pose`.

    Returns:
        (R_world_camera_b33, t_world_camera_b3, rows_b72n, squared_bn, cost_b): derivatives
        and squared errors as `linearisation.linearise` has them; the cost in units of delta_px^2.
    """
    weights_b11n = weights_bn[:, None, None]
    basis_bkm = motion_basis(K_b33)
    observed_b3n = observed_pixels(pixels_b2n)
    batch, count = R_world_camera_b33.shape[0], points_b4n.shape[2]
    schedule, count_k = _schedule(iterations, delta_px, start_delta_px, K_b33), iterations + 1
    last_delta2 = schedule[iterations].to(K_b33)
    start_T_b44 = turn_to_camera(R_world_camera_b33, t_world_camera_b3)
    start_rows_b72n, start_squared_b11n = linearise(start_T_b44, points_b4n, basis_bkm,
                                                    observed_b3n, min_depth_m)
    start_cost_b111 = _cost(start_squared_b11n, weights_b11n, last_delta2)
    if iterations == 0:
        return (R_world_camera_b33, t_world_camera_b3, start_rows_b72n,
                start_squared_b11n.view(batch, count), start_cost_b111.view(batch))
    T_b44, rows_b72n, squared_b11n = start_T_b44, start_rows_b72n, start_squared_b11n
    minus_one, huge, generators_167, damping_277 = _constants(K_b33)
    generators_b167 = generators_167.expand(batch, -1, -1)
    is_enough_b111 = torch.zeros_like(start_cost_b111)
    for step in range(iterations):
        # Geman-McClure's weight but for a factor, which moves no step, and rho's curvature over
        # its weight, the mean of all directions: 2 delta^2 / (delta^2 + e^2) - 1.
        sum_b11n = squared_b11n + schedule[step].to(K_b33)
        pull_b11n = weights_b11n / (sum_b11n * sum_b11n)
        if step == 0:
            is_enough_b111 = (pull_b11n * huge).clamp_(max=1.0).sum(-1, keepdim=True) >= 3
        pulled_b7m = (rows_b72n * pull_b11n).view(batch, 7, 2 * count)
        kept_b72n = rows_b72n
        if step > 0:
            kept_b72n = rows_b72n * torch.maximum(
                torch.addcdiv(minus_one, schedule[count_k + step].to(K_b33), sum_b11n),
                schedule[2 * count_k + step].to(K_b33))
        kept_b7m = kept_b72n.view(batch, 7, 2 * count)
        # The Hessian, and in its last column the gradient: nothing less than all of it is kept.
        hessian_b77 = bmm(pulled_b7m, kept_b7m.transpose(1, 2))
        T_b44 = _step(hessian_b77, T_b44, generators_b167, damping_277)
        rows_b72n, squared_b11n = linearise(T_b44, points_b4n, basis_bkm, observed_b3n,
                                            min_depth_m)

    cost_b111 = _cost(squared_b11n, weights_b11n, last_delta2)
    R_b33 = T_b44[:, :3, :3].transpose(1, 2)
    # The steps shrink R a little; one Newton step mends it. Turns of more than 40 degrees at once
    # shrink it by more than that can mend, and those of more than 160 make it grow.
    square_b33 = bmm(T_b44[:, :3, :3], R_b33)
    size2_b111 = (square_b33 * square_b33).sum([1, 2]).view(-1, 1, 1, 1)
    highest_cost_b111 = torch.add(start_cost_b111, start_cost_b111, alpha=1e-4)
    taken_b111 = ((cost_b111 <= highest_cost_b111) & is_enough_b111
                  & ((size2_b111 - 3.0).abs() < 4e-3 * 3.0 ** 0.5))
    taken_b11 = taken_b111.squeeze(1)
    rows_b72n = torch.where(taken_b111, rows_b72n, start_rows_b72n)
    squared_b11n = torch.where(taken_b111, squared_b11n, start_squared_b11n)
    cost_b111 = torch.where(taken_b111, cost_b111, start_cost_b111)
    R_b33 = torch.add(R_b33, R_b33 - bmm(R_b33, square_b33), alpha=0.5)
    R_b33 = torch.where(taken_b11, R_b33, R_world_camera_b33)
    t_b3 = bmm(R_b33, T_b44[:, :3, 3:]).neg()
    t_b3 = torch.where(taken_b11, t_b3, t_world_camera_b3.unsqueeze(2)).squeeze(2)
    return R_b33, t_b3, rows_b72n, squared_b11n.view(batch, count), cost_b111.view(batch)


def robust_factor(squared: Tensor, delta_px: float) -> Tensor:
    """delta^2 / (delta^2 + e^2), whose square is Geman-McClure's weight."""
    return delta_px ** 2 / (squared + delta_px ** 2)


def _cost(squared_b11n: Tensor, weights_b11n: Tensor, delta2: Tensor) -> Tensor:
    return (weights_b11n * (squared_b11n / (squared_b11n + delta2))).sum(-1, keepdim=True)


def _constants(K_b33: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """What steps need: -1; 1e37, which makes 1 or more of any pull but that of points that are not
    seen, in double precision 1e-60; (1, 16, 7) from the six parameters to the twist matrix
    [[phi], rho; 0, 0], and nothing from the seventh; damping (factors and what is added)."""
    # Made on the CPU, where a frozen module has them as constants.
    # rho at 3, 7 and 11 of the 4 x 4 matrix; phi at 9, 2 and 4, its negative at 6, 8 and 1.
    places = [21, 50, 79, 66, 18, 33, 45, 60, 12]
    signs = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0]
    generators_m = torch.zeros(112).scatter(0, torch.tensor(places), torch.tensor(signs))
    # Relative to the diagonal, so that it means the same for metres and radians; and so little
    # that it only keeps the matrix invertible where no point has a say.
    kept_66, added_66 = 1.0 + 1e-5 * torch.eye(6), 1e-17 * torch.eye(6)
    added_77 = torch.nn.functional.pad(added_66, [0, 1, 0, 1])
    damping_277 = torch.stack([torch.nn.functional.pad(kept_66, [0, 1, 0, 1]),
                               added_77 + torch.diag(torch.tensor([0.0] * 6 + [1.0]))])
    return (torch.tensor([-1.0]).to(K_b33), torch.tensor(1e37, dtype=torch.float32).to(K_b33),
            generators_m.view(1, 16, 7).to(K_b33), damping_277.to(K_b33))


def _schedule(iterations: int, delta_px: float, start_delta_px: float, like: Tensor,
              ) -> List[Tensor]:
    """delta^2 of each step and of what comes after the last one; then twice that; then the least
    share of a weight that the Hessian keeps: three times iterations + 1.

    Numbers as tensors: torch takes as long to wrap a number as to multiply with it. One list: a
    frozen module has it as one constant, which `model_file.move_constants` can move.
    """
    # Made on the CPU and split there, where a frozen module has each as a constant.
    step_k1 = torch.arange(iterations, dtype=torch.float64).unsqueeze(1)
    shrunk_k1 = (step_k1 / max(iterations // 2, 1)).clamp(max=1.0)
    delta2_k1 = torch.exp(shrunk_k1 * (2.0 * math.log(delta_px / start_delta_px)))
    delta2_k1 = delta2_k1 * (start_delta_px * start_delta_px)
    delta2_k1 = torch.nn.functional.pad(delta2_k1, [0, 0, 0, 1], value=delta_px * delta_px)
    least_kept_k1 = 1.0 - step_k1 * (0.6 / max(iterations - 1, 1))
    least_kept_k1 = torch.nn.functional.pad(least_kept_k1, [0, 0, 0, 1], value=1.0)
    table_k9 = torch.cat([delta2_k1, 2.0 * delta2_k1, least_kept_k1.expand(-1, 6),
                          torch.ones_like(delta2_k1)], dim=1)
    if like.dtype == torch.float64:
        return _columns(table_k9)
    return _columns(table_k9.float())


def _columns(table_k9: Tensor) -> List[Tensor]:
    return (list(table_k9[:, 0].unbind(0)) + list(table_k9[:, 1].unbind(0))
            + list(table_k9[:, 2:, None, None].unbind(0)))


def _step(hessian_b77: Tensor, T_b44: Tensor, generators_b167: Tensor,
          damping_277: Tensor) -> Tensor:
    """T after a damped step; the gradient is the Hessian's last column.

    The exponential of the twist to fourth order, which shrinks by a 144th of the angle's sixth
    power and otherwise only moves. That is mended in the end, and takes a third of the time of
    Cayley's exact transform with its solver.
    """
    damped_b77 = torch.addcmul(damping_277[1], hessian_b77, damping_277[0])
    back_b71, _ = torch.linalg.solve_ex(damped_b77, hessian_b77.narrow(2, 6, 1))
    twist_b44 = bmm(generators_b167, back_b71).view(T_b44.shape)
    moved_b44 = add_product(T_b44, twist_b44, T_b44, 0.25)
    moved_b44 = add_product(T_b44, twist_b44, moved_b44, 1.0 / 3.0)
    moved_b44 = add_product(T_b44, twist_b44, moved_b44, 0.5)
    return add_product(T_b44, twist_b44, moved_b44, 1.0)
