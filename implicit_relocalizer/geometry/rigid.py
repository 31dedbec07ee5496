# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations and rigid transforms as (R, t) pairs, with gradients that are finite everywhere.

`R_a_b, t_a_b` map coordinates in frame b to frame a: x_a = R_a_b x_b + t_a_b. Every function
takes any leading batch dimensions and can be scripted. The exponential and logarithm formulas are
those of Solà, Deray and Atchuthan, "A micro Lie theory for state estimation in robotics"
(arXiv 1812.01537), with the translation first.
"""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul


def transform_points(R_a_b_b33: Tensor, t_a_b_b3: Tensor, points_b_bn3: Tensor) -> Tensor:
    """Points given in frame b, in frame a: R p + t for each of N points a transform."""
    return matmul(points_b_bn3, R_a_b_b33.transpose(-1, -2)) + t_a_b_b3.unsqueeze(-2)


def rotate(R_a_b_b33: Tensor, v_b_b3: Tensor) -> Tensor:
    """R v for one vector a rotation."""
    return matmul(R_a_b_b33, v_b_b3.unsqueeze(-1)).squeeze(-1)


def compose(R_a_b: Tensor, t_a_b: Tensor, R_b_c: Tensor, t_b_c: Tensor) -> Tuple[Tensor, Tensor]:
    """(R_a_c, t_a_c): first from c to b, then from b to a."""
    return matmul(R_a_b, R_b_c), rotate(R_a_b, t_b_c) + t_a_b


def invert(R_a_b: Tensor, t_a_b: Tensor) -> Tuple[Tensor, Tensor]:
    """(R_b_a, t_b_a) of (R_a_b, t_a_b)."""
    R_b_a = R_a_b.transpose(-1, -2)
    return R_b_a, -rotate(R_b_a, t_a_b)


def skew(v_b3: Tensor) -> Tensor:
    """The matrix [v] with [v] x = v cross x."""
    x, y, z = v_b3.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))


def vee(M_b33: Tensor) -> Tensor:
    """The vector v with [v] = M - M^T: twice the inverse of `skew` on skew-symmetric matrices."""
    return torch.stack([M_b33[..., 2, 1] - M_b33[..., 1, 2],
                        M_b33[..., 0, 2] - M_b33[..., 2, 0],
                        M_b33[..., 1, 0] - M_b33[..., 0, 1]], dim=-1)


def so3_exp(v_b3: Tensor) -> Tensor:
    """Rotation by |v| radians about the axis v (Rodrigues' formula)."""
    sinc, half_versine, _ = _exponential_terms((v_b3 * v_b3).sum(-1))
    V = skew(v_b3)
    eye = torch.eye(3, dtype=v_b3.dtype, device=v_b3.device)
    return eye + sinc[..., None, None] * V + half_versine[..., None, None] * matmul(V, V)


def so3_log(R_b33: Tensor) -> Tensor:
    """Rotation vector of R, with angle in [0, pi] radians; accurate near 0 and near pi.

    By the quaternion read from the best conditioned row of 4 q q^T, which is linear in R. At an
    angle of exactly pi one of the two opposite vectors is returned.
    """
    r00, r11, r22 = R_b33[..., 0, 0], R_b33[..., 1, 1], R_b33[..., 2, 2]
    x_y, x_z = R_b33[..., 0, 1] + R_b33[..., 1, 0], R_b33[..., 0, 2] + R_b33[..., 2, 0]
    y_z = R_b33[..., 1, 2] + R_b33[..., 2, 1]
    x_w, y_w, z_w = vee(R_b33).unbind(-1)
    # The diagonal sums to 4 for any matrix, so that the chosen row is never shorter than 1.
    rows = torch.stack([1 + r00 - r11 - r22, x_y, x_z, x_w,
                        x_y, 1 - r00 + r11 - r22, y_z, y_w,
                        x_z, y_z, 1 - r00 - r11 + r22, z_w,
                        x_w, y_w, z_w, 1 + r00 + r11 + r22], dim=-1).unflatten(-1, (4, 4))
    best = torch.diagonal(rows, dim1=-2, dim2=-1).argmax(-1)
    one_hot = torch.nn.functional.one_hot(best, 4).to(rows.dtype)
    q = (one_hot.unsqueeze(-1) * rows).sum(-2)
    q = q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)
    q = torch.where(q[..., 3:] < 0, -q, q)
    sine2, cosine = (q[..., :3] * q[..., :3]).sum(-1), q[..., 3]
    small = sine2 < 1e-4
    sine = torch.where(small, torch.ones_like(sine2), sine2).sqrt()
    tan2 = torch.where(small, sine2 / torch.where(small, cosine, torch.ones_like(cosine)) ** 2,
                       torch.zeros_like(sine2))
    series = (1 - tan2 * (1 / 3 - tan2 * (1 / 5 - tan2 / 7)))
    series = series / torch.where(small, cosine, torch.ones_like(cosine))
    angle_per_sine = 2 * torch.where(small, series, torch.atan2(sine, cosine) / sine)
    return angle_per_sine.unsqueeze(-1) * q[..., :3]


