# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages to RGB arrays by cv_bridge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from cv_bridge import CvBridge, CvBridgeError
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from implicit_relocalizer.localization.image_decoding import rgb_from_message

_BRIDGE = CvBridge()


def rgb_from_msg(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """`localization.image_decoding.rgb_from_message`, converted by cv_bridge."""
    return rgb_from_message(message, convert_by_cv_bridge)


def convert_by_cv_bridge(pixels: NDArray[Any], encoding: str) -> NDArray[Any]:
    """`localization.image_decoding.Convert`.

    cv_bridge drops padding of whole pixels only: it gets a message without any.
    """
    if encoding == 'rgb8':
        return pixels
    # Its fields are all that is looked at; a real message would copy the pixels twice.
    tight = SimpleNamespace(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                            is_bigendian=0, step=pixels.strides[0],
                            data=pixels.reshape(-1).view(np.uint8))
    try:
        return np.asarray(_BRIDGE.imgmsg_to_cv2(tight, 'rgb8'))
    except (CvBridgeError, TypeError) as error:
        raise ValueError(str(error)) from error
