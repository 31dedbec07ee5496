# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the node: default, meaning, what is allowed, and when it may change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterEntry:
    """One parameter.

    Attributes:
        name: Of the parameter.
        default: Its type is the parameter's.
        description: One sentence or two.
        choices: The texts allowed; empty for any.
        limits: Least and largest number allowed.
        at_run_time: Whether it may change while the node is configured.
        is_frame: Names a frame, and may not be empty.
    """

    name: str
    default: str | bool | int | float
    description: str
    choices: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    at_run_time: bool = False
    is_frame: bool = False


def _fixed(name: str, default: str | bool | int | float, description: str,
           choices: tuple[str, ...] = (), limits: tuple[float, float] | None = None,
           is_frame: bool = False) -> ParameterEntry:
    return ParameterEntry(name, default, description, choices, limits, False, is_frame)


def _live(name: str, default: str | bool | int | float, description: str,
          limits: tuple[float, float] | None = None,
          choices: tuple[str, ...] = ()) -> ParameterEntry:
    return ParameterEntry(name, default, description, choices, limits, at_run_time=True)


PARAMETERS: tuple[ParameterEntry, ...] = (
    _fixed('model', '', 'Path of the model file; required to configure.'),
    _fixed('device', 'auto', 'Where the model runs; auto takes CUDA where there is one.',
           ('auto', 'cpu', 'cuda')),
    _fixed('num_threads', 1, 'CPU threads of the model; 0 leaves the choice to torch.',
           limits=(0, 1024)),
    _fixed('cuda_graphs', True, 'On CUDA, capture the model once for each size of images and '
                                'replay it; false calls it step by step.'),
    _fixed('autostart', True, 'Configure and activate without a lifecycle manager; a failure then '
                              'ends the program.'),
    _fixed('mode', 'continuous', 'When images are looked at: until a first pose is agreed on, '
                                 'always, or when a service asks.',
           ('startup', 'continuous', 'on_request')),
    _fixed('map_frame', 'map', 'Name of the frame that the model answers in.', is_frame=True),
    _fixed('odom_frame', 'odom', 'Frame of the odometry.', is_frame=True),
    _fixed('base_frame', 'base_link', 'Frame of the robot.', is_frame=True),
    _fixed('camera_frame', '', 'Optical frame of the camera; empty takes the frame_id of the '
                               'images.'),
    _fixed('tf_mode', 'map_to_camera', 'Which transform is broadcast.',
           ('map_to_odom', 'map_to_base', 'map_to_camera', 'none')),
    _fixed('odometry', 'auto', 'Whether the motion between images comes from TF: where there is '
                               'one, always, or never.', ('auto', 'required', 'none')),
    _fixed('image_transport', 'raw', 'Whether images come as Image or CompressedImage.',
           ('raw', 'compressed')),
    _fixed('image_reliability', 'auto', 'Reliability of the image subscription; auto follows the '
                                        'publishers.', ('auto', 'best_effort', 'reliable')),
    _fixed('image_depth', 1, 'Queue of the image subscription.', limits=(1, 100)),
    _fixed('rectified', False, 'The images are rectified: use P of CameraInfo, not K.'),
    _live('min_confidence', -1.0, 'An answer with less confidence is refused; below 0 the model '
                                  'says how much is needed.', (-1.0, 1.0)),
    _live('max_position_std_m', 0.3, 'An answer whose own covariance says that it may be off by '
                                     'more is refused; 0 refuses none.', (0.0, 1e3)),
    _live('map_margin_m', 1.0, 'An answer further outside of the box around the training cameras '
                               'is refused.', (0.0, 1e6)),
    _live('max_rate_hz', 0.0, 'At most so many images per second are looked at; 0 means no limit.',
          (0.0, 1000.0)),
    _live('consensus_fixes', 3, 'So many answers to images of different stamps have to agree; '
                                '1 lets every answer stand by itself.', (1, 100)),
    _live('consensus_window_s', 2.0, 'Between the stamps of the first and the last of them.',
          (0.0, 3600.0)),
    _live('agree_translation_m', 0.3, 'How far apart answers may be once motion is taken out.',
          (0.0, 1e3)),
    _live('agree_rotation_deg', 8.0, 'Likewise, in degrees.', (0.0, 180.0)),
    _live('odometry_drift', 0.05, 'Metres that odometry errs in a metre, and degrees in a degree.',
          (0.0, 10.0)),
    _live('max_linear_speed_mps', 1.0, 'How fast the camera may move where there is no odometry; '
                                       '0 says that it stands still.', (0.0, 1e3)),
    _live('max_angular_speed_dps', 60.0, 'Likewise, degrees per second.', (0.0, 1e4)),
    _live('lost_after_s', 0.7, 'Without an accepted answer for so long, and over three images, '
                               'the robot is lost (mode continuous).', (0.0, 3600.0)),
    _live('request_timeout_s', 5.0, 'A request to relocalize is answered with a failure after so '
                                    'long.', (0.1, 3600.0)),
    _live('odometry_wait_s', 0.2, 'How long odometry may come after its image.', (0.0, 10.0)),
    _fixed('tf_rate_hz', 20.0, 'How often map_to_odom is sent again.', limits=(0.1, 1000.0)),
    _live('tf_tolerance', 0.3, 'How far ahead map_to_odom is stamped, seconds.', (0.0, 10.0)),
    _live('tf_when_lost', 'keep', 'Whether map_to_odom is sent on while the robot is lost or '
                                  'searched for again.', choices=('keep', 'withhold')),
    _live('announce_initialpose', True, 'Publish initialpose when the place becomes known.'),
    _live('initialpose_repeat_s', 1.0, 'Repeat initialpose at this interval until amcl_pose is '
                                       'heard; 0 sends it once.', (0.0, 3600.0)),
    _live('initialpose_std_m', 0.1, 'The least standard deviation of x, y, z in initialpose.',
          (1e-4, 100.0)),
    _live('initialpose_std_deg', 3.0, 'The least standard deviation of the rotations in '
                                      'initialpose.', (0.01, 180.0)),
)
