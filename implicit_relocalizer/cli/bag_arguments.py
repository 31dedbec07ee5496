# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The options that say how to read a ROS 2 bag."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from implicit_relocalizer.data.poses import pose_from_quaternion
from implicit_relocalizer.data.readers.bag_options import BagOptions

_DEFAULTS = BagOptions()


def add_bag_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a group of options for ROS 2 bags; all may be left out where the bag is unambiguous."""
    add = parser.add_argument_group(
        'ROS 2 bags', 'what is left out is looked for in the bag; doc/bags.md').add_argument
    add('--image-topic', metavar='TOPIC', help='Image or CompressedImage')
    add('--camera-info-topic', metavar='TOPIC', help='CameraInfo (default: beside the images)')
    add('--camera-info-file', type=Path, metavar='YAML',
        help='a file of camera_calibration instead of a CameraInfo topic')
    add('--rectified', action=argparse.BooleanOptionalAction, default=None,
        help='the images are rectified: P describes them (default: topics named image_rect...)')
    add('--pose-topic', metavar='TOPIC',
        help='PoseStamped, PoseWithCovarianceStamped or Odometry')
    add('--world-frame', metavar='FRAME', help='poses from /tf in this frame, not from a topic')
    add('--pose-frame', metavar='FRAME',
        help='whose poses the topic holds (default: child_frame_id of Odometry)')
    add('--camera-frame', metavar='FRAME',
        help='the optical frame of the camera (default: frame_id of the images)')
    add('--T-body-camera', type=float, nargs=7, metavar=('X', 'Y', 'Z', 'QX', 'QY', 'QZ', 'QW'),
        help='where the camera sits on the body of the pose topic, instead of /tf_static')
    add('--pose-is-camera', action='store_true', default=None,
        help='the pose topic holds the poses of the camera (x right, y down, z forward)')
    add('--max-gap-s', type=float, metavar='S',
        help=f'longest time between the two poses around an image ({_DEFAULTS.max_gap_s:g})')
    add('--min-distance-m', type=float, metavar='M',
        help=f'keep a frame that moved so far from the last one kept '
             f'({_DEFAULTS.min_distance_m:g}), or')
    add('--min-angle-deg', type=float, metavar='DEG',
        help=f'turned so much ({_DEFAULTS.min_angle_deg:g}); 0 keeps all')
    add('--held-out-tail', type=float, metavar='SHARE',
        help='hold out the last share of the time, such as 0.2, instead of every 8th frame')


def bag_options(options: argparse.Namespace) -> dict[str, object]:
    """The fields of `BagOptions` as the user gave them, None where they are left out.

    Raises:
        SceneError: --T-body-camera holds no unit quaternion.
    """
    given = {field.name: getattr(options, field.name) for field in fields(BagOptions)}
    if options.T_body_camera is not None:
        *position, qx, qy, qz, qw = options.T_body_camera
        given['T_body_camera'] = pose_from_quaternion((qx, qy, qz, qw), position,
                                                      '--T-body-camera')
    return given
