# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reprojections and their derivatives by the camera's pose, in as few operations as there are.

For some hundred points an operation costs more to call than to do: what is linear is one product.
"""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import addmm, bmm


def homogeneous_points(points_bn3: Tensor) -> Tensor:
    """points_b4n; zeros for those that are not finite or beyond a thousand kilometres.

    No camera sees a point of four zeros: its depth is zero for every pose.
    """
    points_b3n = points_bn3.transpose(1, 2)
    usable_b1n = points_b3n.detach().abs().amax(1, keepdim=True) < 1e6
    one_b1n = torch.ones_like(points_b3n[:, :1])
    return torch.where(usable_b1n, torch.cat([points_b3n, one_b1n], dim=1), 0.0)


def turn_to_camera(R_world_camera_b33: Tensor, t_world_camera_b3: Tensor) -> Tensor:
    """T_camera_world_b44."""
    # Its transpose: the orientation, below it -t^T R, and beside both the last unit vector.
    offset_b13 = bmm(t_world_camera_b3.unsqueeze(1), R_world_camera_b33).neg()
    upper_b43 = torch.cat([R_world_camera_b33, offset_b13], dim=1)
    last_141 = torch.tensor([0.0, 0.0, 0.0, 1.0]).view(1, 4, 1).to(upper_b43)
    last_b41 = last_141.expand(upper_b43.shape[0], -1, -1)
    return torch.cat([upper_b43, last_b41], dim=2).transpose(1, 2)


def motion_basis(K_b33: Tensor) -> Tensor:
    """basis_bkm of `linearise`: it depends on the camera, not on the pose.

    With a = x/z, b = y/z, i = 1/z a camera that moves by (rho, phi) in its own axes moves the
    image point (a, b, 1) by
        da = -i rho_x          + a i rho_z + a b phi_x - (1 + a^2) phi_y + b phi_z
        db =        - i rho_y  + b i rho_z + (1 + b^2) phi_x - a b phi_y - a phi_z,
    linear in the 16 products of (a, b, 1, i) with itself. The seventh column is the point itself.
    Times the first two rows of K it gives pixels. One more row tells which points are seen.
    """
    # Rows start at a, b, c; columns of 16; within them (a, b, 1, i) x (a, b, 1, i) row by row.
    a, b, c = 0, 112, 224
    i, ai, bi, aa, bb, ab, one, just_a, just_b = 11, 3, 7, 0, 5, 1, 10, 2, 6
    places = [a + i, a + 32 + ai, a + 48 + ab, a + 64 + one, a + 64 + aa, a + 80 + just_b,
              b + 16 + i, b + 32 + bi, b + 48 + one, b + 48 + bb, b + 64 + ab, b + 80 + just_a,
              a + 96 + just_a, b + 96 + just_b, c + 96 + one]
    signs = [-1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    # Made on the CPU, where a frozen module has them as constants.
    by_plane_m = torch.zeros(336).scatter(0, torch.tensor(places), torch.tensor(signs))
    rows_of_K = torch.eye(3, 2).view(3, 1, 1, 2, 1) * by_plane_m.view(1, 3, 7, 1, 16)
    by_K_9m = torch.nn.functional.pad(rows_of_K.reshape(9, 224), [0, 16])
    seen_m = torch.cat([torch.zeros(224), 2.0 ** 57 * torch.eye(16)[one]])
    return addmm(seen_m.to(K_b33), K_b33.reshape(-1, 9), by_K_9m.to(K_b33)).view(-1, 15, 16)


def observed_pixels(pixels_b2n: Tensor) -> Tensor:
    """observed_b3n of `linearise`: pixels, and below them what the row of points seen is then."""
    # So much that whatever rounding leaves of it is no residual of a point seen.
    return torch.nn.functional.pad(pixels_b2n, [0, 0, 0, 1], value=2.0 ** 57)


def linearise(T_camera_world_b44: Tensor, points_b4n: Tensor, basis_bkm: Tensor,
              observed_b3n: Tensor, min_depth_m: float) -> Tuple[Tensor, Tensor]:
    """Derivatives and residuals in pixels, and squared errors.

    Args:
        T_camera_world_b44: World to camera.
        points_b4n: Of `homogeneous_points`, in world axes; as all below for each pose or for all.
        basis_bkm: Of `motion_basis`.
        observed_b3n: Of `observed_pixels`: where the image shows them.
        min_depth_m: Nearer points are not seen.

    Returns:
        rows_b72n: by the camera's motion (rho, phi) in its own axes (6 rows) and the residuals
        (the last one), of u and v.
        squared_b11n: squared residuals; 1e20 to 1e30 of points that are not seen, so that their
        Geman-McClure weight is zero and their cost the largest a point can have.
    """
    batch, count = T_camera_world_b44.shape[0], points_b4n.shape[2]
    points_b4n = bmm(T_camera_world_b44, points_b4n.expand(batch, -1, -1))
    # z over itself is 1, exactly, whose square is taken from itself; otherwise much is left.
    seen_b4n = points_b4n / points_b4n.narrow(1, 2, 1).clamp(min=min_depth_m)
    products_b44n = seen_b4n.unsqueeze(2) * seen_b4n.unsqueeze(1)
    rows_bkn = bmm(basis_bkm.expand(batch, -1, -1), products_b44n.view(batch, 16, count))
    residuals_b3n = rows_bkn.narrow(1, 12, 3).sub_(observed_b3n)  # in place: a part of the rows
    squared_b1n = (residuals_b3n * residuals_b3n).sum(1, keepdim=True).clamp_(max=1e30)
    return rows_bkn.narrow(1, 0, 14).view(batch, 7, 2, count), squared_b1n.unsqueeze(2)


def weighted_gram(rows_b72n: Tensor, weights_b11n: Tensor) -> Tensor:
    """[J r]^T W [J r], (b, 7, 7), for weights per point."""
    shape = [rows_b72n.shape[0], 7, 2 * rows_b72n.shape[3]]
    return bmm((rows_b72n * weights_b11n).view(shape), rows_b72n.view(shape).transpose(1, 2))


def turn_to_world(information_b66: Tensor, R_world_camera_b33: Tensor) -> Tensor:
    """Information about (rho, phi) in camera axes, or their covariance, in world axes."""
    zero_b33 = torch.zeros_like(R_world_camera_b33)
    turn_b66 = torch.cat([torch.cat([R_world_camera_b33, zero_b33], dim=2),
                          torch.cat([zero_b33, R_world_camera_b33], dim=2)], dim=1)
    turned_b66 = bmm(bmm(turn_b66, information_b66), turn_b66.transpose(1, 2))
    return 0.5 * (turned_b66 + turned_b66.transpose(1, 2))
