# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The frames of the robot, and what a camera's pose says about the others."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.localization.agreement import Transform, invert


class NoTransformError(LookupError):
    """Two frames are not connected at a stamp; the message says which and why."""


class Frames(Protocol):
    """What is known of the robot's transforms so far, as tf2 has it."""

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int,
               wait_s: float = 0.0) -> Transform:
        """T_target_source at a stamp; waits at most `wait_s` for it to become known.

        Raises:
            NoTransformError: unknown, or not at this stamp.
        """
        ...

    def is_connected(self, target_frame: str, source_frame: str) -> bool:
        """Whether the transform is known at any time."""
        ...


def map_from_odometry(T_map_camera: Transform, T_odom_camera: Transform) -> Transform:
    """T_map_odom: where the origin of odometry lies, of two poses of the camera at one stamp."""
    return T_map_camera @ invert(T_odom_camera)


def move_covariance(covariance_66: NDArray[np.float64], T_map_camera: Transform,
                    T_camera_base: Transform) -> NDArray[np.float64]:
    """The covariance of a pose of the base, of that of the camera that is mounted on it.

    With r = R_map_camera t_camera_base, a rotation d about the map's axes moves the base by
    d x r, so that the base's error is J times the camera's, J = [[I, -[r]x], [0, I]].

    Args:
        covariance_66: Of x y z (metres) and the rotation about the map's axes (radians).
        T_map_camera: The camera's pose.
        T_camera_base: The base as the camera sees it.
    """
    x, y, z = T_map_camera[:3, :3] @ T_camera_base[:3, 3]
    J_66 = np.eye(6)
    J_66[:3, 3:] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]
    return J_66 @ covariance_66 @ J_66.T


def widen_covariance(covariance_66: NDArray[np.float64], std_m: float,
                     std_rad: float) -> NDArray[np.float64]:
    """The covariance with no variance below those of the given standard deviations.

    Only what is missing is added to the diagonal, so that it stays positive definite and the
    correlations of what is already wide stay.
    """
    least_6 = np.repeat(np.square([std_m, std_rad]), 3)
    return covariance_66 + np.diag(np.maximum(0.0, least_6 - np.diag(covariance_66)))
