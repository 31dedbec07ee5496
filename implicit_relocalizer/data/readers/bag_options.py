# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a user may say about a recording; whatever is left out is looked for in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from implicit_relocalizer.data.frames import Float64Array


@dataclass(frozen=True)
class BagOptions:
    """How to read a ROS 2 bag.

    Attributes:
        image_topic: Image or CompressedImage; the only one of the bag when None.
        camera_info_topic: CameraInfo; the one beside the image topic when None.
        camera_info_file: A YAML file of camera_calibration instead of a topic.
        rectified: Whether the images are rectified (P instead of K and distortion); when None,
            they are if the image topic is named as image_proc names them (`image_rect...`).
        pose_topic: PoseStamped, PoseWithCovarianceStamped or Odometry.
        world_frame: Take the poses from transforms into this frame, not from a topic.
        pose_frame: The body whose poses the topic holds; Odometry's child_frame_id when None.
        camera_frame: The camera's optical frame; the images' frame_id when None.
        T_body_camera: 4x4, where the camera sits on the body, instead of transforms.
        pose_is_camera: The topic holds the poses of the camera itself, optical axes.
        max_gap_s: Longest time between the two poses around an image.
        min_distance_m: A frame is kept when it moved at least so far from the last one kept, or
        min_angle_deg: turned at least so much. A zero keeps every frame.
        held_out_tail: Hold out this share of the frames at the end instead of every 8th.
    """

    image_topic: str | None = None
    camera_info_topic: str | None = None
    camera_info_file: Path | None = None
    rectified: bool | None = None
    pose_topic: str | None = None
    world_frame: str | None = None
    pose_frame: str | None = None
    camera_frame: str | None = None
    T_body_camera: Float64Array | None = None
    pose_is_camera: bool = False
    max_gap_s: float = 0.2
    min_distance_m: float = 0.02
    min_angle_deg: float = 1.0
    held_out_tail: float | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the bag."""
        if self.pose_topic is not None and self.world_frame is not None:
            raise ValueError(f'poses come from the topic {self.pose_topic!r} or from transforms '
                             f'into {self.world_frame!r}; give one of the two')
        if self.T_body_camera is not None and self.pose_is_camera:
            raise ValueError('T_body_camera says where the camera sits on a body, pose_is_camera '
                             'that there is none; give one of the two')
        if self.world_frame is not None and (self.T_body_camera is not None or self.pose_frame
                                             or self.pose_is_camera):
            raise ValueError(f'poses from transforms into {self.world_frame!r} are those of the '
                             f'camera frame; pose_frame, T_body_camera and pose_is_camera are '
                             f'for poses from a topic')
        if self.camera_info_topic is not None and self.camera_info_file is not None:
            raise ValueError('the calibration comes from a topic or from a file; give one')
        if not self.max_gap_s > 0.0:
            raise ValueError(f'max_gap_s is {self.max_gap_s:g}, expected more than 0')
        if not (self.min_distance_m >= 0.0 and self.min_angle_deg >= 0.0):
            raise ValueError(f'min_distance_m {self.min_distance_m:g} and min_angle_deg '
                             f'{self.min_angle_deg:g} cannot be negative')
        if self.held_out_tail is not None and not 0.0 < self.held_out_tail < 1.0:
            raise ValueError(f'held_out_tail is {self.held_out_tail:g}, expected a share between '
                             f'0 and 1')
