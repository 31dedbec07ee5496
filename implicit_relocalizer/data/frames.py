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
class Frame:
    """One image whose camera pose is known.

    Attributes:
        name: Unique name within the scene, usually the image's file stem.
        image_path: The colour image.
        K_33: Pinhole intrinsics of that image, pixels, pixel centres at integers.
        T_world_camera: 4x4 camera-to-world transform, metres, camera axes x right, y down,
            z forward.
        split: 'train' (may be learned from) or 'test' (held out).
        sequence: Name of the drive or recording the frame belongs to.
        stamp_s: Time of exposure in seconds, or None where the format has none.
        depth_path: uint16 PNG in millimetres (0 = unknown), at a whole fraction of the image's
            resolution: its pixel (x, y) is image pixel (n x, n y). Judges geometry; never trains.
    """

    name: str
    image_path: Path
    K_33: Float64Array
    T_world_camera: Float64Array
    split: Split
    sequence: str = ''
    stamp_s: float | None = None
    depth_path: Path | None = None


@dataclass(frozen=True)
class Scene:
    """A place: its frames in order and their common image size (width, height) in pixels."""

    name: str
    root: Path
    frames: tuple[Frame, ...]
    image_size: tuple[int, int]

    def split(self, split: Split) -> tuple[Frame, ...]:
        """The frames of one split, in order."""
        return tuple(frame for frame in self.frames if frame.split == split)
