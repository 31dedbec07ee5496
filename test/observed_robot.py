# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a doctor sees of a healthy robot, and what changes when something is wrong with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from implicit_relocalizer.localization.bringup_findings import Severity
from implicit_relocalizer.localization.bringup_observation import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE_TYPE,
    IMAGE_TYPE,
    Computer,
    Expectation,
    ImageSeen,
    Lookup,
    Model,
    Observation,
    Publisher,
    Relocalizer,
    Topic,
    TransformLink,
    Transforms,
)
from implicit_relocalizer.localization.camera_check import CameraCalibration

NOW_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
P_34 = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
CALIBRATION = CameraCalibration((640, 480), P_34[:, :3], P_34)
NODE = Relocalizer('/relocalizer', 1, 'active', {'use_sim_time': False},
                   {'state': 'LOCALIZED', 'state_reason': 'fixes_agree'},
                   (('/image', IMAGE_TYPE), ('/camera_info', CAMERA_INFO_TYPE)))
MAP_ODOM = TransformLink('map', 'odom', False, ('/relocalizer',))
ODOM_BASE = TransformLink('odom', 'base_link', False, ('/wheels',))
BASE_LENS = TransformLink('base_link', 'lens', True, ('/robot_state_publisher',))
TRANSFORMS = Transforms((MAP_ODOM, ODOM_BASE, BASE_LENS),
                        Lookup(True, stamp_ns=NOW_NS + 4 * SECOND_NS), Lookup(True))
EXPECTED = Expectation('map_to_odom', 'map', 'odom', 'base_link', 'lens', False, False)
SIMULATED = replace(EXPECTED, use_sim_time=True)
IMAGE = Topic('/image', IMAGE_TYPE, (Publisher('/camera', IMAGE_TYPE, 'best effort'),))
INFO = Topic('/camera_info', CAMERA_INFO_TYPE,
             (Publisher('/camera', CAMERA_INFO_TYPE, 'best effort'),))


def images(count=40, period_s=0.1, age_s=0.05, clock_age_s=None, **changes):
    """A camera's images; ages by the system's and by simulated time."""
    seen = []
    for number in range(count):
        stamp_ns = NOW_NS + int(number * period_s * SECOND_NS)
        clock_ns = None if clock_age_s is None else stamp_ns + int(clock_age_s * SECOND_NS)
        seen.append(ImageSeen(1.0 + number * period_s, stamp_ns,
                              stamp_ns + int(age_s * SECOND_NS), clock_ns, 'lens'))
    return tuple(replace(image, **changes) for image in seen)


HEALTHY = Observation(
    5.0, EXPECTED, IMAGE, INFO, nodes=('/camera', '/relocalizer'),
    topics=('/camera_info', '/image'), images=images(), image_size=(640, 480),
    calibration=CALIBRATION, transforms=TRANSFORMS, relocalizer=NODE,
    model=Model('m.pt', '', 'office', 'world', (320, 240)),
    computer=Computer('/dev/nvidia0', '2.9', True))

OTHERS = (('/camera/image_raw', IMAGE_TYPE), ('/camera/image/compressed', COMPRESSED_IMAGE_TYPE),
          ('/camera/camera_info', CAMERA_INFO_TYPE))
UNPUBLISHED = replace(IMAGE, publishers=(), others=OTHERS)
COMPRESSED_TOPIC = replace(IMAGE, type_name=COMPRESSED_IMAGE_TYPE)
ABSENT = Lookup(False, 'frame does not exist')
PROBLEM, WARNING, OK = Severity.PROBLEM, Severity.WARNING, Severity.OK


def links(*changed, **changes):
    return replace(TRANSFORMS, links=changed, **changes)


def mode(name):
    return replace(EXPECTED, tf_mode=name)


def node(**changes):
    return {'relocalizer': replace(NODE, **changes)}


def told(**parameters):
    return node(parameters={**NODE.parameters, **parameters})


def state(name, reason, **values):
    return node(diagnostics={'state': name, 'state_reason': reason, **values})


def uncalibrated(**changes):
    return {'calibration': replace(CALIBRATION, K_33=np.zeros((3, 3)), **changes)}
