# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid alignment of many small point sets at once, in closed form.

Kabsch's problem by quaternions (Horn, JOSA A 1987): the rotation is the eigenvector of the largest
eigenvalue of a symmetric 4 x 4 matrix N. That eigenvalue is the sum of the singular values of the
cross-covariance, the last one signed, and the largest of these comes from a cubic in closed form
(Smith, CACM 1961). The eigenvector's outer product with itself is the adjugate of N minus the
eigenvalue (Theobald, Acta Cryst. A 2005, has both in this form). Some seventy operations for the
whole batch, against a LAPACK call for each set, and on a GPU without a wait.
"""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul


def quaternion_alignment(source_bk3: Tensor, target_bk3: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The rigid transforms that best map k source points onto k target points each.

    The same as `kabsch.weighted_kabsch` with equal weights where the points determine the
    rotation; computed in float64.

    Args:
        source_bk3: Points, any float type.
        target_bk3: Their partners.

    Returns:
        (R_b33, t_b3, degenerate_b) in the points' type: always finite. Sets that do not determine
        the rotation (repeated or collinear points, mirror images without a preferred side, points
        that are not finite) are flagged and get the identity.
    """
    dtype = source_bk3.dtype
    eps = 2.0 ** -52 if dtype == torch.float64 else 2.0 ** -23
    pairs_bk6 = torch.cat([source_bk3, target_bk3], dim=-1).double()
    mean_b16 = pairs_bk6.mean(-2, keepdim=True)
    pairs_bk6 = pairs_bk6 - mean_b16
    H_b33 = matmul(pairs_bk6[..., 3:].transpose(-1, -2), pairs_bk6[..., :3])
    H_b9 = H_b33.flatten(-2)
    size_b1 = torch.linalg.vector_norm(H_b9, dim=-1, keepdim=True)
    table = _rotation_of_products(H_b9)
    products_916, eye_44 = table.narrow(0, 0, 9), table.narrow(0, 9, 1).view(4, 4)
    # Where H is zero, or no number, so is all that follows, and no comparison with it holds.
    N_b44 = matmul(H_b9 / size_b1, products_916).unflatten(-1, (4, 4))
    N2_b44 = matmul(N_b44, N_b44)
    N3_b44 = matmul(N2_b44, N_b44)
    # Traces of N^3 and N^4; those of N and N^2 are 0 and 4.
    trace3_b11 = (N2_b44 * N_b44).sum((-2, -1), keepdim=True)
    trace4_b11 = (N2_b44 * N2_b44).sum((-2, -1), keepdim=True)
    root_b11 = _largest_root(trace3_b11, trace4_b11)
    # N's characteristic polynomial is x^4 - 2 x^2 + c1 x + c0 by Newton's identities, and by
    # Cayley and Hamilton -adj(N - root I) = N^3 + root N^2 + (root^2 - 2) N + (...) I.
    c1_b11 = trace3_b11 / -3.0
    squared_b11 = root_b11 * root_b11
    by_N_b11 = squared_b11 - 2.0
    outer_b44 = torch.addcmul(N3_b44, root_b11, N2_b44).addcmul(by_N_b11, N_b44).addcmul(
        torch.addcmul(c1_b11, by_N_b11, root_b11), eye_44)
    # Its trace, the polynomial's slope: the product of the root's distances from the others, small
    # where another rotation is as good.
    gap_b1 = torch.addcmul(c1_b11, squared_b11 - 1.0, root_b11, value=4.0).squeeze(-1)
    # What rounding of the coordinates alone could have produced. Of double precision half the
    # digits are left where two roots meet; no gap of a unit matrix is larger than 13.
    reach_b1 = mean_b16.abs().amax(-1)
    noise_b1 = (64.0 * eps * eps * reach_b1 * reach_b1 + 1e-30) / size_b1
    determined_b1 = gap_b1 > 16.0 * noise_b1 + 8e-5
    outer_b16 = torch.where(determined_b1, outer_b44.flatten(-2) / gap_b1, table.narrow(0, 10, 1))
    R_b33 = matmul(outer_b16, products_916.t()).unflatten(-1, (3, 3))
    t_b13 = mean_b16[..., 3:] - matmul(mean_b16[..., :3], R_b33.transpose(-1, -2))
    t_b3 = t_b13.squeeze(-2).nan_to_num(0.0, 0.0, 0.0)
    return R_b33.to(dtype), t_b3.to(dtype), ~determined_b1.squeeze(-1)


def _largest_root(trace3: Tensor, trace4: Tensor) -> Tensor:
    """N's largest eigenvalue, which is the sum s1 + s2 + s3 of H's singular values.

    The last one has the determinant's sign; the sum of their squares is 1. With the squares'
    elementary symmetric polynomials 1, e2 = (tr N^4 - 4) / 16 and det^2 = (tr N^3 / 24)^2 the
    largest square comes from their cubic.
    """
    determinant = trace3 / 24.0
    e2 = trace4 / 16.0 - 0.25
    radius = (1.0 / 9.0 - e2 / 3.0).clamp(min=1e-30).sqrt()
    third = 0.5 * determinant * determinant - e2 / 6.0 + 1.0 / 27.0
    angle = torch.acos((third / (radius * radius * radius)).clamp(-1.0, 1.0)) / 3.0
    largest = 2.0 * radius * torch.cos(angle) + 1.0 / 3.0
    first = largest.sqrt()
    # (s2 + s3)^2 = s2^2 + s3^2 + 2 s2 s3: without a difference that would lose s2's digits.
    others = 1.0 - largest + 2.0 * determinant / first
    return first + others.clamp(min=0.0).sqrt()


def _rotation_of_products(like: Tensor) -> Tensor:
    """(11, 16): the rotation's entries from the products q q^T of a unit quaternion (w, x, y, z).

    As tr(R^T H) = q^T N q, the transpose of these nine rows is the map from H to N. The last two
    rows are the unit matrix and the products of the quaternion of no rotation.
    """
    rows = [
        # ww wx wy wz  xw xx xy xz  yw yx yy yz  zw zx zy zz
        1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1,
        0, 0, 0, -1, 0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 0,
        0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0,
        0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0,
        1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1,
        0, -1, 0, 0, -1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0,
        0, 0, -1, 0, 0, 0, 0, 1, -1, 0, 0, 0, 0, 1, 0, 0,
        0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0,
        1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1,
        1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1,
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    # On the CPU first: there a frozen module has it as a constant.
    return torch.tensor(rows, dtype=torch.float64).view(11, 16).to(like.device)
