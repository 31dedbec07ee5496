# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Conversion between ROS image messages and OpenCV's arrays, as in ROS 2's cv_bridge."""

from cv_bridge.core import CvBridge
from cv_bridge.encodings import CvBridgeError

__all__ = ['CvBridge', 'CvBridgeError']
