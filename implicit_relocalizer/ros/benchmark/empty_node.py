# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A node that answers every image with its stamp: what DDS and rclpy alone cost.

`python -m implicit_relocalizer.ros.benchmark.empty_node TRANSPORT --ros-args ...`
"""

from __future__ import annotations

import sys

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from implicit_relocalizer.ros.benchmark.plan import NODE_NAME

_SPIN_LIMIT_S = 0.5  # as the relocalizer's


class EmptyNode(Node):
    """Hears images and answers as the relocalizer does, without looking at them."""

    def __init__(self, transport: str) -> None:
        super().__init__(NODE_NAME)
        self._publisher = self.create_publisher(PoseStamped, '~/pose', 1)
        if transport == 'compressed':
            self.create_subscription(CompressedImage, 'image/compressed', self._answer,
                                     QoSProfile(depth=1))
        else:
            self.create_subscription(Image, 'image', self._answer, QoSProfile(depth=1))

    def _answer(self, image: Image | CompressedImage) -> None:
        self._publisher.publish(PoseStamped(header=image.header))


def main() -> int:
    """Run the node until it is told to end."""
    rclpy.init()
    try:
        executor = SingleThreadedExecutor()
        executor.add_node(EmptyNode(sys.argv[1]))
        while rclpy.ok():
            executor.spin_once(_SPIN_LIMIT_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
