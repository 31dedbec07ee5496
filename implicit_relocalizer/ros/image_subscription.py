# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A subscription to images that is as reliable as their publishers allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

_TOPIC = 'image'  # before remapping
_WATCH_PERIOD_S = 1.0


class ImageSubscription:
    """Subscribes to `image`; with reliability 'auto' it follows the publishers of the topic.

    Best effort hears every publisher, but one lost fragment of a big image loses the image;
    reliable hears reliable publishers only. ROS 2's own "best available" decides once, and for
    reliable where no publisher is known yet (rmw_dds_common up to Kilted), deaf to a best-effort
    camera that starts later. This one begins with what every publisher can serve, and looks
    again every second.
    """

    def __init__(self, node: Node, reliability: str, callback: Callable[[Image], None]) -> None:
        """Subscribe.

        Args:
            node: Owner; its executor calls back.
            reliability: 'auto', 'best_effort' or 'reliable'.
            callback: Gets every image.
        """
        self._node = node
        self._callback = callback
        self._subscription: Subscription | None = None
        self._chosen: ReliabilityPolicy | None = None
        self._subscribe({'reliable': ReliabilityPolicy.RELIABLE}.get(
            reliability, ReliabilityPolicy.BEST_EFFORT))
        if reliability == 'auto':
            self._follow_publishers()
            node.create_timer(_WATCH_PERIOD_S, self._follow_publishers)

    @property
    def topic_name(self) -> str:
        """The topic after remapping."""
        assert self._subscription is not None
        return str(self._subscription.topic_name)

    def _follow_publishers(self) -> None:
        publishers = self._node.get_publishers_info_by_topic(_TOPIC)
        wanted = choose_reliability(info.qos_profile.reliability for info in publishers)
        if wanted is not None and wanted != self._chosen:
            self._subscribe(wanted)
            self._node.get_logger().info(
                f"images from '{self.topic_name}' with reliability {wanted.name.lower()}, "
                f'as published')

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._chosen = reliability
        self._subscription = self._node.create_subscription(
            Image, _TOPIC, self._callback, QoSProfile(depth=1, reliability=reliability))


def choose_reliability(publishers: Iterable[ReliabilityPolicy]) -> ReliabilityPolicy | None:
    """The most reliable policy that hears all of these publishers; None where there are none."""
    found = set(publishers)
    if not found:
        return None
    if found == {ReliabilityPolicy.RELIABLE}:
        return ReliabilityPolicy.RELIABLE
    return ReliabilityPolicy.BEST_EFFORT
