# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The one transform that places the robot in the map, by `tf_mode`."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster

from implicit_relocalizer.localization.agreement import Fix, Transform
from implicit_relocalizer.localization.frames import map_from_odometry
from implicit_relocalizer.ros.conversions import transform_from_matrix
from implicit_relocalizer.ros.frame_tree import FrameTree
from implicit_relocalizer.ros.parameters import Parameters


class MapTransform:
    """Broadcasts nothing before the first accepted fix.

    `map_to_camera` and `map_to_base` are sent with the stamp of each accepted image;
    `map_to_odom` holds until the next fix, and is sent again at a steady rate, stamped ahead of
    the clock so that others can use it at once (as AMCL does).
    """

    def __init__(self, node: Node, settings: Parameters) -> None:
        self._node = node
        self._settings = settings
        self._broadcaster = TransformBroadcaster(node)
        self._T_map_odom: Transform | None = None
        self._withheld = False
        self._timer = (node.create_timer(1.0 / settings.tf_rate_hz, self._send_again)
                       if settings.tf_mode == 'map_to_odom' else None)

    def use(self, settings: Parameters) -> None:
        """Go by other parameters, as far as they may change."""
        self._settings = settings

    def place(self, fix: Fix, image_header: Header, camera_frame: str, frames: FrameTree) -> None:
        """Broadcast what an accepted fix says.

        Raises:
            NoTransformError: the camera is not connected to the base (`map_to_base`).
        """
        settings = self._settings
        header = Header(stamp=image_header.stamp, frame_id=settings.map_frame)
        if settings.tf_mode == 'map_to_camera':
            self._broadcaster.sendTransform(
                transform_from_matrix(header, fix.T_map_camera, camera_frame))
        elif settings.tf_mode == 'map_to_base':
            T_camera_base = frames.lookup(camera_frame, settings.base_frame, image_header.stamp)
            self._broadcaster.sendTransform(transform_from_matrix(
                header, fix.T_map_camera @ T_camera_base, settings.base_frame))
        elif settings.tf_mode == 'map_to_odom':
            assert fix.T_odom_camera is not None, 'needs_odometry refuses such images'
            self._T_map_odom = map_from_odometry(fix.T_map_camera, fix.T_odom_camera)
            self._withheld = False
            self._send_again()

    def lose(self) -> None:
        """The place is not known any more: by `tf_when_lost`, fall silent."""
        self._withheld = self._settings.tf_when_lost == 'withhold'

    def forget(self) -> None:
        """What was sent does not hold any more: say nothing until the next fix."""
        self._T_map_odom = None

    def close(self) -> None:
        """End."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        self._node.destroy_publisher(self._broadcaster.pub_tf)

    def _send_again(self) -> None:
        if self._T_map_odom is None or self._withheld:
            return
        ahead: Time = self._node.get_clock().now() + Duration(seconds=self._settings.tf_tolerance)
        header = Header(stamp=ahead.to_msg(), frame_id=self._settings.map_frame)
        self._broadcaster.sendTransform(
            transform_from_matrix(header, self._T_map_odom, self._settings.odom_frame))
