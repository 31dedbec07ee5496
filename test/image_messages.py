# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages as they come over DDS, and what sensors make of one colour."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image


def image_msg(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """A message whose rows are followed by bytes that are no pixels."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = Image(width=pixels.shape[1], height=len(pixels), encoding=encoding,
                    step=padded.shape[1], data=array('B', padded.tobytes()))
    return deserialize_message(serialize_message(message), Image)  # as it comes over DDS


def compressed_msg(pixels: np.ndarray, image_format: str, extension: str) -> CompressedImage:
    """What OpenCV makes of pixels in OpenCV's order (grey, BGR or BGRA)."""
    encoded, data = cv2.imencode(extension, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert encoded
    message = CompressedImage(format=image_format, data=array('B', data.tobytes()))
    return deserialize_message(serialize_message(message), CompressedImage)


def mosaic(colour, red_at: tuple[int, int], dtype=np.uint8) -> np.ndarray:
    """What a Bayer sensor sees of one colour; red is at that corner of its 2x2 pattern."""
    pattern = np.full((2, 2), colour[1], dtype)
    pattern[red_at], pattern[1 - red_at[0], 1 - red_at[1]] = colour[0], colour[2]
    return np.tile(pattern, (8, 9))


def yuv422(colour, luma_first: bool) -> np.ndarray:
    """Two bytes a pixel: luma, and in turns the one or the other chroma (BT.601)."""
    r, g, b = np.array(colour) / 255.0
    luma = 16.0 + 65.481 * r + 128.553 * g + 24.966 * b
    chroma = [128.0 - 37.797 * r - 74.203 * g + 112.0 * b,
              128.0 + 112.0 * r - 93.786 * g - 18.214 * b]
    pairs = [(luma, c) if luma_first else (c, luma) for c in chroma]
    return np.tile(np.rint(pairs).astype(np.uint8), (16, 9, 1))
