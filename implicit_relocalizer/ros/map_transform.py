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
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
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
        self._is_lost = False
        self._moves_robot = False
        self._timer = (node.create_timer(1.0 / settings.tf_rate_hz, self._send_again)
                       if settings.tf_mode == 'map_to_odom' else None)

    def use(self, settings: Parameters) -> None:
        """Go by other parameters, as far as they may change."""
        self._settings = settings

    @property
    def moves_robot(self) -> bool:
        """Whether the camera or the base was broadcast below the map."""
        return self._moves_robot

    def place(self, fix: Fix, image_header: Header, camera_frame: str, frames: FrameTree) -> None:
        """Broadcast what an accepted fix says.

        Raises:
            NoTransformError: the camera is not connected to the base (`map_to_base`).
            NoPoseError: the frame to be placed has another parent, which a second one would
                contradict.
        """
        settings = self._settings
        self._is_lost = False
        header = Header(stamp=image_header.stamp, frame_id=settings.map_frame)
        if settings.tf_mode == 'map_to_camera':
            self._refuse_second_parent(frames, settings.base_frame, camera_frame)
            self._broadcaster.sendTransform(
                transform_from_matrix(header, fix.T_map_camera, camera_frame))
            self._moves_robot = True
        elif settings.tf_mode == 'map_to_base':
            self._refuse_second_parent(frames, settings.odom_frame, settings.base_frame)
            T_camera_base = frames.lookup(camera_frame, settings.base_frame, image_header.stamp)
            self._broadcaster.sendTransform(transform_from_matrix(
                header, fix.T_map_camera @ T_camera_base, settings.base_frame))
            self._moves_robot = True
        elif settings.tf_mode == 'map_to_odom':
            assert fix.T_odom_camera is not None, 'needs_odometry refuses such images'
            self._T_map_odom = map_from_odometry(fix.T_map_camera, fix.T_odom_camera)
            self._send_again()

    def lose(self) -> None:
        """The place is not known any more: `tf_when_lost` says what is sent."""
        self._is_lost = True

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
        withheld = self._is_lost and self._settings.tf_when_lost == 'withhold'
        if self._T_map_odom is None or withheld:
            return
        ahead: Time = self._node.get_clock().now() + Duration(seconds=self._settings.tf_tolerance)
        header = Header(stamp=ahead.to_msg(), frame_id=self._settings.map_frame)
        self._broadcaster.sendTransform(
            transform_from_matrix(header, self._T_map_odom, self._settings.odom_frame))

    def _refuse_second_parent(self, frames: FrameTree, parent: str, child: str) -> None:
        # Once we have sent, the two are connected through us: only before can it be told.
        if not self._moves_robot and parent != child and frames.is_connected(parent, child):
            raise NoPoseError(
                Reason.SECOND_PARENT,
                f"'{child}' is placed by '{parent}' already, and a frame has one parent: "
                f'{self._settings.tf_mode} is not broadcast; set tf_mode to map_to_odom, or to '
                f'none')
