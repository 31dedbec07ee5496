# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Tells AMCL where the robot is, until it has heard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from implicit_relocalizer.localization.agreement import Fix
from implicit_relocalizer.localization.frames import (
    map_from_odometry,
    move_covariance,
    widen_covariance,
)
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.ros.conversions import pose_from_matrix, pose_with_covariance_msg
from implicit_relocalizer.ros.frame_tree import FrameTree


@dataclass(frozen=True, eq=False)
class _Announcement:
    fix: Fix
    camera_frame: str


class InitialPose:
    """Publishes `initialpose`, and listens to `amcl_pose` to know when to stop.

    The first message has the stamp of the image. Repeats are carried on by odometry, where there
    is one, to its newest stamp: AMCL keeps transforms of some seconds only, and a late one could
    not relate the image's stamp to where the robot has driven since.
    """

    def __init__(self, node: Node, frames: FrameTree) -> None:
        self._node = node
        self._frames = frames
        self._publisher = node.create_publisher(PoseWithCovarianceStamped, 'initialpose', 1)
        self._subscription = node.create_subscription(
            PoseWithCovarianceStamped, 'amcl_pose', self._on_amcl_pose, 1)
        self._pending: _Announcement | None = None
        self._next_s = 0.0
        self._was_heard_by_someone = False

    @property
    def has_listeners(self) -> bool:
        """Whether anybody would hear."""
        return self._publisher.get_subscription_count() > 0

    def announce(self, fix: Fix, camera_frame: str, settings: Parameters, now_s: float) -> None:
        """Publish the robot's pose, and begin to repeat it.

        Raises:
            NoTransformError: the camera is not connected to the base; it is tried again.
        """
        self._pending = _Announcement(fix, camera_frame)
        self._was_heard_by_someone = False
        self._next_s = now_s + settings.initialpose_repeat_s
        try:
            self._publish(self._message(settings, moved_on=False))
        finally:
            if settings.initialpose_repeat_s <= 0.0:
                self._pending = None

    def repeat(self, settings: Parameters, now_s: float) -> None:
        """Publish it again if it is time; to be called many times a second.

        Raises:
            NoTransformError: the camera is not connected to the base.
        """
        if self._pending is None or now_s < self._next_s:
            return
        if settings.initialpose_repeat_s <= 0.0:
            self._pending = None
            return
        self._next_s = now_s + settings.initialpose_repeat_s
        self._publish(self._message(settings, moved_on=True))

    def withdraw(self) -> None:
        """Stop to repeat: what was announced does not hold any more."""
        self._pending = None

    def close(self) -> None:
        """End."""
        self._pending = None
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_subscription(self._subscription)

    def _publish(self, message: PoseWithCovarianceStamped) -> None:
        self._publisher.publish(message)
        self._was_heard_by_someone |= self.has_listeners

    def _message(self, settings: Parameters, moved_on: bool) -> PoseWithCovarianceStamped:
        assert self._pending is not None
        fix = self._pending.fix
        T_camera_base = self._frames.lookup(self._pending.camera_frame, settings.base_frame,
                                            fix.stamp_ns)
        T_map_base = fix.T_map_camera @ T_camera_base
        stamp = Time(nanoseconds=fix.stamp_ns).to_msg()
        if moved_on and fix.T_odom_camera is not None:
            T_odom_base, stamp = self._frames.latest(settings.odom_frame, settings.base_frame)
            T_map_base = map_from_odometry(fix.T_map_camera, fix.T_odom_camera) @ T_odom_base
        covariance_66 = widen_covariance(
            move_covariance(fix.estimate.covariance_66, fix.T_map_camera, T_camera_base),
            settings.initialpose_std_m, float(np.radians(settings.initialpose_std_deg)))
        return pose_with_covariance_msg(Header(stamp=stamp, frame_id=settings.map_frame),
                                        pose_from_matrix(T_map_base), covariance_66)

    def _on_amcl_pose(self, _: PoseWithCovarianceStamped) -> None:
        if self._pending is not None and self._was_heard_by_someone:
            self._pending = None
            self._node.get_logger().info('AMCL answered: initialpose is not repeated any more')


