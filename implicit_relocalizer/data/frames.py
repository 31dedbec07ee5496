# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Posed images: the one type that every reader returns and every consumer takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal['train', 'test']
Float64Array = NDArray[np.float64]


class SceneError(ValueError):
    """A scene on disk cannot be used; the message names the file, the value and the remedy."""


@dataclass(frozen=True)
class Lens:
    """The camera that took an image which is not yet the pinhole image that the frame stands for.

    Attributes:
        model: 'opencv' (k1 k2 p1 p2 [k3 [k4 k5 k6]], plumb_bob and rational_polynomial of ROS) or
            'fisheye' (k1 k2 k3 k4 of OpenCV's fisheye model, equidistant of ROS).
        K_33: Intrinsics of the distorted image, pixels, pixel centres at integers.
        coefficients: In the model's order; all zero only resamples to the frame's camera.
        image_size: Width and height of the distorted image in pixels.
        pinhole_size: Width and height of the pinhole image; None where it is the same.
    """

    model: Literal['opencv', 'fisheye']
    K_33: Float64Array
    coefficients: tuple[float, ...]
    image_size: tuple[int, int]
    pinhole_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Frame:
    """One image whose camera pose is known.

    Attributes:
        name: Unique name within the scene, usually the image's file stem.
        image_path: The colour image; where `image_bytes` is given, only a name for messages.
        K_33: Pinhole intrinsics of the image as `read_frame_image` gives it, pixels, pixel
            centres at integers.
        T_world_camera: 4x4 camera-to-world transform, metres, camera axes x right, y down,
            z forward.
        split: 'train' (may be learned from) or 'test' (held out).
        sequence: Name of the drive or recording the frame belongs to.
        stamp_s: Time of exposure in seconds, or None where the format has none.
        depth_path: uint16 PNG in millimetres (0 = unknown), at a whole fraction of the image's
            resolution: its pixel (x, y) is image pixel (n x, n y). Judges geometry; never trains.
        image_bytes: The encoded image (PNG, JPEG, ...) where it is not a file of its own.
        lens: The camera as it was, where `read_frame_image` has to undistort or resample; None
            where the image is a pinhole image of `K_33` already.
    """

    name: str
    image_path: Path
    K_33: Float64Array
    T_world_camera: Float64Array
    split: Split
    sequence: str = ''
    stamp_s: float | None = None
    depth_path: Path | None = None
    image_bytes: bytes | None = None
    lens: Lens | None = None


@dataclass(frozen=True)
class SkippedFrame:
    """A frame that a reader left out, and why: one bad frame does not stop a thousand."""

    name: str
    reason: str


@dataclass(frozen=True)
class Scene:
    """A place: its frames in order.

    Attributes:
        name: Of the place.
        root: Folder or file it was read from.
        frames: Both splits.
        image_size: Common width and height in pixels of the images as `read_frame_image` gives
            them.
        skipped: What the reader left out.
    """

    name: str
    root: Path
    frames: tuple[Frame, ...]
    image_size: tuple[int, int]
    skipped: tuple[SkippedFrame, ...] = ()

    def split(self, split: Split) -> tuple[Frame, ...]:
        """The frames of one split, in order."""
        return tuple(frame for frame in self.frames if frame.split == split)
