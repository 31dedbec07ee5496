# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Noisy pixels of known points, for the tests of refinement."""

import numpy as np
import torch

from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.geometry.rigid import so3_exp, transform_points

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
DTYPES = [torch.float32, torch.float64]


def scene(device='cpu', dtype=torch.float64, batch=3, count=300, outliers=0.3, noise_px=0.5,
          offset_m=0.0, skew=0.0):
    """Noisy pixels of world points of which a share is wrong, and a start 10 cm / 5 deg away."""
    generator = torch.Generator().manual_seed(21)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    K_b33 = torch.tensor([[280.0, skew, 160.0], [0.0, 300.0, 118.0], [0.0, 0.0, 1.0]],
                         dtype=torch.float64).expand(batch, 3, 3)
    R_b33, t_b3 = so3_exp(4 * rand(batch, 3) - 2), offset_m + 5 * rand(batch, 3)
    exact_bn2 = rand(batch, count, 2) * torch.tensor([320, 240])
    camera_bn3 = unproject(exact_bn2, K_b33) * (1 + 4 * rand(batch, count, 1))
    world_bn3 = transform_points(R_b33, t_b3, camera_bn3)
    inlier_bn = rand(batch, count) >= outliers
    world_bn3 = torch.where(inlier_bn.unsqueeze(-1), world_bn3, world_bn3 + randn(batch, count, 3))
    pixels_bn2 = exact_bn2 + noise_px * randn(batch, count, 2)
    axis_b3, direction_b3 = (x / x.norm(dim=-1, keepdim=True) for x in randn(2, batch, 3))
    start_R_b33 = so3_exp(np.radians(5) * axis_b3) @ R_b33
    start_t_b3 = t_b3 + 0.1 * direction_b3
    tensors = (R_b33, t_b3, start_R_b33, start_t_b3, world_bn3, pixels_bn2, K_b33)
    return [x.to(device, dtype) for x in tensors], inlier_bn.to(device)
