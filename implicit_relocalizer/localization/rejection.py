# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Why an image gets no pose: one vocabulary for logs, statistics and tests."""

from __future__ import annotations

from enum import Enum


class Reason(str, Enum):
    """The kinds of rejection; the values are what people read."""

    NO_CAMERA_INFO = 'no camera info'
    UNCALIBRATED = 'uncalibrated camera'
    RESOLUTION = 'wrong resolution'
    ENCODING = 'unusable image'
    FRAME = 'unusable frame name'
    DUPLICATE = 'repeated stamp'
    MODEL = 'model failed'
    INVALID = 'invalid answer'
    CONFIDENCE = 'low confidence'


class NoPoseError(Exception):
    """An image that gets no pose; the message names the values and the remedy."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
