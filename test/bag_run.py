# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings of a run of the node whose answers have known errors."""

from __future__ import annotations

import json

import numpy as np
from bag_drive import image_stamps, rgb_of
from bag_writer import BagWriter, pose_stamped, pose_with_covariance, raw_image
from scipy.spatial.transform import Rotation

from implicit_relocalizer.cli import main

ESTIMATES = '/relocalizer/pose_with_covariance'
REFERENCE = '/reference/pose'
MS = 1_000_000
STD_6 = np.array([0.01, 0.02, 0.03, 0.001, 0.002, 0.003])
COVARIANCE_66 = np.diag(STD_6 ** 2)
IMAGES = image_stamps()
# Some turn and place for every stamp; positions and turns change at constant rates.
START = Rotation.from_rotvec([0.4, -1.2, 0.8])
VELOCITY, SPIN = np.array([0.5, -0.2, 0.1]), np.array([0.1, 0.3, -0.2])


def true_pose(stamp_ns):
    """T_map_camera of a camera that moves and turns evenly."""
    time_s = (stamp_ns - IMAGES[0]) / 1e9
    T_44 = np.eye(4)
    T_44[:3, :3] = (START * Rotation.from_rotvec(SPIN * time_s)).as_matrix()
    T_44[:3, 3] = np.array([1.0, 2.0, 3.0]) + VELOCITY * time_s
    return T_44


def with_error(T_44, error_6):
    """A pose moved along and turned about the map's axes."""
    moved = T_44.copy()
    moved[:3, 3] += error_6[:3]
    moved[:3, :3] = Rotation.from_rotvec(error_6[3:]).as_matrix() @ T_44[:3, :3]
    return moved


def error_of(index):
    """One sigma along x and about z in even frames, none in odd ones."""
    return STD_6 * [1, 0, 0, 0, 0, 1] * (1 - index % 2)


def add_camera(bag, stamps=IMAGES, topic='/camera/image_raw'):
    for index, stamp_ns in enumerate(stamps):
        bag.add(topic, raw_image(stamp_ns, rgb_of(index)), delay_ns=5 * MS)


def add_estimates(bag, stamps=IMAGES, covariance_66=COVARIANCE_66, errors=error_of,
                  topic=ESTIMATES, true=true_pose, frame_id='map'):
    """Answers that are recorded 100 ms after their images, each 1 ms later than the last."""
    for index, stamp_ns in enumerate(stamps):
        pose = with_error(true(stamp_ns), errors(index))
        message = (pose_stamped(stamp_ns, pose, frame_id) if covariance_66 is None else
                   pose_with_covariance(stamp_ns, pose, frame_id, covariance_66))
        bag.add(topic, message, delay_ns=(105 + index) * MS)


def add_reference(bag, stamps=IMAGES, topic=REFERENCE):
    for stamp_ns in stamps:
        bag.add(topic, pose_stamped(stamp_ns, true_pose(stamp_ns)))


def write_run(path, storage='mcap', **options):
    """An ordinary run: every image answered, the truth at every image."""
    with BagWriter(path, storage) as bag:
        add_camera(bag)
        add_estimates(bag, **options)
        add_reference(bag)
    return path


def evaluate(bag, *arguments, file=None):
    """The result of the command, as its file holds it."""
    file = file or bag.with_name(f'{bag.name}.json')
    assert main(['evaluate', str(bag), '--json', str(file), *map(str, arguments)]) == 0
    return json.loads(file.read_text())
