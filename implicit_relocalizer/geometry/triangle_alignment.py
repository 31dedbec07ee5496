# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid alignment of many triangles at once, in closed form.

Kabsch's problem for three points: about their centroids both triangles are flat, so the
cross-covariance is too, and the best rotation lays one plane onto the other with normals that
agree in sense. What is left is a turn in the plane, whose best angle is that of two sums
(Umeyama 1991 in two dimensions). Some forty operations for all of them, against a LAPACK call for
each, and on a GPU without a wait.
"""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul


def align_triangles(source_h33: Tensor, target_h33: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The rigid transforms that best map three points onto three points each.

    The same as `kabsch.weighted_kabsch` with equal weights where the points determine the
    rotation.

    Args:
        source_h33: Points, one a row, float32 or float64.
        target_h33: Their partners. Coordinates beyond 1e6 count as 1e6.

    Returns:
        (R_h33, t_h3, degenerate_h): always finite. Triangles that do not determine the rotation
        (repeated or collinear points, points that are not finite) are flagged and get the
        identity.
    """
    return align_triangle_pairs(torch.cat([source_h33, target_h33], dim=2))


def align_triangle_pairs(points_h36: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """`align_triangles` of points with their partners beside them."""
    count = points_h36.shape[0]
    # Beyond 1e6 products are too large for float32.
    about_h253 = matmul(points_h36.clamp(-1e6, 1e6).view(-1, 18), _centring(points_h36))
    about_h253 = about_h253.view(-1, 2, 5, 3)
    points_h233, mean_h213 = about_h253.narrow(2, 0, 3), about_h253.narrow(2, 4, 1)
    first_h23 = about_h253[:, :, 0]
    normal_h23 = torch.linalg.cross(first_h23, about_h253[:, :, 1])
    across_h23 = torch.linalg.cross(normal_h23, first_h23)
    axes_h233 = torch.stack([first_h23, across_h23, normal_h23], dim=2)
    length_h231 = torch.linalg.vector_norm(axes_h233, dim=3, keepdim=True)
    # The normal is as long as two thirds of the area: little beside the size where the points are
    # nearly in line, and beside what rounding of the coordinates alone could have produced.
    size_h2 = torch.linalg.vector_norm(about_h253.narrow(2, 0, 4).flatten(2), dim=2)
    is_wide_h2 = length_h231[:, :, 2, 0] > size_h2 * size_h2 * 1e-3

    # Rows are the axes from here on. What is no number is so to the end, where it is replaced.
    axes_h233 = axes_h233 / length_h231
    plane_m23 = axes_h233.narrow(2, 0, 2).flatten(0, 1)
    in_plane_m32 = matmul(points_h233.flatten(0, 1), plane_m23.transpose(1, 2))
    in_plane_h232 = in_plane_m32.view(-1, 2, 3, 2)
    products_h22 = matmul(in_plane_h232[:, 0].transpose(1, 2), in_plane_h232[:, 1])
    # xx' + yy' and xy' - yx', the cosine and the sine of the turn but for a factor, as a matrix
    turn_44 = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, -1.0, 1.0, 0.0],
                            [0.0, 1.0, -1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]).to(products_h22)
    turn_h22 = matmul(products_h22.view(count, 4), turn_44).view(-1, 2, 2)
    turn_h22 = turn_h22 / torch.linalg.vector_norm(turn_h22, dim=2, keepdim=True)
    source_axes_h33 = axes_h233[:, 0]
    turned_h33 = torch.cat([matmul(turn_h22, source_axes_h33.narrow(1, 0, 2)),
                            source_axes_h33.narrow(1, 2, 1)], dim=1)
    R_h33 = matmul(axes_h233[:, 1].transpose(1, 2), turned_h33)

    is_determined_h = is_wide_h2.all(1)
    R_h33 = torch.where(is_determined_h.view(-1, 1, 1), R_h33, torch.eye(3).to(R_h33))
    t_h13 = mean_h213[:, 1] - matmul(mean_h213[:, 0], R_h33.transpose(1, 2))
    return R_h33, t_h13.view(-1, 3).nan_to_num(0.0, 0.0, 0.0), ~is_determined_h


def _centring(like: Tensor) -> Tensor:
    """(18, 30): three points with partners beside them to, of either, the points about their
    centroid, a little of the centroid, and the centroid."""
    third_3 = torch.full([3], 1.0 / 3.0, dtype=torch.float64)
    from_points_35 = torch.cat([torch.eye(3, dtype=torch.float64) - third_3,
                                torch.stack([3e-4 * third_3, third_3])]).t()
    eye_66 = torch.eye(6, dtype=torch.float64)
    # Made on the CPU, where a frozen module has it as a constant.
    both = from_points_35.reshape(3, 1, 1, 1, 5, 1) * eye_66.view(1, 2, 3, 2, 1, 3)
    return both.reshape(18, 30).to(like)
