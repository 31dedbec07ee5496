# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages to encoded images: JPEG and PNG as they are, raw ones as lossless PNG.

The conversion is our own: that of rosbags-image 0.10 ignores the row step and mixes up alpha.
"""

from __future__ import annotations

import io
import re
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

RAW_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (RAW_TYPE, COMPRESSED_TYPE)

# Kinds of images that `read_frame_image` shows as they were meant.
_PLAIN_MODES = ('L', 'RGB', 'RGBA')
_PNG_SPEED = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class ImageMessageError(ValueError):
    """An image message cannot be used; the message is the reason, without the stamp."""


class EncodedImage(NamedTuple):
    """A PNG, JPEG, ... and its width and height in pixels."""

    data: bytes
    size: tuple[int, int]


class _Encoding(NamedTuple):
    """How the bytes of a raw image become BGR: channels, bits of one, OpenCV's conversion."""

    channels: int
    bits: int
    to_bgr: int | None


def _encodings() -> dict[str, _Encoding]:
    table = {
        'mono': (1, None), 'rgb': (3, cv2.COLOR_RGB2BGR), 'bgr': (3, None),
        'rgba': (4, cv2.COLOR_RGBA2BGR), 'bgra': (4, cv2.COLOR_BGRA2BGR),
        # OpenCV names Bayer patterns by the second row's second and third pixel.
        'bayer_rggb': (1, cv2.COLOR_BayerBG2BGR), 'bayer_bggr': (1, cv2.COLOR_BayerRG2BGR),
        'bayer_gbrg': (1, cv2.COLOR_BayerGR2BGR), 'bayer_grbg': (1, cv2.COLOR_BayerGB2BGR)}
    encodings = {f'{name}{bits}': _Encoding(channels, bits, code)
                 for name, (channels, code) in table.items() for bits in (8, 16)}
    for name in ('yuv422', 'uyvy'):
        encodings[name] = _Encoding(2, 8, cv2.COLOR_YUV2BGR_UYVY)
    for name in ('yuv422_yuy2', 'yuyv'):
        encodings[name] = _Encoding(2, 8, cv2.COLOR_YUV2BGR_YUYV)
    encodings['8UC1'] = encodings['mono8']
    encodings['8UC3'] = encodings['bgr8']
    return encodings


ENCODINGS = _encodings()


def shows_a_scene(message: Any) -> bool:
    """Whether an image message is a picture, not depth or something unknown."""
    if hasattr(message, 'format'):
        return 'compressedDepth' not in message.format and not message.format.startswith(
            ('16UC1', '32FC1'))
    return message.encoding in ENCODINGS


def encode_image(message: Any) -> EncodedImage:
    """The image of a sensor_msgs/Image or CompressedImage as bytes that Pillow decodes to RGB.

    16 bit images become 8 bit ones over their whole range, as cv_bridge does it.

    Raises:
        ImageMessageError: unknown encoding, big-endian, too few bytes, or not decodable.
    """
    if hasattr(message, 'format'):
        return _check_compressed(bytes(message.data), message.format)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageMessageError(f'encoding {message.encoding!r} is none of '
                                f'{", ".join(sorted(ENCODINGS))}')
    if message.is_bigendian and encoding.bits == 16:
        raise ImageMessageError(f'big-endian {message.encoding} images are not supported')
    return _as_png(_raw_pixels(message, encoding), encoding)


def _raw_pixels(message: Any, encoding: _Encoding) -> NDArray[np.generic]:
    """(H, W) or (H, W, channels) without the bytes behind each row."""
    width, height, step = int(message.width), int(message.height), int(message.step)
    row_bytes = width * encoding.channels * encoding.bits // 8
    data = np.frombuffer(message.data, np.uint8)
    needed_bytes = step * (height - 1) + row_bytes  # the last row may lack its padding
    if width <= 0 or height <= 0 or step < row_bytes or len(data) < needed_bytes:
        raise ImageMessageError(
            f'{len(data)} bytes in rows of {step} are too few for {width}x{height} pixels in '
            f'{message.encoding}')
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False)
    pixels = np.ascontiguousarray(rows).view(np.uint16 if encoding.bits == 16 else np.uint8)
    shape = (height, width) if encoding.channels == 1 else (height, width, encoding.channels)
    return pixels.reshape(shape)


def _check_compressed(data: bytes, image_format: str) -> EncodedImage:
    """The bytes as they are where they decode to what they mean, else the same image as PNG."""
    # image_transport: 'ENCODING; CODEC compressed STORED', the older form is 'CODEC' alone.
    # STORED is empty where a PNG keeps a mosaic as it came.
    stored = re.search(r'compressed\s+(\w+)|^(bayer_\w+);(?!.*compressed\s+\w)', image_format)
    stored_encoding = (stored.group(1) or stored.group(2)) if stored else ''
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # Pillow, unlike OpenCV, refuses what is cut off
            size, mode = image.size, image.mode
    except UnidentifiedImageError:
        raise ImageMessageError('cannot be decoded (no JPEG, PNG or other image)') from None
    except (OSError, ValueError, SyntaxError):  # SyntaxError is Pillow's for a broken PNG
        raise ImageMessageError('cannot be decoded (cut off or damaged)') from None
    is_swapped = stored_encoding.startswith('rgb') and mode == 'RGB'
    is_mosaic = stored_encoding.startswith('bayer_') and stored_encoding in ENCODINGS
    if mode in _PLAIN_MODES and not is_swapped and not is_mosaic:
        return EncodedImage(data, size)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageMessageError(f'cannot be decoded (a {mode} image that OpenCV refuses)')
    bits = 16 if pixels.dtype == np.uint16 else 8
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    to_bgr = {1: None, 3: cv2.COLOR_RGB2BGR if is_swapped else None, 4: cv2.COLOR_BGRA2BGR}
    if is_mosaic and channels == 1:
        to_bgr[1] = ENCODINGS[stored_encoding].to_bgr
    if channels not in to_bgr or pixels.dtype not in (np.uint8, np.uint16):
        raise ImageMessageError(f'cannot be decoded (a {mode} image)')
    return _as_png(pixels, _Encoding(channels, bits, to_bgr[channels]))


def _as_png(pixels: NDArray[Any], encoding: _Encoding) -> EncodedImage:
    try:
        if encoding.bits == 16:
            pixels = cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0)
        if encoding.to_bgr is not None:
            pixels = cv2.cvtColor(pixels, encoding.to_bgr)
        _, data = cv2.imencode('.png', pixels, _PNG_SPEED)
    except cv2.error as error:  # such as YUV 4:2:2 of an odd width
        raise ImageMessageError(f'cannot be converted ({error.err})') from None
    return EncodedImage(data.tobytes(), (pixels.shape[1], pixels.shape[0]))
