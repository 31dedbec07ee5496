# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Why an image gets no pose: one vocabulary for logs, diagnostics, services and tests."""

from __future__ import annotations

from enum import Enum


class Reason(str, Enum):
    """The kinds of refusal; the values are stable, for programs as much as for people."""

    NO_CAMERA_INFO = 'no_camera_info'
    UNCALIBRATED = 'camera_uncalibrated'
    RESOLUTION = 'wrong_resolution'
    ENCODING = 'image_unusable'
    BIG_ENDIAN = 'image_big_endian'
    FRAME = 'frame_name_unusable'
    DUPLICATE = 'stamp_repeated'
    OUT_OF_ORDER = 'stamp_out_of_order'
    MODEL = 'model_failed'
    INVALID = 'answer_invalid'
    CONFIDENCE = 'confidence_low'
    UNCERTAIN = 'answer_uncertain'
    OUTSIDE = 'outside_map'
    DISAGREE = 'fixes_disagree'
    CONTRADICTS = 'contradicts_track'
    NO_ODOMETRY = 'no_odometry'
    NO_CAMERA_TF = 'no_camera_tf'
    SECOND_PARENT = 'frame_has_parent'


class NoPoseError(Exception):
    """An image that gets no pose; the message names the values and the remedy."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
