# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages to RGB arrays, with the conversions of cv_bridge.

The same images mean the same here as in a bag that a map is learned from
(`data/readers/bag_images.py`).
"""

from __future__ import annotations

import contextlib
import copy
import re
from array import array
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge, CvBridgeError
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from implicit_relocalizer.localization.rejection import NoPoseError, Reason

# cv_bridge knows no colours in these, yet drivers send pictures under them.
_PICTURES_WITHOUT_COLOUR_NAME = {'8UC1': 'mono8', '8UC3': 'bgr8'}
_DEPTH_ENCODINGS = ('16UC1', '32FC1')
_JPEG_START, _JPEG_SCAN, _JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'


def rgb_from_msg(bridge: CvBridge, message: Image | CompressedImage) -> NDArray[np.uint8]:
    """Decode an image message to contiguous, writable H x W x 3 RGB.

    Images of 16 bits become 8 bit ones over their whole range. The result may share the memory
    of the message.

    Args:
        bridge: Does the conversions.
        message: An Image of any encoding that cv_bridge can convert to rgb8, 8UC1 (taken for
            mono8) or 8UC3 (bgr8), rows padded by any number of bytes; or a CompressedImage of
            JPEG or PNG data (or what else OpenCV reads), in the format field image_transport's
            'ENCODING; CODEC compressed STORED' or anything.

    Raises:
        NoPoseError: `BIG_ENDIAN`, or `ENCODING` for an unknown encoding, depth, damaged data, or
            less data than announced.
    """
    if isinstance(message, CompressedImage):
        pixels, encoding = _decompress(bridge, message)
        if encoding == 'bgr8':  # the usual case, without the copies that a message takes
            return np.require(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8, ['C', 'W'])
        message = bridge.cv2_to_imgmsg(pixels, encoding)
    name = _PICTURES_WITHOUT_COLOUR_NAME.get(message.encoding, message.encoding)
    with _explained(message.encoding):
        dtype, channels = bridge.encoding_to_dtype_with_channels(name)
        bytes_per_channel = np.dtype(dtype).itemsize
        if message.is_bigendian and bytes_per_channel > 1:
            raise NoPoseError(
                Reason.BIG_ENDIAN,
                f"a big-endian image in encoding '{message.encoding}' is not supported; let its "
                f'publisher send little-endian or 8 bit images')
        tight = _without_padding(message, message.width * channels * bytes_per_channel)
        tight.encoding = name
        rgb = bridge.imgmsg_to_cv2(tight, 'rgb8')
    # torch takes no read-only memory, which a view of the message can be.
    return np.require(rgb, np.uint8, ['C', 'W'])


@contextlib.contextmanager
def _explained(encoding: str) -> Iterator[None]:
    """Refusals of cv_bridge and numpy as refusals of the image."""
    try:
        yield
    except (CvBridgeError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())  # OpenCV's have several lines
        raise NoPoseError(
            Reason.ENCODING,
            f"an image in encoding '{encoding}' cannot be converted to rgb8 ({reason}); let its "
            f'publisher send rgb8, bgr8 or mono8') from error


def _without_padding(image: Image, row_bytes: int) -> Image:
    """A shallow copy of the image without bytes behind its rows.

    cv_bridge drops padding of whole pixels only: an rgb8 image 161 pixels wide in rows of 484
    bytes would come out sheared.
    """
    height, step = image.height, image.step
    needed_bytes = step * (height - 1) + row_bytes  # the last row may lack its padding
    if height == 0 or row_bytes == 0 or step < row_bytes or len(image.data) < needed_bytes:
        raise NoPoseError(
            Reason.ENCODING,
            f'the image holds {len(image.data)} bytes but its header announces '
            f"{image.width}x{height} pixels in '{image.encoding}', in rows of {step} bytes; check "
            f'its publisher')
    tight = copy.copy(image)
    if step == row_bytes:
        return tight
    data = np.frombuffer(image.data, np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False)
    tight.data = array('B', rows.tobytes())
    tight.step = row_bytes
    return tight


def _decompress(bridge: CvBridge, message: CompressedImage) -> tuple[NDArray[Any], str]:
    """The pixels that were compressed and their encoding."""
    source, stored = _parse_format(message.format)
    if 'compressedDepth' in message.format or source in _DEPTH_ENCODINGS:
        raise _compressed_error(message, 'is depth, no picture', 'remap image to a colour camera')
    data = bytes(message.data)
    # OpenCV 4.6 fills up what is missing of a JPEG with grey, 5.0 refuses.
    is_cut_off = data.startswith(_JPEG_START) and data.rfind(_JPEG_END) <= data.rfind(_JPEG_SCAN)
    try:
        pixels = bridge.compressed_imgmsg_to_cv2(message) if data and not is_cut_off else None
    except CvBridgeError:
        pixels = None
    # cv_bridge itself returns None for what OpenCV cannot decode.
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
    mosaic = stored or source
    if mosaic.startswith('bayer_'):
        names[1] = mosaic.rstrip('0123456789')
    return pixels, f'{names[channels]}{8 * pixels.dtype.itemsize}'


def _parse_format(text: str) -> tuple[str, str]:
    """Encodings of the source and of what was compressed, each empty where it is not told.

    compressed_image_transport writes 'bayer_rggb8; png compressed ' for a mosaic as it is and
    'bayer_rggb8; jpeg compressed mono8' for grey; other publishers write just 'jpeg'.
    """
    source, separator, rest = text.partition(';')
    stored = re.search(r'compressed\s+(\w+)', rest)
    return source.strip() if separator else '', stored.group(1) if stored else ''


def _compressed_error(message: CompressedImage, problem: str, remedy: str) -> NoPoseError:
    return NoPoseError(Reason.ENCODING, f"a compressed image ({len(message.data)} bytes, format "
                                        f"'{message.format}') {problem}; {remedy}")
