# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints of the training images, described once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_relocalizer.data.augmentation import real_views
from implicit_relocalizer.data.images import PosedImages, as_float_images
from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.network.encoders import Encoder

ENCODING_BATCH = 8


@dataclass(frozen=True)
class Observations:
    """N keypoints of each of I images.

    Attributes:
        features_inc: float16 features.
        pixels_in2: At the network's input size.
        K_i33: Intrinsics at that size.
        R_world_camera_i33, t_local_camera_i3: Camera poses, metres.
        input_size: Width and height.
    """

    features_inc: Tensor
    pixels_in2: Tensor
    K_i33: Tensor
    R_world_camera_i33: Tensor
    t_local_camera_i3: Tensor
    input_size: tuple[int, int]

    @property
    def pixel_scale(self) -> float:
        """Thresholds in pixels are for an image 360 px wide; they grow with the input."""
        return self.input_size[0] / 360.0

    def points_local(self, inverse_depth_in: Tensor) -> Tensor:
        """World points (local origin) on the rays of the keypoints: (I, N, 3), metres."""
        depth = 1.0 / inverse_depth_in.clamp(min=1e-4)
        points_camera = unproject(self.pixels_in2, self.K_i33) * depth.unsqueeze(-1)
        return (points_camera @ self.R_world_camera_i33.transpose(1, 2)
                + self.t_local_camera_i3.unsqueeze(1))


@torch.no_grad()
def observe(images: PosedImages, encoder: Encoder, input_size: tuple[int, int],
            device: torch.device,
            on_progress: Callable[[int], object] = lambda images_done: None) -> Observations:
    """Encode the real views of all images."""
    features, pixels, K = [], [], []
    for first in range(0, len(images), ENCODING_BATCH):
        chosen = slice(first, first + ENCODING_BATCH)
        views = real_views(
            as_float_images(images.images_bhw3[chosen].to(device)),
            images.K_b33[chosen].to(device), images.R_world_camera_b33[chosen].to(device),
            images.t_local_camera_b3[chosen].to(device), input_size)
        features_bnc, pixels_bn2 = encoder.sample(views.images_b3hw)
        features.append(features_bnc.half())
        pixels.append(pixels_bn2.float())
        K.append(views.K_b33)
        on_progress(min(first + ENCODING_BATCH, len(images)))
    return Observations(
        torch.cat(features), torch.cat(pixels), torch.cat(K),
        images.R_world_camera_b33.to(device), images.t_local_camera_b3.to(device), input_size)
