# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Weighted alignment of two point sets in closed form, differentiable without touching the SVD."""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul
from implicit_relocalizer.geometry.rigid import rotate, skew, vee


def weighted_kabsch(source_bn3: Tensor, target_bn3: Tensor,
                    weights_bn: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The rigid transform that best maps source points onto target points.

    (R, t) = argmin sum_i w_i || R source_i + t - target_i ||^2 with det R = +1 (Kabsch 1976,
    Umeyama 1991). With camera points as source and world points as target it is the pose
    T_world_camera.

    The derivative comes from the implicit function theorem rather than from the SVD, whose own
    derivative explodes where singular values meet although the rotation is smooth there. At the
    optimum M = R^T H is symmetric (H the cross-covariance); R exp(omega) stays optimal when
    (tr(M) I - M) omega = vee(M - M^T). First derivatives only: the second are not defined here.

    Every input gives a finite result and a finite gradient. Points that are not finite (or
    beyond 1e15) and negative weights count as weight zero. Sets that do not determine the
    rotation (no weight, one or two points, collinear points, or a mirror image with no preferred
    side) are flagged and get one of the optimal rotations, the identity where all are optimal;
    directions that the set leaves open have zero gradient. Coplanar points do determine it.

    Args:
        source_bn3: Points, any float type; half precision is computed in float32.
        target_bn3: Their partners.
        weights_bn: Non-negative weights of any scale.

    Returns:
        (R_b33, t_b3, degenerate_b): the transform, and whether its rotation is not determined.
    """
    if source_bn3.dtype != torch.float64:
        source_bn3, target_bn3 = source_bn3.float(), target_bn3.float()
    reach_bn = torch.maximum(source_bn3.detach().abs(), target_bn3.detach().abs()).amax(-1)
    weights_bn = weights_bn.to(source_bn3.dtype)
    usable_bn = (reach_bn < 1e15) & (weights_bn.detach().abs() < 1e15)
    source_bn3 = source_bn3.masked_fill(~usable_bn.unsqueeze(-1), 0.0)
    target_bn3 = target_bn3.masked_fill(~usable_bn.unsqueeze(-1), 0.0)
    weights_bn = weights_bn.masked_fill(~usable_bn, 0.0).clamp(min=0.0)
    total_b1 = weights_bn.sum(-1, keepdim=True)
    total_b1 = torch.where(total_b1 > 1e-30, total_b1, torch.ones_like(total_b1))
    weights_bn1 = (weights_bn / total_b1).unsqueeze(-1)

    source_mean_b13 = (weights_bn1 * source_bn3).sum(-2, keepdim=True)
    target_mean_b13 = (weights_bn1 * target_bn3).sum(-2, keepdim=True)
    source_bn3 = source_bn3 - source_mean_b13
    weighted_target_bn3 = weights_bn1 * (target_bn3 - target_mean_b13)
    H_b33 = matmul(weighted_target_bn3.transpose(-1, -2), source_bn3)

    # Coordinates carry a rounding error of eps times their size: what that error alone could
    # have produced says nothing about the rotation.
    eps = 2.0 ** -52 if source_bn3.dtype == torch.float64 else 2.0 ** -23
    noise_b = 16 * eps * eps * (_size(source_mean_b13) * _size(target_mean_b13))
    R_b33, inverse_b33, degenerate_b = _optimal_rotation(H_b33.detach(), noise_b, 100 * eps)
    if torch.is_grad_enabled():
        omega_b3 = rotate(inverse_b33, vee(matmul(R_b33.transpose(-1, -2), H_b33)))
        R_b33 = R_b33 + matmul(R_b33, skew(omega_b3 - omega_b3.detach()))
    t_b3 = target_mean_b13.squeeze(-2) - rotate(R_b33, source_mean_b13.squeeze(-2))
    return R_b33, t_b3, degenerate_b


def _optimal_rotation(H_b33: Tensor, noise_b: Tensor,
                      tolerance: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Rotation maximising tr(R^T H), the inverse of tr(M) I - M, and whether R is ambiguous."""
    U_b33, S_b3, Vt_b33 = torch.linalg.svd(H_b33)
    mirrored_b = torch.linalg.det(U_b33) * torch.linalg.det(Vt_b33) < 0
    sign_b = torch.where(mirrored_b, -torch.ones_like(S_b3[..., 0]), torch.ones_like(S_b3[..., 0]))
    signs_b3 = torch.stack([torch.ones_like(sign_b), torch.ones_like(sign_b), sign_b], dim=-1)
    R_b33 = matmul(U_b33 * signs_b3.unsqueeze(-2), Vt_b33)
    signed_b3 = S_b3 * signs_b3
    stiffness_b3 = signed_b3.sum(-1, keepdim=True) - signed_b3
    floor_b = tolerance * S_b3[..., 0] + noise_b
    open_b3 = stiffness_b3 <= floor_b.unsqueeze(-1)
    compliance_b3 = torch.where(open_b3, torch.zeros_like(S_b3),
                                1 / torch.where(open_b3, torch.ones_like(S_b3), stiffness_b3))
    inverse_b33 = matmul(Vt_b33.transpose(-1, -2) * compliance_b3.unsqueeze(-2), Vt_b33)
    eye = torch.eye(3, dtype=H_b33.dtype, device=H_b33.device)
    R_b33 = torch.where((S_b3[..., 0] <= noise_b)[..., None, None], eye, R_b33)
    return R_b33, inverse_b33, open_b3[..., 0]


def _size(mean_b13: Tensor) -> Tensor:
    return mean_b13.detach().abs().amax(-1).squeeze(-1)
