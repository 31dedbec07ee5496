# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Where a simulated robot truly is, and where its odometry believes it is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Pose, TransformStamped
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation, Slerp

from implicit_relocalizer.data.frames import Float64Array, Frame

FRAMES_PER_S = 10.0
DRIFT_PER_M, YAW_DRIFT_DEG_PER_M = 0.02, 1.0


def transform(position_m: ArrayLike, degrees_zyx: ArrayLike) -> Float64Array:
    """A 4x4 transform from a position and yaw, pitch and roll."""
    T_44 = np.eye(4)
    T_44[:3, :3] = Rotation.from_euler('ZYX', degrees_zyx, degrees=True).as_matrix()
    T_44[:3, 3] = position_m
    return T_44


# Off-centre, turned and tilted; x forward and z up, then the axes of optics.
T_BASE_MOUNT = transform([0.23, -0.11, 0.92], [25.0, 12.0, -7.0])
T_MOUNT_OPTICAL = transform([0.004, 0.016, -0.003], [0.0, 0.0, 0.0])
T_MOUNT_OPTICAL[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
T_BASE_CAMERA = T_BASE_MOUNT @ T_MOUNT_OPTICAL


def between(T_a: Float64Array, T_b: Float64Array, share: float) -> Float64Array:
    """Linear in the position, at constant angular speed in the rotation."""
    if share == 0.0:
        return T_a
    T_44 = np.eye(4)
    T_44[:3, 3] = (1.0 - share) * T_a[:3, 3] + share * T_b[:3, 3]
    T_44[:3, :3] = Slerp([0.0, 1.0], Rotation.from_matrix([T_a[:3, :3], T_b[:3, :3]])
                         )(share).as_matrix()
    return T_44


def errors_of(T_a: Float64Array, T_b: Float64Array) -> tuple[float, float]:
    """Distance in metres and angle in degrees between two poses."""
    turn_rad = Rotation.from_matrix(T_a[:3, :3].T @ T_b[:3, :3]).magnitude()
    return float(np.linalg.norm(T_a[:3, 3] - T_b[:3, 3])), float(np.degrees(turn_rad))


def matrix(message: Pose | TransformStamped) -> Float64Array:
    """A pose or a transform as a 4x4 matrix."""
    if isinstance(message, Pose):
        p, q = message.position, message.orientation
    else:
        p, q = message.transform.translation, message.transform.rotation
    T_44 = np.eye(4)
    T_44[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T_44[:3, 3] = p.x, p.y, p.z
    return T_44


class BackAndForth:
    """A stretch of consecutive frames of one drive, driven to its end, back, and again.

    At whole numbers of frames the camera is exactly where the frame says. One frame: it stands.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = tuple(frames)
        self._T_map_base = [frame.T_world_camera @ np.linalg.inv(T_BASE_CAMERA)
                            for frame in self.frames]

    def frame(self, step: int) -> Frame:
        """The frame that is seen after so many frames."""
        return self.frames[self._folded(step)]

    def T_map_base(self, steps: float) -> Float64Array:
        """Where the robot is after so many frames."""
        whole = int(np.floor(steps))
        return between(self._T_map_base[self._folded(whole)],
                       self._T_map_base[self._folded(whole + 1)], steps - whole)

    def _folded(self, step: int) -> int:
        period = max(1, 2 * (len(self.frames) - 1))
        return min(step % period, -step % period)


class DriftingOdometry:
    """Wheels that overrate distances, turn slowly aside, and began somewhere."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Begin at a pose that has nothing to do with the map."""
        self._T_odom_base = transform(rng.uniform([15.0, -40.0, -0.2], [40.0, -15.0, 0.2]),
                                      [rng.uniform(-180.0, 180.0), 0.0, 0.0])
        self._stamps_ns: list[int] = []
        self._poses: list[Float64Array] = []

    def move(self, T_before_after: Float64Array, stamp_ns: int) -> Float64Array:
        """Take in a true motion that ended at a time; the new T_odom_base."""
        distance_m = float(np.linalg.norm(T_before_after[:3, 3]))
        step = T_before_after @ transform([0.0, 0.0, 0.0],
                                          [YAW_DRIFT_DEG_PER_M * distance_m, 0.0, 0.0])
        step[:3, 3] = (1.0 + DRIFT_PER_M) * T_before_after[:3, 3]
        self._T_odom_base = self._T_odom_base @ step
        self.stand(stamp_ns)
        return self._T_odom_base

    def stand(self, stamp_ns: int) -> None:
        """Take in that the robot was still there at a time."""
        self._stamps_ns.append(stamp_ns)
        self._poses.append(self._T_odom_base)

    def at(self, stamp_ns: int) -> Float64Array:
        """T_odom_base as tf2 interpolates it between what was published."""
        after = bisect_left(self._stamps_ns, stamp_ns)
        if not 0 < after < len(self._stamps_ns):
            raise LookupError(f'no odometry on both sides of {stamp_ns}')
        start_ns, end_ns = self._stamps_ns[after - 1:after + 1]
        return between(self._poses[after - 1], self._poses[after],
                       (stamp_ns - start_ns) / (end_ns - start_ns))
