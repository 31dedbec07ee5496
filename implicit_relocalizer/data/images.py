# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From frames to tensors: decoded images and their camera labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from implicit_relocalizer.data.frames import Frame, SceneError
from implicit_relocalizer.data.lens import undistort


@dataclass(frozen=True)
class PosedImages:
    """Images in memory with their labels, in the order of their frames.

    Attributes:
        images_bhw3: uint8 RGB.
        K_b33: float32 intrinsics of these images.
        R_world_camera_b33: float32.
        t_local_camera_b3: float32 camera positions relative to `origin_world_3`, metres.
        origin_world_3: float64 origin of the local frame that training works in (its axes are
            the world's), so that maps far from their origin keep float32 accuracy.
    """

    images_bhw3: Tensor
    K_b33: Tensor
    R_world_camera_b33: Tensor
    t_local_camera_b3: Tensor
    origin_world_3: Tensor

    def __len__(self) -> int:
        return self.images_bhw3.shape[0]


def read_image(path: Path) -> Tensor:
    """Decode an image to (H, W, 3) uint8 RGB.

    Raises:
        SceneError: missing, no image, or cut off.
    """
    return _decode(path, None)


def read_frame_image(frame: Frame) -> Tensor:
    """The pinhole image that the frame's `K_33` belongs to: (H, W, 3) uint8 RGB.

    Raises:
        SceneError: missing, no image, cut off, or not of the size that its lens is for.
    """
    image_hw3 = _decode(frame.image_path, frame.image_bytes)
    if frame.lens is None:
        return image_hw3
    size = (image_hw3.shape[1], image_hw3.shape[0])
    if size != frame.lens.image_size:
        raise SceneError(f'{frame.image_path}: {size[0]}x{size[1]} while its camera is calibrated '
                         f'at {frame.lens.image_size[0]}x{frame.lens.image_size[1]}')
    return torch.from_numpy(undistort(image_hw3.numpy(), frame.lens, frame.K_33))


def load_posed_images(frames: Sequence[Frame], origin_world_3: Tensor | None = None,
                      ) -> PosedImages:
    """Decode all frames once.

    Args:
        frames: At least one; all of one image size.
        origin_world_3: Origin of the local frame; the mean camera position when None.
    """
    T_b44 = torch.from_numpy(np.stack([frame.T_world_camera for frame in frames]))
    origin = T_b44[:, :3, 3].mean(dim=0) if origin_world_3 is None else origin_world_3
    return PosedImages(
        images_bhw3=torch.stack([read_frame_image(frame) for frame in frames]),
        K_b33=torch.from_numpy(np.stack([frame.K_33 for frame in frames])).float(),
        R_world_camera_b33=T_b44[:, :3, :3].float(),
        t_local_camera_b3=(T_b44[:, :3, 3] - origin).float(),
        origin_world_3=origin)


def as_float_images(images_bhw3: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1]."""
    return images_bhw3.permute(0, 3, 1, 2).float() / 255.0


def _decode(path: Path, encoded: bytes | None) -> Tensor:
    try:
        with Image.open(path if encoded is None else io.BytesIO(encoded)) as image:
            return torch.from_numpy(np.array(image.convert('RGB')))
    except FileNotFoundError:
        raise SceneError(f'{path}: no such image') from None
    except (UnidentifiedImageError, OSError) as error:
        raise SceneError(f'{path}: cannot be decoded ({error}); replace or remove it') from None
