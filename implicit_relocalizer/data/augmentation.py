# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Label-true augmentation: a virtual camera at the same place, turned and zoomed.

Turning a pinhole camera about its own centre, zooming it or moving its principal point maps its
image by the homography K_view R_view_camera K^-1 whatever the scene looks like, so the label of
the warped image (K_view, T_world_view) is exact. Nothing else about the scene changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_relocalizer.geometry.camera import resize_intrinsics


@dataclass(frozen=True)
class ViewRange:
    """How far virtual cameras may differ from the real one.

    Attributes:
        roll_deg: Largest turn about the optical axis, either way.
        tilt_deg: Largest turn about the two other axes, either way.
        zoom: Largest factor on the focal length, either way (>= 1).
        shift: Largest move of the principal point, as a fraction of the image size.
        brightness: Largest relative change of gain, either way.
        contrast: Largest relative change of gamma, either way.
    """

    roll_deg: float = 15.0
    tilt_deg: float = 8.0
    zoom: float = 1.4
    shift: float = 0.1
    brightness: float = 0.2
    contrast: float = 0.2


@dataclass(frozen=True)
class Views:
    """A batch of (virtual) camera images with exact labels.

    Attributes:
        images_b3hw: RGB in [0, 1].
        valid_bhw: Whether the pixel was seen by the real camera.
        K_b33: Intrinsics of each view.
        R_world_camera_b33, t_world_camera_b3: Pose of each view.
    """

    images_b3hw: Tensor
    valid_bhw: Tensor
    K_b33: Tensor
    R_world_camera_b33: Tensor
    t_world_camera_b3: Tensor


def draw_views(images_b3hw: Tensor, K_b33: Tensor, R_world_camera_b33: Tensor,
               t_world_camera_b3: Tensor, limits: ViewRange, view_size: tuple[int, int],
               generator: torch.Generator) -> Views:
    """Draw one virtual view (width, height = `view_size`) of every image within the limits."""
    batch = images_b3hw.shape[0]
    width, height = view_size

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator).to(K_b33)

    roll, tilt = math.radians(limits.roll_deg), math.radians(limits.tilt_deg)
    R_camera_view = _euler_xyz(uniform(-tilt, tilt), uniform(-tilt, tilt), uniform(-roll, roll))
    zoom = torch.exp(uniform(-1.0, 1.0) * math.log(limits.zoom))
    K_view = intrinsics_at_size(K_b33, images_b3hw, view_size)
    K_view[:, 0, 0] *= zoom
    K_view[:, 1, 1] *= zoom
    K_view[:, 0, 2] += uniform(-limits.shift, limits.shift) * width
    K_view[:, 1, 2] += uniform(-limits.shift, limits.shift) * height
    warped, valid = warp_to_view(images_b3hw, K_b33, K_view, R_camera_view, view_size)
    gain = torch.exp(uniform(-1.0, 1.0) * math.log1p(limits.brightness))
    gamma = torch.exp(uniform(-1.0, 1.0) * math.log1p(limits.contrast))
    shape = (batch, 1, 1, 1)
    warped = (gain.view(shape) * warped.clamp(min=1e-4) ** gamma.view(shape)).clamp(0.0, 1.0)
    return Views(warped, valid, K_view, R_world_camera_b33 @ R_camera_view, t_world_camera_b3)


def real_views(images_b3hw: Tensor, K_b33: Tensor, R_world_camera_b33: Tensor,
               t_world_camera_b3: Tensor, view_size: tuple[int, int]) -> Views:
    """The real cameras themselves as views, resized as the localizer resizes."""
    width, height = view_size
    resized = torch.nn.functional.interpolate(
        images_b3hw, size=(height, width), mode='bilinear', align_corners=False, antialias=True)
    valid = torch.ones_like(resized[:, 0], dtype=torch.bool)
    K_view = intrinsics_at_size(K_b33, images_b3hw, view_size)
    return Views(resized, valid, K_view, R_world_camera_b33, t_world_camera_b3)


def intrinsics_at_size(K_b33: Tensor, images_b3hw: Tensor, size: tuple[int, int]) -> Tensor:
    """Intrinsics of the images after resizing them to (width, height)."""
    height, width = images_b3hw.shape[-2:]
    return resize_intrinsics(K_b33, size[0] / width, size[1] / height)


def warp_to_view(images_b3hw: Tensor, K_camera_b33: Tensor, K_view_b33: Tensor,
                 R_camera_view_b33: Tensor, view_size: tuple[int, int],
                 ) -> tuple[Tensor, Tensor]:
    """Render what a virtual camera turned by R_camera_view with intrinsics K_view sees.

    Returns:
        The warped images and the mask of pixels that the real camera saw.
    """
    width, height = view_size
    source_height, source_width = images_b3hw.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).to(K_view_b33).reshape(-1, 3)
    H_camera_view = K_camera_b33 @ R_camera_view_b33 @ torch.linalg.inv(K_view_b33)
    seen = pixels @ H_camera_view.transpose(1, 2)
    in_front = seen[..., 2] > 1e-6
    seen_xy = seen[..., :2] / seen[..., 2:].clamp(min=1e-6)
    size = torch.tensor([source_width, source_height]).to(seen_xy)
    inside = ((seen_xy >= 0) & (seen_xy <= size - 1)).all(dim=-1) & in_front
    grid = ((seen_xy + 0.5) / size * 2.0 - 1.0).reshape(-1, height, width, 2)
    warped = torch.nn.functional.grid_sample(
        images_b3hw, grid, mode='bilinear', padding_mode='border', align_corners=False)
    return warped, inside.reshape(-1, height, width)


def points_seen(valid_bhw: Tensor, pixels_bn2: Tensor, cell_px: int) -> Tensor:
    """Whether the real camera saw the whole cell around each pixel: (B, N) bool."""
    unseen_bhw = torch.nn.functional.pad((~valid_bhw).float(), (1, 1, 1, 1), value=0.0)
    height, width = unseen_bhw.shape[1:]
    reach = cell_px // 2  # a window reaches as many pixels up and left as a cell does
    around = torch.nn.functional.max_pool2d(
        unseen_bhw.unsqueeze(1), 2 * reach, stride=1, padding=reach)[:, 0]
    x = (pixels_bn2[..., 0].floor().long() + 2).clamp(0, width)
    y = (pixels_bn2[..., 1].floor().long() + 2).clamp(0, height)
    index = y * around.shape[2] + x
    return around.flatten(1).gather(1, index) == 0


def _euler_xyz(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    cx, sx, cy, sy, cz, sz = x.cos(), x.sin(), y.cos(), y.sin(), z.cos(), z.sin()
    R_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], -1).reshape(-1, 3, 3)
    R_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    R_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return R_x @ R_y @ R_z
