# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Broadcasts the one transform that places the robot in the map."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header
from tf2_ros import TransformBroadcaster

from implicit_relocalizer.localization.map_transform import MapTransform, PlacedFrame
from implicit_relocalizer.localization.parameters import Parameters
from implicit_relocalizer.ros.conversions import transform_from_matrix


class MapBroadcast(MapTransform):
    """A MapTransform on /tf, by the node's clock, from construction until `close`."""

    def __init__(self, node: Node, settings: Parameters) -> None:
        super().__init__(settings, self._broadcast,
                         lambda: int(node.get_clock().now().nanoseconds))
        self._node = node
        self._broadcaster = TransformBroadcaster(node)
        self._timer = (node.create_timer(1.0 / settings.tf_rate_hz, self.send_again)
                       if settings.tf_mode == 'map_to_odom' else None)

    def close(self) -> None:
        """End."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        self._node.destroy_publisher(self._broadcaster.pub_tf)

    def _broadcast(self, placed: PlacedFrame) -> None:
        header = Header(stamp=Time(nanoseconds=placed.stamp_ns).to_msg(), frame_id=placed.parent)
        self._broadcaster.sendTransform(
            transform_from_matrix(header, placed.T_parent_child, placed.child))
