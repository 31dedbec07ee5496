# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages to RGB arrays, without ROS.

The node converts by cv_bridge, a replay of its recording by OpenCV alone, and both see the same.
The same images mean the same here as in a bag that a map is learned from
(`data/readers/bag_images.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.localization.rejection import NoPoseError, Reason

# These name no colours, yet drivers send pictures under them.
_PICTURES_WITHOUT_COLOUR_NAME = {'8UC1': 'mono8', '8UC3': 'bgr8'}
_DEPTH_ENCODINGS = ('16UC1', '32FC1')
_JPEG_START, _JPEG_SCAN, _JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'


# (H, W) or (H, W, channels) without padding, and their encoding, to (H, W, 3) RGB of 8 bits.
# Raises ValueError with the reason where that cannot be done.
Convert = Callable[[NDArray[Any], str], NDArray[Any]]


class _Encoding(NamedTuple):
    """How the bytes of a raw image become RGB: channels, bits of one, OpenCV's conversion."""

    channels: int
    bits: int
    to_rgb: int | None


def _encodings() -> dict[str, _Encoding]:
    table = {
        'mono': (1, cv2.COLOR_GRAY2RGB), 'rgb': (3, None), 'bgr': (3, cv2.COLOR_BGR2RGB),
        'rgba': (4, cv2.COLOR_RGBA2RGB), 'bgra': (4, cv2.COLOR_BGRA2RGB),
        # OpenCV names Bayer patterns by the second row's second and third pixel.
        'bayer_rggb': (1, cv2.COLOR_BayerBG2RGB), 'bayer_bggr': (1, cv2.COLOR_BayerRG2RGB),
        'bayer_gbrg': (1, cv2.COLOR_BayerGR2RGB), 'bayer_grbg': (1, cv2.COLOR_BayerGB2RGB)}
    encodings = {f'{name}{bits}': _Encoding(channels, bits, code)
                 for name, (channels, code) in table.items() for bits in (8, 16)}
    for name in ('yuv422', 'uyvy'):
        encodings[name] = _Encoding(2, 8, cv2.COLOR_YUV2RGB_UYVY)
    for name in ('yuv422_yuy2', 'yuyv'):
        encodings[name] = _Encoding(2, 8, cv2.COLOR_YUV2RGB_YUYV)
    for name, meant in _PICTURES_WITHOUT_COLOUR_NAME.items():
        encodings[name] = encodings[meant]
    return encodings


ENCODINGS = _encodings()


def convert_by_opencv(pixels: NDArray[Any], encoding: str) -> NDArray[Any]:
    """`Convert` as cv_bridge does, where there is none."""
    known = ENCODINGS[encoding]
    if known.to_rgb is not None:
        try:
            pixels = cv2.cvtColor(pixels, known.to_rgb)
        except cv2.error as error:  # such as YUV 4:2:2 of an odd width
            raise ValueError(str(error)) from error
    return np.rint(pixels * (255.0 / 65535.0)) if known.bits == 16 else pixels


def rgb_from_message(message: Any, convert: Convert = convert_by_opencv) -> NDArray[np.uint8]:
    """Decode an image message to contiguous, writable H x W x 3 RGB.

    Images of 16 bits become 8 bit ones over their whole range. The result may share the memory
    of the message.

    Args:
        message: With the fields of sensor_msgs/Image, in one of `ENCODINGS`, rows padded by any
            number of bytes; or of sensor_msgs/CompressedImage with JPEG or PNG data (or what else
            OpenCV reads), in the format field image_transport's 'ENCODING; CODEC compressed
            STORED' or anything.
        convert: Makes RGB of what is there.

    Raises:
        NoPoseError: `BIG_ENDIAN`, or `ENCODING` for an unknown encoding, depth, damaged data, or
            less data than announced.
    """
    if hasattr(message, 'format'):
        pixels, name = _decompress(message)
        return _to_rgb(pixels, name, name, convert)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise _encoding_error(message.encoding, 'it is unknown, or names no colours')
    if message.is_bigendian and encoding.bits > 8:
        raise NoPoseError(
            Reason.BIG_ENDIAN,
            f"a big-endian image in encoding '{message.encoding}' is not supported; let its "
            f'publisher send little-endian or 8 bit images')
    name = _PICTURES_WITHOUT_COLOUR_NAME.get(message.encoding, message.encoding)
    return _to_rgb(_raw_pixels(message, encoding), name, message.encoding, convert)


def _to_rgb(pixels: NDArray[Any], encoding: str, name: str, convert: Convert) -> NDArray[np.uint8]:
    try:
        rgb_hw3 = convert(pixels, encoding)
    except ValueError as error:
        raise _encoding_error(name, ' '.join(str(error).split())) from error
    # torch takes no read-only memory, which a view of the message can be.
    return np.require(rgb_hw3, np.uint8, ['C', 'W'])


def _raw_pixels(message: Any, encoding: _Encoding) -> NDArray[Any]:
    """(H, W) or (H, W, channels) without the bytes behind each row."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    row_bytes = width * encoding.channels * encoding.bits // 8
    needed_bytes = step * (height - 1) + row_bytes  # the last row may lack its padding
    if height == 0 or row_bytes == 0 or step < row_bytes or len(message.data) < needed_bytes:
        raise NoPoseError(
            Reason.ENCODING,
            f'the image holds {len(message.data)} bytes but its header announces '
            f"{width}x{height} pixels in '{message.encoding}', in rows of {step} bytes; check "
            f'its publisher')
    data = np.frombuffer(message.data, np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1),
                                           writeable=data.flags.writeable)
    pixels = np.ascontiguousarray(rows).view(np.uint16 if encoding.bits == 16 else np.uint8)
    return pixels.reshape((height, width) if encoding.channels == 1
                          else (height, width, encoding.channels))


def _decompress(message: Any) -> tuple[NDArray[Any], str]:
    """The pixels that were compressed and their encoding, one of `ENCODINGS`."""
    source, stored = _parse_format(message.format)
    if 'compressedDepth' in message.format or source in _DEPTH_ENCODINGS:
        raise _compressed_error(message, 'is depth, no picture', 'remap image to a colour camera')
    data = bytes(message.data)
    # OpenCV 4.6 fills up what is missing of a JPEG with grey, 5.0 refuses.
    is_cut_off = data.startswith(_JPEG_START) and data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN)
    try:
        pixels = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                  if data and not is_cut_off else None)
    except cv2.error:  # such as a header that announces a gigapixel
        pixels = None
    if pixels is None:
        raise _compressed_error(message, 'cannot be decoded, being cut off, damaged or neither '
                                'JPEG nor PNG', 'let its publisher send whole JPEG or PNG images')
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    names = {1: 'mono', 3: 'bgr', 4: 'bgra'}
    if pixels.dtype not in (np.uint8, np.uint16) or channels not in names:
        raise _compressed_error(message, f'has {channels} channels of {pixels.dtype}',
                                'let its publisher send pictures of 8 or 16 bits')
    if channels == 3 and stored.startswith('rgb'):
        names[3] = 'rgb'  # red and blue were exchanged before the compression
    mosaic = (stored or source).rstrip('0123456789')
    if f'{mosaic}8' in ENCODINGS and mosaic.startswith('bayer_'):
        names[1] = mosaic
    return pixels, f'{names[channels]}{8 * pixels.dtype.itemsize}'


def _parse_format(text: str) -> tuple[str, str]:
    """Encodings of the source and of what was compressed, each empty where it is not told.

    compressed_image_transport writes 'bayer_rggb8; png compressed ' for a mosaic as it is and
    'bayer_rggb8; jpeg compressed mono8' for grey; other publishers write just 'jpeg'.
    """
    source, separator, rest = text.partition(';')
    stored = re.search(r'compressed\s+(\w+)', rest)
    return source.strip() if separator else '', stored.group(1) if stored else ''


def _encoding_error(encoding: str, problem: str) -> NoPoseError:
    return NoPoseError(
        Reason.ENCODING, f"an image in encoding '{encoding}' cannot be converted to rgb8 "
                         f'({problem}); let its publisher send rgb8, bgr8 or mono8')


def _compressed_error(message: Any, problem: str, remedy: str) -> NoPoseError:
    return NoPoseError(Reason.ENCODING, f"a compressed image ({len(message.data)} bytes, format "
                                        f"'{message.format}') {problem}; {remedy}")
