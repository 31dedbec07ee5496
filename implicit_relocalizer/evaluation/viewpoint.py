# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Orthographic viewpoints for drawing a place whose up direction nobody has told us."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from implicit_relocalizer.evaluation.metrics import Float64Array

# Cameras are carried upright, but look up and down: closer than this the axis is meant.
_SNAP_DEG = 25.0
_ELEVATION_DEG = 40.0


@dataclass(frozen=True)
class Viewpoint:
    """An orthographic view: unit vectors in the world frame and what to call the picture axes.

    Attributes:
        right_3: To the right in the picture.
        up_in_picture_3: Upwards in the picture.
        up_3: The world's estimated up direction.
        right_name: World axis along the picture's right, such as `x` or `-z`.
        up_name: World axis along the picture's upward direction.
    """

    right_3: Float64Array
    up_in_picture_3: Float64Array
    up_3: Float64Array
    right_name: str = ''
    up_name: str = ''

    def project(self, points_world_n3: Float64Array) -> Float64Array:
        """Picture coordinates (n, 2) in metres."""
        return np.stack([points_world_n3 @ self.right_3,
                         points_world_n3 @ self.up_in_picture_3], axis=1)

    def depth(self, points_world_n3: Float64Array) -> Float64Array:
        """Distance (n,) along the viewing direction; larger is farther from the viewer."""
        return points_world_n3 @ np.cross(self.up_in_picture_3, self.right_3)


def estimate_up(T_world_camera_n44: Float64Array) -> Float64Array:
    """The direction that is up for cameras carried upright: their mean -y axis.

    Snapped to the nearest world axis where that is close.
    """
    mean_3 = -T_world_camera_n44[:, :3, 1].mean(axis=0)
    length = float(np.linalg.norm(mean_3))
    if length < 1e-6:  # cameras in every attitude: nothing is up, z is as good as any
        return np.array([0.0, 0.0, 1.0])
    up_3 = mean_3 / length
    axis = int(np.abs(up_3).argmax())
    if abs(up_3[axis]) < np.cos(np.radians(_SNAP_DEG)):
        return up_3
    snapped_3 = np.zeros(3)
    snapped_3[axis] = np.sign(up_3[axis])
    return snapped_3


def view_from_above(T_world_camera_n44: Float64Array) -> Viewpoint:
    """Look straight down on the place that these cameras (n, 4, 4) saw."""
    up_3 = estimate_up(T_world_camera_n44)
    first_axis = next(i for i in range(3) if abs(up_3[i]) < 0.8)
    right_3 = np.eye(3)[first_axis] - up_3[first_axis] * up_3
    right_3 /= np.linalg.norm(right_3)
    up_in_picture_3 = np.cross(up_3, right_3)
    return Viewpoint(right_3, up_in_picture_3, up_3,
                     _axis_name(right_3, 'right'), _axis_name(up_in_picture_3, 'ahead'))


def view_from_behind(T_world_camera: Float64Array, up_3: Float64Array,
                     elevation_deg: float = _ELEVATION_DEG) -> Viewpoint:
    """Look over a camera's shoulder: along its heading, from `elevation_deg` above."""
    right_3 = T_world_camera[:3, 0] - (T_world_camera[:3, 0] @ up_3) * up_3
    right_3 /= np.linalg.norm(right_3)
    ahead_3 = np.cross(up_3, right_3)
    elevation = np.radians(elevation_deg)
    return Viewpoint(right_3, np.sin(elevation) * ahead_3 + np.cos(elevation) * up_3, up_3)


def _axis_name(direction_3: Float64Array, otherwise: str) -> str:
    axis = int(np.abs(direction_3).argmax())
    if abs(direction_3[axis]) < 1 - 1e-9:
        return otherwise
    return ('-' if direction_3[axis] < 0 else '') + 'xyz'[axis]
