# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From a camera's uint8 image to what networks take, on the device where the image lies."""

import torch
from torch import Tensor


def resize_image(image_hw3: Tensor, width_px: int, height_px: int) -> Tensor:
    """(1, 3, height, width) of a uint8 RGB image, smaller ones without aliases.

    Channels stay the last in memory. On a CPU the bytes themselves are resized and given back,
    which takes a quarter of the time and rounds once more (by a quarter of a grey level on
    average); on a GPU torch resizes floating-point numbers only, which come in [0, 1].
    `Encoder.sample` takes both.
    """
    # In this order torch sees that channels are the last in memory, and takes half the time.
    image = image_hw3.unsqueeze(0).permute(0, 3, 1, 2)
    if image_hw3.is_cuda:
        image = image.float() * (1.0 / 255.0)
    if image_hw3.shape[1] == width_px and image_hw3.shape[0] == height_px:
        return image
    return torch.nn.functional.interpolate(image, size=[height_px, width_px], mode='bilinear',
                                           align_corners=False, antialias=True)


def unit_range(images_b3hw: Tensor) -> Tensor:
    """Float images in [0, 1]: as they are, or of bytes."""
    if images_b3hw.dtype == torch.uint8:
        return images_b3hw.float() * (1.0 / 255.0)
    return images_b3hw
