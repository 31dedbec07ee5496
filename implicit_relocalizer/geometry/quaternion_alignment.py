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
    source_bk3, target_bk3 = source_bk3.double(), target_bk3.double()
    source_mean_b13 = source_bk3.mean(-2, keepdim=True)
    target_mean_b13 = target_bk3.mean(-2, keepdim=True)
    H_b33 = matmul((target_bk3 - target_mean_b13).transpose(-1, -2), source_bk3 - source_mean_b13)
    size_b11 = torch.linalg.vector_norm(H_b33, dim=(-2, -1), keepdim=True)
    # What rounding of the coordinates alone could have produced.
    noise_b11 = 64.0 * eps * eps * (source_mean_b13.abs().amax(-1, keepdim=True)
                                    * target_mean_b13.abs().amax(-1, keepdim=True))
    tells_b11 = (size_b11 > noise_b11 + 1e-30) & (size_b11 < 1e30)  # false for what is no number
    H_b33 = torch.where(tells_b11, H_b33 / size_b11, torch.zeros_like(H_b33))
    products_916 = _rotation_of_products(H_b33)
    N_b44 = matmul(H_b33.flatten(-2), products_916).unflatten(-1, (4, 4))
    N2_b44 = matmul(N_b44, N_b44)
    N3_b44 = matmul(N2_b44, N_b44)
    # N's characteristic polynomial is x^4 - 2 x^2 + c1 x + c0: its eigenvalues' sum is 0, that of
    # their squares 4 |H|^2, and by Newton's identities c1 is -8 det H.
    c1 = (N2_b44 * N_b44).sum((-2, -1), keepdim=True) / -3.0
    root = _singular_sum(H_b33, -0.125 * c1)
    # By Cayley and Hamilton, -adj(N - root I).
    eye = torch.eye(4, dtype=N_b44.dtype, device=N_b44.device)
    squared = root * root - 2.0
    outer_b44 = N3_b44 + root * N2_b44 + squared * N_b44 + (squared * root + c1) * eye
    # The product of the root's distances from the others: small where another rotation is as good.
    gap_b1 = torch.diagonal(outer_b44, dim1=-2, dim2=-1).sum(-1, keepdim=True)
    # Of double precision half the digits are left where two roots meet.
    limit_b1 = 8.0 * (1e-5 + (noise_b11 / size_b11.clamp(min=1e-30)).squeeze(-1))
    determined_b1 = (gap_b1 > limit_b1) & tells_b11.squeeze(-1)
    outer_b16 = torch.where(determined_b1, outer_b44.flatten(-2) / gap_b1.clamp(min=1e-12),
                            eye.flatten() * (eye.flatten().cumsum(0) < 1.5))
    R_b33 = matmul(outer_b16, products_916.t()).unflatten(-1, (3, 3))
    t_b3 = (target_mean_b13 - matmul(source_mean_b13, R_b33.transpose(-1, -2))).squeeze(-2)
    t_b3 = t_b3.nan_to_num(0.0, 0.0, 0.0)
    return R_b33.to(dtype), t_b3.to(dtype), ~determined_b1.squeeze(-1)


def _singular_sum(H_b33: Tensor, determinant_b11: Tensor) -> Tensor:
    """The sum of the singular values of unit matrices, the last one with the determinant's sign.

    The squares are the eigenvalues of H^T H, whose sum is 1.
    """
    eye = torch.eye(3, dtype=H_b33.dtype, device=H_b33.device)
    D_b33 = matmul(H_b33.transpose(-1, -2), H_b33) - eye / 3.0
    radius = ((D_b33 * D_b33).sum((-2, -1), keepdim=True) / 6.0).sqrt()
    third = (matmul(D_b33, D_b33) * D_b33).sum((-2, -1), keepdim=True) / 6.0
    cosine = (third / (radius * radius * radius).clamp(min=1e-30)).clamp(-1.0, 1.0)
    angle = torch.acos(cosine) / 3.0
    largest = 1.0 / 3.0 + 2.0 * radius * torch.cos(angle)
    first = largest.sqrt()
    # (s2 + s3)^2 = s2^2 + s3^2 + 2 s2 s3: without a difference that would lose s2's digits.
    others = 1.0 - largest + 2.0 * determinant_b11 / first
    return first + others.clamp(min=0.0).sqrt()


def _rotation_of_products(like: Tensor) -> Tensor:
    """(9, 16): the rotation's entries from the products q q^T of a unit quaternion (w, x, y, z).

    As tr(R^T H) = q^T N q, its transpose is the map from H to N.
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
        1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]
    return torch.tensor(rows, dtype=like.dtype, device=like.device).view(9, 16)
