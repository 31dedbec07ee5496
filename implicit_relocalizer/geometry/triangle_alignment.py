# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid alignment of many triangles at once, in closed form.

Kabsch's problem for three points: about their centroids both triangles are flat, so the
cross-covariance is too, and the best rotation lays one plane onto the other with normals that
agree in sense. What is left is a turn in the plane, whose best angle is that of two sums
(Umeyama 1991 in two dimensions). Some forty operations for all of them, against a LAPACK call for
each, and on a GPU without a wait.

Triangles are the last dimension here: a processor takes eight of them at once, where small
matrices would be multiplied one by one.
"""

import math
from typing import Tuple

import torch
from torch import Tensor


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
    R_33h, t_3h, degenerate_h = align_triangle_pairs(
        torch.cat([source_h33, target_h33], dim=2).permute(2, 1, 0))
    return R_33h.permute(2, 0, 1), t_3h.t(), degenerate_h


def align_triangle_pairs(points_63h: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """`align_triangles` of x y z and the partners' x y z, of three points: (R_33h, t_3h, ...)."""
    third, rounding, wide_factor, turn_441, eye_331 = _constants(points_63h)
    # Beyond 1e6 products are too large for float32.
    points_233h = points_63h.clamp(-1e6, 1e6).view(2, 3, 3, -1)  # of either: x y z, of each point
    mean_231h = points_233h.sum(2, keepdim=True) * third
    points_233h = points_233h - mean_231h
    first_23h, second_23h, _ = points_233h.unbind(2)
    normal_23h = torch.linalg.cross(first_23h, second_23h, dim=1)
    across_23h = torch.linalg.cross(normal_23h, first_23h, dim=1)
    axes_233h = torch.stack([first_23h, across_23h, normal_23h], dim=1)  # each x y z
    # Not by vector_norm, which is ten times as slow along any but the last dimension.
    squared_231h = (axes_233h * axes_233h).sum(2, keepdim=True)
    # The normal is as long as two thirds of the area: little beside the size where the points are
    # nearly in line, and beside what rounding of the coordinates alone could have produced.
    rounding_231h = mean_231h * rounding
    size2_2h = torch.addcmul(points_233h * points_233h, rounding_231h, rounding_231h).sum([1, 2])
    is_wide_2h = squared_231h[:, 2, 0] * wide_factor > size2_2h * size2_2h

    # What is no number is so to the end, where it is replaced.
    axes_233h = axes_233h * squared_231h.rsqrt_()
    in_plane_223h = (axes_233h.narrow(1, 0, 2).unsqueeze(3) * points_233h.unsqueeze(1)).sum(2)
    source_23h, target_23h = in_plane_223h.unbind(0)
    products_22h = (source_23h.unsqueeze(1) * target_23h.unsqueeze(0)).sum(2)
    # xx' + yy' and xy' - yx', the cosine and the sine of the turn but for a factor, as a matrix
    turn_22h = (turn_441 * products_22h.view(1, 4, -1)).sum(1).view(2, 2, -1)
    turn_22h = turn_22h * (turn_22h * turn_22h).sum(1, keepdim=True).rsqrt_()
    source_axes_33h, target_axes_33h = axes_233h.unbind(0)
    turned_23h = (turn_22h.unsqueeze(2) * source_axes_33h.narrow(0, 0, 2)).sum(1)
    turned_33h = torch.cat([turned_23h, source_axes_33h.narrow(0, 2, 1)])
    R_33h = (target_axes_33h.unsqueeze(2) * turned_33h.unsqueeze(1)).sum(0)

    source_is_wide_h, target_is_wide_h = is_wide_2h.unbind(0)
    is_determined_h = source_is_wide_h & target_is_wide_h
    R_33h = torch.where(is_determined_h, R_33h, eye_331)
    source_mean_3h, target_mean_3h = mean_231h.squeeze(2).unbind(0)
    t_3h = target_mean_3h - (R_33h * source_mean_3h).sum(1)
    return R_33h, t_3h.nan_to_num(0.0, 0.0, 0.0), ~is_determined_h


def _constants(like: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """1/3; what of a coordinate may be rounding, over the root of three; how much smaller than
    the squared size the normal may be, squared; from products to a turn; no turn."""
    # Made on the CPU, where a frozen module has them as constants.
    turn_44 = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, -1.0, 1.0, 0.0],
                            [0.0, 1.0, -1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    third = torch.tensor(1.0 / 3.0, dtype=torch.float64)
    if like.dtype != torch.float64:
        third = third.float()
    return (third.to(like), torch.tensor(3e-4 / math.sqrt(3.0)).to(like),
            torch.tensor(1e6).to(like), turn_44.unsqueeze(2).to(like),
            torch.eye(3).unsqueeze(2).to(like))
