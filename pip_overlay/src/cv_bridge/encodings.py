# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image encodings: their layout, and conversion between them over rosbags-image.

rosbags-image knows the encodings and OpenCV's conversion codes. Which conversions are allowed,
and how depths are scaled and rounded, follows cv_bridge.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray
from rosbags.image import ImageError
from rosbags.image.image import CONVERSIONS, Format, to_cvtype

Image = NDArray

DISPLAY_FORMATS = {Format.GRAY, Format.RGB, Format.BGR, Format.RGBA, Format.BGRA}
YUV_FORMATS = {Format.YUV_UYVY, Format.YUV_YUYV}
BAYER_FORMATS = {Format.BAYER_RG, Format.BAYER_BG, Format.BAYER_GB, Format.BAYER_GR}


class CvBridgeError(TypeError):
    """A message or image cannot be converted as asked."""


@dataclass(frozen=True)
class Encoding:
    """A sensor_msgs encoding; bits is the depth of one channel."""

    name: str
    bits: int
    format: Format
    dtype: np.dtype
    channels: int


def parse_encoding(name: str) -> Encoding:
    """The layout of an encoding.

    Raises:
        CvBridgeError: No such encoding, or one of several planes (nv12, nv21).
    """
    try:
        bits, image_format, dtype, channels = to_cvtype(name)
    except ImageError:
        raise CvBridgeError(f'Unrecognized image encoding [{name}]') from None
    if image_format not in {Format.GENERIC, *DISPLAY_FORMATS, *YUV_FORMATS, *BAYER_FORMATS}:
        raise CvBridgeError(f'Unrecognized image encoding [{name}]')
    return Encoding(name, bits, image_format, np.dtype(dtype), channels)


def convert_encoding(image: Image, source_name: str, target_name: str) -> Image:
    """The image in another encoding; itself if the encodings are the same.

    Raises:
        CvBridgeError: There is no such conversion, or the image is not in the source encoding.
    """
    if source_name == target_name:
        return image
    source, target = parse_encoding(source_name), parse_encoding(target_name)
    _refuse_unless_convertible(source, target)
    if Format.GENERIC not in (source.format, target.format) and source.format != target.format:
        # Not rosbags' convert_color: it takes OpenCV's code 0, which adds alpha, for no code,
        # and leaves images that were scaled to 16 bits in floating point.
        code = CONVERSIONS[source.format, target.format]
        assert code is not None, 'different formats have a code'
        try:
            image = cv2.cvtColor(image, code)
        except cv2.error as error:
            raise CvBridgeError(
                f'Conversion from [{source_name}] to [{target_name}] failed: {error}'
            ) from error
    return _convert_depth(image, source.bits, target.bits, target.dtype)


def _refuse_unless_convertible(source: Encoding, target: Encoding) -> None:
    generic = [encoding for encoding in (source, target) if encoding.format == Format.GENERIC]
    if generic:
        if source.format == Format.GENERIC and target.format != Format.GENERIC:
            raise CvBridgeError(
                f'[{source.name}] is not a color format, but [{target.name}] is. The conversion '
                'does not make sense'
            )
        if source.channels != target.channels:
            raise CvBridgeError(
                f'[{source.name}] and [{target.name}] do not have the same number of channels'
            )
        return
    convertible = (
        source.format == target.format and source.format in DISPLAY_FORMATS | YUV_FORMATS
    ) or (
        target.format in DISPLAY_FORMATS
        and (
            source.format in DISPLAY_FORMATS | YUV_FORMATS
            # OpenCV could add alpha, cv_bridge does not offer it.
            or (source.format in BAYER_FORMATS and target.channels < 4)
        )
    )
    if not convertible:
        raise CvBridgeError(f'Unsupported conversion from [{source.name}] to [{target.name}]')


def _convert_depth(image: Image, bits: int, target_bits: int, dtype: DTypeLike) -> Image:
    """Another number type: 8 and 16 bits scaled to each other's range, rounded, saturated."""
    dtype = np.dtype(dtype)
    if image.dtype == dtype:
        return image
    scale = {(8, 16): 65535.0 / 255.0, (16, 8): 255.0 / 65535.0}.get((bits, target_bits), 1.0)
    scaled = image * scale if scale != 1.0 else image
    if not np.issubdtype(dtype, np.integer):
        return scaled.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(scaled), limits.min, limits.max).astype(dtype)
