# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Poses as messages."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovarianceStamped,
    Quaternion,
    TransformStamped,
    Vector3,
)
from numpy.typing import NDArray
from std_msgs.msg import Header
from tf_transformations import quaternion_from_matrix


def pose_from_matrix(T_44: NDArray[np.float64]) -> Pose:
    """A 4x4 rigid transform as a pose, with a unit quaternion."""
    q_xyzw = np.asarray(quaternion_from_matrix(T_44), np.float64)
    q_xyzw /= np.linalg.norm(q_xyzw)
    x, y, z = T_44[:3, 3].tolist()
    qx, qy, qz, qw = q_xyzw.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def pose_msg(header: Header, pose: Pose) -> PoseStamped:
    """A pose with its frame and the stamp of the image."""
    return PoseStamped(header=header, pose=pose)


def pose_with_covariance_msg(header: Header, pose: Pose, covariance_66: NDArray[np.float64],
                             ) -> PoseWithCovarianceStamped:
    """The same pose with its covariance, row by row."""
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = pose
    message.pose.covariance = np.ascontiguousarray(covariance_66, np.float64).ravel()
    return message


def transform_msg(header: Header, pose: Pose, child_frame: str) -> TransformStamped:
    """The same pose as a transform from the header's frame to the child."""
    message = TransformStamped(header=header, child_frame_id=child_frame)
    position = pose.position
    message.transform.translation = Vector3(x=position.x, y=position.y, z=position.z)
    message.transform.rotation = pose.orientation
    return message


def transform_from_matrix(header: Header, T_44: NDArray[np.float64],
                          child_frame: str) -> TransformStamped:
    """A 4x4 rigid transform from the header's frame to the child."""
    return transform_msg(header, pose_from_matrix(T_44), child_frame)
