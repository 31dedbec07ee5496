# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""CvBridge: image messages to arrays and back."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from cv_bridge.encodings import CvBridgeError, convert_encoding, parse_encoding

PASSTHROUGH = 'passthrough'


class CvBridge:
    """Converts between sensor_msgs images and arrays of shape (height, width[, channels]).

    Images of one channel have two axes. Channels are in the order that the encoding names.
    """

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = PASSTHROUGH) -> np.ndarray:
        """The image of a message, in this machine's byte order.

        Args:
            img_msg: A message; rows may be padded (step larger than the pixels need).
            desired_encoding: The encoding wanted, or 'passthrough' for the message's own.

        Returns:
            An array that shares the message's memory where nothing had to be converted.

        Raises:
            CvBridgeError: The encoding is unknown, cannot be converted, or does not fit the data.
        """
        encoding = parse_encoding(img_msg.encoding)
        row_bytes = img_msg.width * encoding.channels * encoding.dtype.itemsize
        if img_msg.step < row_bytes:
            raise CvBridgeError(
                f'Image is wrongly formed: step {img_msg.step} is less than the {row_bytes} bytes '
                f'of {img_msg.width} pixels in [{img_msg.encoding}]'
            )
        data = _as_bytes(img_msg.data)
        if data.size < img_msg.height * img_msg.step:
            raise CvBridgeError(
                f'Image is wrongly formed: {data.size} bytes of data are less than '
                f'height {img_msg.height} * step {img_msg.step}'
            )
        rows = data[: img_msg.height * img_msg.step].reshape(img_msg.height, img_msg.step)
        image = np.ascontiguousarray(rows[:, :row_bytes]).view(encoding.dtype)
        if encoding.channels > 1:
            image = image.reshape(img_msg.height, img_msg.width, encoding.channels)
        if bool(img_msg.is_bigendian) == (sys.byteorder == 'little') and image.itemsize > 1:
            image = image.byteswap()
        if desired_encoding == PASSTHROUGH:
            return image
        return convert_encoding(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: np.ndarray, encoding: str = PASSTHROUGH, header: Header | None = None
    ) -> Image:
        """A message of an image; nothing is converted, the encoding says what the image is.

        Args:
            cvim: Array of shape (height, width) or (height, width, channels).
            encoding: Or 'passthrough' for the generic name of the array's type, such as 8UC3.
            header: Header of the message.

        Raises:
            CvBridgeError: The encoding does not describe such an array.
            TypeError: The image is not an array.
        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError('Your input type is not a numpy array')
        channels = 1 if cvim.ndim < 3 else cvim.shape[2]
        cv_type = self.dtype_with_channels_to_cvtype2(cvim.dtype, channels)
        if encoding == PASSTHROUGH:
            encoding = cv_type
        else:
            described = parse_encoding(encoding)
            if (described.dtype.name, described.channels) != (cvim.dtype.name, channels):
                raise CvBridgeError(
                    f'encoding specified as {encoding}, but image has incompatible type {cv_type}'
                )
        message = Image()
        if header is not None:
            message.header = header
        message.height, message.width = cvim.shape[:2]
        message.encoding = encoding
        message.is_bigendian = int(cvim.dtype.newbyteorder('=') != cvim.dtype) ^ int(
            sys.byteorder == 'big'
        )
        message.step = message.width * channels * cvim.dtype.itemsize
        message.data.frombytes(cvim.tobytes())
        return message

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = PASSTHROUGH
    ) -> np.ndarray:
        """The decoded image of a message.

        As in cv_bridge, every decoded image is taken for bgr8 when another encoding is desired:
        'bgr8' returns it as it is, and a grey image cannot be had in other encodings.

        Args:
            desired_encoding: The encoding wanted, or 'passthrough' for what OpenCV decodes to:
                BGR, BGRA or grey.

        Raises:
            CvBridgeError: The data cannot be decoded, or not be converted.
        """
        data = _as_bytes(cmprs_img_msg.data)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None:
            raise CvBridgeError(
                f'{data.size} bytes with format [{cmprs_img_msg.format}] are not an image that '
                'OpenCV can decode'
            )
        if desired_encoding == PASSTHROUGH:
            return image
        return convert_encoding(image, 'bgr8', desired_encoding)

    def cv2_to_compressed_imgmsg(
        self, cvim: np.ndarray, dst_format: str = 'jpg'
    ) -> CompressedImage:
        """A compressed message of a grey, BGR or BGRA image.

        Args:
            dst_format: An extension that OpenCV can write, such as jpg or png.

        Raises:
            CvBridgeError: OpenCV cannot write such an image in this format.
            TypeError: The image is not an array.
        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError('Your input type is not a numpy array')
        try:
            encoded, data = cv2.imencode(f'.{dst_format}', cvim)
        except cv2.error as error:
            raise CvBridgeError(f'Cannot encode the image as [{dst_format}]: {error}') from error
        if not encoded:
            raise CvBridgeError(f'Cannot encode the image as [{dst_format}]')
        message = CompressedImage()
        message.format = dst_format
        message.data.frombytes(data.tobytes())
        return message

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """The generic encoding of a number type, such as 16UC1."""
        kinds = {'u': 'U', 'i': 'S', 'f': 'F'}
        dtype = np.dtype(dtype)
        name = f'{8 * dtype.itemsize}{kinds.get(dtype.kind, dtype.kind)}C{n_channels}'
        parse_encoding(name)
        return name

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """Number type and channels of an encoding, such as ('uint8', 3)."""
        parsed = parse_encoding(encoding)
        return parsed.dtype.name, parsed.channels


def _as_bytes(data: Any) -> np.ndarray:
    """Message data as flat uint8, sharing memory where it has a buffer."""
    if isinstance(data, list):
        return np.array(data, dtype=np.uint8)
    return np.frombuffer(data, dtype=np.uint8) if len(data) else np.empty(0, np.uint8)