def se3_exp(xi_b6: Tensor) -> Tuple[Tensor, Tensor]:
    """(R, t) of the twist xi = (rho, phi): R = exp(phi), t = V(phi) rho."""
    rho, phi = xi_b6[..., :3], xi_b6[..., 3:]
    sinc, half_versine, third = _exponential_terms((phi * phi).sum(-1))
    P = skew(phi)
    P2 = matmul(P, P)
    eye = torch.eye(3, dtype=xi_b6.dtype, device=xi_b6.device)
    R = eye + sinc[..., None, None] * P + half_versine[..., None, None] * P2
    V = eye + half_versine[..., None, None] * P + third[..., None, None] * P2
    return R, rotate(V, rho)


def se3_log(R_b33: Tensor, t_b3: Tensor) -> Tensor:
    """The twist xi = (rho, phi) with se3_exp(xi) = (R, t)."""
    phi = so3_log(R_b33)
    angle2 = (phi * phi).sum(-1)
    small = angle2 < 1e-2
    few = torch.where(small, angle2, torch.zeros_like(angle2))
    series = 1 / 12 + few * (1 / 720 + few * (1 / 30240 + few / 1209600))
    half = 0.5 * torch.where(small, torch.ones_like(angle2), angle2).sqrt()
    closed = (1 - half * half.cos() / half.sin()) / (4 * half * half)
    P = skew(phi)
    eye = torch.eye(3, dtype=phi.dtype, device=phi.device)
    quadratic = torch.where(small, series, closed)[..., None, None] * matmul(P, P)
    return torch.cat([rotate(eye - 0.5 * P + quadratic, t_b3), phi], dim=-1)


def geodesic_angle(R_a_b33: Tensor, R_b_b33: Tensor) -> Tensor:
    """Angle in [0, pi] radians of the rotation between two orientations.

    atan2(|vee(D)| / 2, (tr D - 1) / 2) with D = R_a^T R_b keeps full precision near 0 and near pi,
    where the arc cosine loses half its digits and its gradient is infinite. At exactly 0 and pi,
    where the angle has a kink, the gradient is zero.
    """
    D = matmul(R_a_b33.transpose(-1, -2), R_b_b33)
    sine = 0.5 * torch.linalg.vector_norm(vee(D), dim=-1)
    cosine = 0.5 * (torch.diagonal(D, dim1=-2, dim2=-1).sum(-1) - 1)
    return torch.atan2(sine, cosine)


def _exponential_terms(angle2: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """sin(x)/x, (1 - cos x)/x^2 and (x - sin x)/x^3 of x^2, smooth through zero."""
    small = angle2 < 0.25
    few = torch.where(small, angle2, torch.zeros_like(angle2))
    many = torch.where(small, torch.ones_like(angle2), angle2)
    angle = many.sqrt()
    sine = angle.sin()
    return (torch.where(small, _alternating_series(few, 1), sine / angle),
            torch.where(small, _alternating_series(few, 2), (1 - angle.cos()) / many),
            torch.where(small, _alternating_series(few, 3), (angle - sine) / (many * angle)))


def _alternating_series(x2: Tensor, first: int) -> Tensor:
    """sum_k (-x2)^k / (2 k + first)!, exact to float64 for x2 < 0.25; first is 1, 2 or 3."""
    total = torch.ones_like(x2)
    for k in range(6, 0, -1):
        total = 1 - x2 * total / float((2 * k + first) * (2 * k + first - 1))
    return total / (6.0 if first == 3 else float(first))
