# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Sends fixed transforms on /tf_static, for those too who join later."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from tf2_ros.transform_broadcaster import as_list


class StaticTransformBroadcaster:
    """Publishes transforms that hold at all times.

    A late joiner receives the last message only, so each message repeats every child frame
    sent so far.
    """

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        """
        Args:
            node: The node that publishes.
            qos: Profile or history depth; by default reliable, transient local, depth 1.
        """
        if qos is None:
            qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.pub_tf = node.create_publisher(TFMessage, '/tf_static', qos)
        self._transform_by_child: dict[str, TransformStamped] = {}

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:
        """Sends these with all earlier transforms; a child's new one replaces its old one."""
        for stamped in as_list(transform):
            self._transform_by_child[stamped.child_frame_id] = stamped
        self.pub_tf.publish(TFMessage(transforms=list(self._transform_by_child.values())))
