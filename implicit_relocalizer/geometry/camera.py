# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras: pixels to rays and back, and intrinsics that follow resizing and cropping.

Camera axes are x right, y down, z forward; pixel centres are at integers; K is upper triangular
with last row 0 0 1. Every function takes any leading batch dimensions and can be scripted.
"""

from typing import Tuple

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul


def unproject(pixels_bn2: Tensor, K_b33: Tensor) -> Tensor:
    """Rays through pixels: K^-1 [u, v, 1].

    Args:
        pixels_bn2: Pixel coordinates (u, v).
        K_b33: Intrinsics.

    Returns:
        rays_bn3 with z = 1, in the camera frame; times depth they are points in metres.
    """
    K_b133 = K_b33.unsqueeze(-3)
    y = (pixels_bn2[..., 1] - K_b133[..., 1, 2]) / K_b133[..., 1, 1]
    x = (pixels_bn2[..., 0] - K_b133[..., 0, 2] - K_b133[..., 0, 1] * y) / K_b133[..., 0, 0]
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def project(points_camera_bn3: Tensor, K_b33: Tensor,
            min_depth_m: float = 0.1) -> Tuple[Tensor, Tensor]:
    """Pixels and depths of points in the camera frame.

    The division uses max(z, min_depth_m), so that neither value nor gradient is ever infinite;
    whoever needs to know whether a point is in front of the camera asks its depth.

    Args:
        points_camera_bn3: Points in metres, camera frame.
        K_b33: Intrinsics.
        min_depth_m: Least depth to divide by; larger than zero.

    Returns:
        (pixels_bn2, depth_bn): depth_bn is the true z in metres, also where it is negative.
    """
    depth_bn = points_camera_bn3[..., 2]
    plane_bn2 = points_camera_bn3[..., :2] / depth_bn.clamp(min=min_depth_m).unsqueeze(-1)
    pixels_bn2 = matmul(plane_bn2, K_b33[..., :2, :2].transpose(-1, -2))
    return pixels_bn2 + K_b33[..., None, :2, 2], depth_bn


def resize_intrinsics(K_b33: Tensor, scale_x: float, scale_y: float) -> Tensor:
    """Intrinsics of the image resized by (scale_x, scale_y): f' = f s, c' = (c + 0.5) s - 0.5."""
    return _image_map(K_b33, scale_x, scale_y, 0.5 * scale_x - 0.5, 0.5 * scale_y - 0.5)


def crop_intrinsics(K_b33: Tensor, left_px: float, top_px: float) -> Tensor:
    """Intrinsics of the crop whose pixel (0, 0) was pixel (left_px, top_px)."""
    return _image_map(K_b33, 1.0, 1.0, -left_px, -top_px)


def _image_map(K_b33: Tensor, scale_x: float, scale_y: float, x_px: float, y_px: float) -> Tensor:
    # Row by row with plain numbers: a tensor of them would be copied to a GPU for every image.
    last_b13 = K_b33.narrow(-2, 2, 1)
    return torch.cat([torch.add(K_b33.narrow(-2, 0, 1) * scale_x, last_b13, alpha=x_px),
                      torch.add(K_b33.narrow(-2, 1, 1) * scale_y, last_b13, alpha=y_px),
                      last_b13], dim=-2)
