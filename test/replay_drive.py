# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A recording in which nearly everything happens that the node decides about.

Of the model of node_peer, which answers with the mean colour as position and turns with green; an
image every 0.2 s, odometry every 0.02 s, 0.02 s late.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bag_writer import BagWriter, camera_info, pose_stamped, raw_image, transform
from scipy.spatial.transform import Rotation

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
STEP_NS, JUMP_NS = 200 * MS, 60_000 * MS
SIZE = (64, 48)
K_33 = np.array([[60.0, 0.0, 31.5], [0.0, 61.0, 23.5], [0.0, 0.0, 1.0]])
GREEN, BLUE, ELSEWHERE_BLUE = 40, 60, 160
PARAMETERS: dict[str, Any] = {
    'mode': 'continuous', 'tf_mode': 'map_to_odom', 'max_position_std_m': 0.0,
    'agree_translation_m': 0.5, 'lost_after_s': 0.9, 'odometry_wait_s': 0.15,
    'image_reliability': 'reliable'}

# What image i shows: known places but for these.
DARK, NONSENSE, CARRIED = range(8, 14), (14,), 20
REPEATED, OLDER, UNKNOWN_ENCODING, SMALL = 26, 27, 29, 30
WITHOUT_ODOMETRY, JUMPED, SILENT_BEFORE, COUNT = (32, 33), 37, 43, 47
SILENCE_NS = 1600 * MS
# Times without odometry: in the first no image finds its own, by the second tells nothing before
# the image that jumps.
GAPS_NS = ((WITHOUT_ODOMETRY[0] * STEP_NS - 30 * MS, 34 * STEP_NS + 50 * MS),
           (JUMPED * STEP_NS - 100 * MS, JUMPED * STEP_NS + 60 * MS))


def image_time_ns(index: int) -> int:
    """When image i is recorded, since the start."""
    return index * STEP_NS + (SILENCE_NS if index >= SILENT_BEFORE else 0)


def stamp_ns(time_ns: int) -> int:
    """The stamp of what happens at a time since the start."""
    return START_NS + time_ns - (JUMP_NS if time_ns >= JUMPED * STEP_NS - 50 * MS else 0)


def write_drive(path: Path, storage: str = 'mcap') -> Path:
    """Write the recording."""
    with BagWriter(path, storage) as bag:
        T_base_camera = np.eye(4)
        T_base_camera[:3, :3] = Rotation.from_euler('zyx', [0.3, -1.1, 0.2]).as_matrix()
        T_base_camera[:3, 3] = 0.2, -0.1, 0.6
        bag.add('/tf_static', transform(START_NS, 'base_link', 'lens', T_base_camera), delay_ns=0)
        # Late: the first image waits for it.
        bag.add('/camera_info', camera_info(START_NS, K_33, SIZE), delay_ns=80 * MS)
        for index in range(COUNT):
            _add_image(bag, index)
        _add_odometry(bag, T_base_camera)
    return path


def write_parameters(path: Path) -> Path:
    """The parameters as a file of ROS 2."""
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': PARAMETERS}}))
    return path


def _add_image(bag: BagWriter, index: int) -> None:
    time_ns = image_time_ns(index)
    stamp = stamp_ns(time_ns)
    red, blue = 20 + round(time_ns / STEP_NS), ELSEWHERE_BLUE if index >= CARRIED else BLUE
    pixels = np.full((SIZE[1], SIZE[0], 3), (red, GREEN, 255 if index in DARK else blue), np.uint8)
    encoding = 'rgb8'
    if index in NONSENSE:
        pixels[..., 0] = 255
    if index == REPEATED:
        stamp = stamp_ns(image_time_ns(index - 1))
    elif index == OLDER:
        stamp -= 2 * STEP_NS + 100 * MS
    elif index == UNKNOWN_ENCODING:
        encoding = 'klingon8'
    elif index == SMALL:
        pixels = pixels[::2, ::2]
    elif index % 3 == 1:
        encoding, pixels = 'bgr8', pixels[..., ::-1]
    elif index % 3 == 2:
        encoding, pixels = 'rgba8', np.dstack([pixels, pixels[..., :1]])
    message = raw_image(stamp, pixels, encoding, padding=index % 2, frame_id='lens')
    bag.add('/image', message, delay_ns=START_NS + time_ns - stamp)
    if index not in (REPEATED, OLDER):
        bag.add('/reference/pose', pose_stamped(stamp, _T_map_camera(time_ns, blue)),
                delay_ns=START_NS + time_ns - stamp)


def _add_odometry(bag: BagWriter, T_base_camera: np.ndarray) -> None:
    T_odom_map = np.eye(4)
    T_odom_map[:3, :3] = Rotation.from_euler('zyx', [2.0, 0.0, 0.0]).as_matrix()
    T_odom_map[:3, 3] = -7.0, 3.0, 0.1
    for time_ns in range(-50 * MS, image_time_ns(COUNT) + 100 * MS, 20 * MS):
        if any(begin <= time_ns < end for begin, end in GAPS_NS):
            continue
        stamp = stamp_ns(time_ns)
        T_odom_base = T_odom_map @ _T_map_camera(time_ns, BLUE) @ np.linalg.inv(T_base_camera)
        bag.add('/tf', transform(stamp, 'odom', 'base_link', T_odom_base),
                delay_ns=START_NS + time_ns + 20 * MS - stamp)


def _T_map_camera(time_ns: int, blue: int) -> np.ndarray:
    """As the model sees it, between images too."""
    T_44 = np.eye(4)
    T_44[:3, :3] = Rotation.from_euler('z', GREEN / 100.0).as_matrix()
    T_44[:3, 3] = 20.0 + time_ns / STEP_NS, GREEN, blue
    return T_44
