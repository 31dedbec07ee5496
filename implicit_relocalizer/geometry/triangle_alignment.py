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
    return align_triangle_pairs(torch.stack([source_h33, target_h33]))


def align_triangle_pairs(points_2h33: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """`align_triangles` of source and target in one tensor."""
    count = points_2h33.shape[1]
    points_2h33 = points_2h33.clamp(-1e6, 1e6)  # beyond, products are too large for float32
    mean_2h13 = points_2h33.mean(2, keepdim=True)
    points_2h33 = points_2h33 - mean_2h13
    first_2h3 = points_2h33[:, :, 0]
    normal_2h3 = torch.linalg.cross(first_2h3, points_2h33[:, :, 1])
    across_2h3 = torch.linalg.cross(normal_2h3, first_2h3)
    axes_2h33 = torch.stack([first_2h3, across_2h3, normal_2h3], dim=2)
    length_2h31 = torch.linalg.vector_norm(axes_2h33, dim=3, keepdim=True)
    # The normal is as long as two thirds of the area: little beside the size where the points are nearly
    # in line, and beside what rounding of the coordinates alone could have produced.
    size_2h = (points_2h33 * points_2h33).sum((2, 3))
    reach_2h = (mean_2h13 * mean_2h13).sum((2, 3))
    is_wide_2h = length_2h31[:, :, 2, 0] > torch.add(size_2h, reach_2h, alpha=1e-7) * 1e-3

    # Rows are the axes from here on. What is no number is so to the end, where it is replaced.
    axes_m33 = (axes_2h33 / length_2h31).flatten(0, 1)
    in_plane_m32 = matmul(points_2h33.flatten(0, 1), axes_m33.narrow(1, 0, 2).transpose(1, 2))
    source_h32, target_h32 = in_plane_m32.narrow(0, 0, count), in_plane_m32.narrow(0, count, count)
    products_h4 = matmul(source_h32.transpose(1, 2), target_h32).flatten(1)
    # xx' + yy' and xy' - yx', the cosine and the sine of the turn but for a factor, as a matrix
    turn_44 = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, -1.0, 1.0, 0.0],
                            [0.0, 1.0, -1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]).to(products_h4)
    turn_h4 = torch.nn.functional.normalize(matmul(products_h4, turn_44), dim=1) * 2.0 ** 0.5
    source_axes_h33 = axes_m33.narrow(0, 0, count)
    turned_h23 = matmul(turn_h4.view(count, 2, 2), source_axes_h33.narrow(1, 0, 2))
    turned_h33 = torch.cat([turned_h23, source_axes_h33.narrow(1, 2, 1)], dim=1)
    R_h33 = matmul(axes_m33.narrow(0, count, count).transpose(1, 2), turned_h33)

    is_determined_h = is_wide_2h.all(0)
    eye_33 = torch.eye(3).to(R_h33)
    R_h33 = torch.where(is_determined_h[:, None, None], R_h33, eye_33)
    t_h13 = mean_2h13[1] - matmul(mean_2h13[0], R_h33.transpose(1, 2))
    return R_h33, t_h13.squeeze(1).nan_to_num(0.0, 0.0, 0.0), ~is_determined_h
