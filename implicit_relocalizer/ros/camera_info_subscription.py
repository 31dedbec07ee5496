# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A subscription to CameraInfo that is as reliable as its publishers allow."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from implicit_relocalizer.ros.image_subscription import choose_reliability
from implicit_relocalizer.ros.quiet_subscription import QuietSubscription

_TOPIC = 'camera_info'  # before remapping
_WATCH_PERIOD_S = 1.0


class CameraInfoSubscription:
    """The newest CameraInfo, taken when it is needed.

    It is small, and sent beside an image of a megabyte: on busy cores the image pushes it out of
    the middleware's shared memory before anybody has read it, and nobody sends it again to who
    asked for best effort. So it follows the publishers, as images do.
    """

    def __init__(self, node: Node, callback: Callable[[CameraInfo], object]) -> None:
        """
        Args:
            node: Owner.
            callback: Gets the newest message, on the thread that takes.
        """
        self._node = node
        self._callback = callback
        self._reliability = ReliabilityPolicy.BEST_EFFORT
        self._subscription = self._subscribe()
        self._retiring: QuietSubscription[CameraInfo] | None = None
        self._next_watch_s = 0.0

    @property
    def topic_name(self) -> str:
        """The topic after remapping."""
        return self._subscription.topic_name

    @property
    def heard_reliability(self) -> ReliabilityPolicy:
        """The reliability that it is now asked for with."""
        return self._reliability

    def take(self) -> None:
        """Hand over what came; to be called several times a second, by the thread that spins."""
        now_s = time.monotonic()
        if now_s >= self._next_watch_s:
            self._next_watch_s = now_s + _WATCH_PERIOD_S
            self._follow_publishers()
        if self._retiring is not None:
            self._retiring.take()
        self._subscription.take()

    def destroy(self) -> None:
        """Unsubscribe; a second time it does nothing."""
        self._retire()
        self._subscription.destroy()

    def _follow_publishers(self) -> None:
        self._retire()
        wanted = choose_reliability(
            info.qos_profile.reliability
            for info in self._node.get_publishers_info_by_topic(_TOPIC))
        if wanted is not None and wanted != self._reliability:
            # The old one hears until the new one has met the publishers.
            self._retiring = self._subscription
            self._reliability = wanted
            self._subscription = self._subscribe()

    def _retire(self) -> None:
        if self._retiring is not None:
            self._retiring.take()
            self._retiring.destroy()
            self._retiring = None

    def _subscribe(self) -> QuietSubscription[CameraInfo]:
        return QuietSubscription(self._node, CameraInfo, _TOPIC, self._callback,
                                 QoSProfile(depth=1, reliability=self._reliability))
