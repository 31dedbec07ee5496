# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Poses to messages, with the real message classes."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='needs ROS 2 (or its wheels)')
pytest.importorskip('tf_transformations', reason='needs tf_transformations (or pip_overlay)')

from std_msgs.msg import Header

from implicit_relocalizer.ros.conversions import (
    pose_from_matrix,
    pose_msg,
    pose_with_covariance_msg,
    transform_from_matrix,
    transform_msg,
)


def test_pose_covariance_and_transform_hold_the_same_numbers():
    R = Rotation.from_euler('xyz', [170.0, -35.0, 120.0], degrees=True)
    covariance = np.arange(36.0).reshape(6, 6)
    T = np.eye(4)
    T[:3, :3] = R.as_matrix().astype(np.float32)  # as a model answers
    T[:3, 3] = 1.0, -2.0, 3.0
    pose = pose_from_matrix(T)
    q = pose.orientation
    q_xyzw = np.array([q.x, q.y, q.z, q.w])
    assert abs(np.linalg.norm(q_xyzw) - 1.0) < 1e-12
    assert (Rotation.from_quat(q_xyzw) * R.inv()).magnitude() < 1e-6
    header = Header(frame_id='map')
    header.stamp.sec = 12
    transform = transform_msg(header, pose, 'camera')
    assert transform.header == header and transform.child_frame_id == 'camera'
    assert transform.transform.rotation == q
    assert (transform.transform.translation.x, transform.transform.translation.y,
            transform.transform.translation.z) == (1.0, -2.0, 3.0)
    assert transform_from_matrix(header, T, 'camera') == transform
    stamped = pose_msg(header, pose)
    assert stamped.header == header and stamped.pose == pose
    message = pose_with_covariance_msg(header, pose, covariance)
    assert message.header == header and message.pose.pose == pose
    np.testing.assert_array_equal(message.pose.covariance, covariance.ravel())
