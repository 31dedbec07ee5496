# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Reprojections and their derivatives by the camera's pose, in as few operations as there are.

For some hundred points an operation costs more to call than to do: what is linear is one product.
"""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul


def homogeneous_points(points_bn3: Tensor, weights_bn: Tensor) -> Tuple[Tensor, Tensor]:
    """(points_b4n, weights_bn): those that are not finite at the origin and without weight.

    So are those beyond a thousand kilometres, and weights below zero or beyond 1e15.
    """
    spoilt_bn = ~((points_bn3.detach().abs().amax(-1) < 1e6) & (weights_bn.detach() < 1e15))
    points_bn3 = points_bn3.masked_fill(spoilt_bn.unsqueeze(-1), 0.0)
    weights_bn = weights_bn.masked_fill(spoilt_bn, 0.0).clamp(min=0.0)
    points_bn4 = torch.nn.functional.pad(points_bn3, [0, 1], value=1.0)
    return points_bn4.transpose(1, 2).contiguous(), weights_bn


def turn_to_camera(R_world_camera_b33: Tensor) -> Tensor:
    """(b, 4, 4): from world axes, the camera at the origin, to the camera frame."""
    T_b44 = torch.nn.functional.pad(R_world_camera_b33.transpose(1, 2), [0, 1, 0, 1])
    one_11 = torch.ones([1, 1], dtype=T_b44.dtype, device=T_b44.device)
    return T_b44 + torch.nn.functional.pad(one_11, [3, 0, 3, 0])


def linear_maps(pixels_bn2: Tensor, K_b33: Tensor) -> Tuple[Tensor, Tensor]:
    """(basis_bkm, offset_bkn) of `linearise`: they depend on camera and image, not on the pose.

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
    signs = [-1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    flat = [0.0] * 336
    for index in range(15):
        flat[places[index]] = signs[index]
    by_plane_3m = torch.tensor(flat, dtype=K_b33.dtype, device=K_b33.device).view(3, 112)
    basis_b2pm = matmul(K_b33[:, :2], by_plane_3m).unflatten(2, (7, 16))
    minus_pixels_b2n = -pixels_bn2.transpose(1, 2)
    return (basis_b2pm.transpose(1, 2).flatten(1, 2),
            torch.nn.functional.pad(minus_pixels_b2n, [0, 0, 12, 0]))


def linearise(T_camera_world_b44: Tensor, points_b4n: Tensor, basis_bkm: Tensor,
              offset_bkn: Tensor, min_depth_m: float) -> Tuple[Tensor, Tensor]:
    """Derivatives and residuals in pixels, and squared errors.

    Args:
        T_camera_world_b44: World to camera.
        points_b4n: Of `homogeneous_points`, in world axes.
        basis_bkm, offset_bkn: Of `linear_maps`.
        min_depth_m: Nearer points are not seen.

    Returns:
        rows_b72n: by the camera's motion (rho, phi) in its own axes (6 rows) and the residuals
        (the last one), of u and v.
        squared_b11n: squared residuals; 1e30 of points that are not seen, so that their
        Geman-McClure weight is zero and their cost the largest a point can have.
    """
    batch, count = points_b4n.shape[0], points_b4n.shape[2]
    points_b4n = matmul(T_camera_world_b44, points_b4n)
    z_b1n = points_b4n.narrow(1, 2, 1)
    seen_b4n = points_b4n / z_b1n.clamp(min=min_depth_m)
    products_b44n = seen_b4n.unsqueeze(2) * seen_b4n.unsqueeze(1)
    rows_bkn = offset_bkn + matmul(basis_bkm, products_b44n.view(batch, 16, count))
    residuals_b2n = rows_bkn.narrow(1, 12, 2)
    squared_b1n = (residuals_b2n * residuals_b2n).sum(1, keepdim=True)
    squared_b1n = squared_b1n.masked_fill(z_b1n <= min_depth_m, 1e30)
    return rows_bkn.view(batch, 7, 2, count), squared_b1n.unsqueeze(2)


def weighted_gram(rows_b72n: Tensor, weights_b11n: Tensor) -> Tensor:
    """[J r]^T W [J r], (b, 7, 7), for weights per point."""
    shape = [rows_b72n.shape[0], 7, 2 * rows_b72n.shape[3]]
    return matmul((rows_b72n * weights_b11n).view(shape), rows_b72n.view(shape).transpose(1, 2))


def turn_to_world(information_b66: Tensor, R_world_camera_b33: Tensor) -> Tensor:
    """Information about (rho, phi) in camera axes, or their covariance, in world axes."""
    turn_b66 = torch.cat([torch.nn.functional.pad(R_world_camera_b33, [0, 3]),
                          torch.nn.functional.pad(R_world_camera_b33, [3, 0])], dim=1)
    turned_b66 = matmul(matmul(turn_b66, information_b66), turn_b66.transpose(1, 2))
    return 0.5 * (turned_b66 + turned_b66.transpose(1, 2))
