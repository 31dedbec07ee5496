# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The recording of a robot that drives a curve with a camera, in parts and as a whole."""

from __future__ import annotations

import numpy as np
from bag_writer import (
    OPTICAL,
    R_BODY_OPTICAL,
    BagWriter,
    camera_info,
    odometry,
    raw_image,
    transform,
)
from scipy.spatial.transform import Rotation

S = 10**9
START_NS = 1_700_000_000 * S
STEP_NS = S // 10
SIZE = (48, 32)
K_33 = np.array([[40.0, 0.0, 23.5], [0.0, 40.0, 15.5], [0.0, 0.0, 1.0]])
COUNT = 17

T_BASE_CAMERA = np.eye(4)
T_BASE_CAMERA[:3, :3] = Rotation.from_euler('zyx', [20, 10, -5], degrees=True).as_matrix() \
    @ R_BODY_OPTICAL
T_BASE_CAMERA[:3, 3] = 0.3, -0.1, 0.5


def body_pose(time_s):
    """A robot that drives a curve; between samples 20 ms apart its path is straight enough."""
    T_world_base = np.eye(4)
    T_world_base[:3, :3] = Rotation.from_euler(
        'zyx', [0.8 * np.sin(time_s), 0.05 * np.cos(3 * time_s), 0.1 * time_s]).as_matrix()
    T_world_base[:3, 3] = time_s, np.cos(time_s), 0.1 * np.sin(2 * time_s)
    return T_world_base


def image_stamps():
    return [START_NS + 12_345_678 + i * STEP_NS for i in range(COUNT)]


def rgb_of(index):
    return np.random.default_rng(index).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)


def camera_pose(stamp_ns):
    return body_pose((stamp_ns - START_NS) / S) @ T_BASE_CAMERA


def add_images(bag, stamps=None, topic='/camera/image_raw', **options):
    stamps = image_stamps() if stamps is None else stamps
    for index, stamp_ns in enumerate(stamps):
        bag.add(topic, raw_image(stamp_ns, rgb_of(index), **options))
        bag.add(topic.rsplit('/', 1)[0] + '/camera_info', camera_info(stamp_ns, K_33, SIZE))


def pose_stamps(step_ns=S // 50):
    return range(START_NS, START_NS + (COUNT + 1) * STEP_NS, step_ns)


def add_odometry(bag, topic='/odom', **options):
    for stamp_ns in pose_stamps():
        bag.add(topic, odometry(stamp_ns, body_pose((stamp_ns - START_NS) / S), **options))


def add_mounting(bag):
    """The camera on the robot in two steps, as in a URDF."""
    T_base_link = np.eye(4)
    T_base_link[:3, 3] = 0.1, 0.2, 0.3
    bag.add('/tf_static', transform(0, 'base_link', 'camera_link', T_base_link))
    bag.add('/tf_static', transform(0, 'camera_link', OPTICAL,
                                    np.linalg.inv(T_base_link) @ T_BASE_CAMERA))


def write_drive(path, *storage):
    """An ordinary recording."""
    with BagWriter(path, *storage) as bag:
        add_images(bag)
        add_odometry(bag)
        add_mounting(bag)
    return path


def poses_differ_by(scene):
    """Largest difference to the true camera poses, metres and degrees."""
    errors = []
    for frame in scene.frames:
        true = camera_pose(round(frame.stamp_s * S))
        turn = Rotation.from_matrix(true[:3, :3].T @ frame.T_world_camera[:3, :3])
        errors.append((np.linalg.norm(true[:3, 3] - frame.T_world_camera[:3, 3]),
                       np.degrees(turn.magnitude())))
    return np.max(errors, axis=0)
