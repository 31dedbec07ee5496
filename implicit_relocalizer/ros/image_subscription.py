# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A subscription to images that is as reliable as their publishers allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image

_TOPIC, _COMPRESSED_TOPIC = 'image', 'image/compressed'  # before remapping
_WATCH_PERIOD_S = 1.0
_MESSAGE_TYPES = {'raw': Image, 'compressed': CompressedImage}
_TYPE_NAMES = {transport: f'sensor_msgs/msg/{message_type.__name__}'
               for transport, message_type in _MESSAGE_TYPES.items()}


class ImageSubscription:
    """Subscribes to images; with reliability 'auto' it follows the publishers of the topic.

    Best effort hears every publisher, but one lost fragment of a big image loses the image;
    reliable hears reliable publishers only. ROS 2's own "best available" decides once, and for
    reliable where no publisher is known yet (rmw_dds_common up to Kilted), deaf to a best-effort
    camera that starts later. This one begins with what every publisher can serve, and looks
    again every second.

    A publisher that cannot be heard, for its quality of service or its type, is warned of once
    with the remedy.
    """

    def __init__(self, node: Node, transport: str, reliability: str, depth: int,
                 callback: Callable[[Image | CompressedImage], None]) -> None:
        """Subscribe.

        Args:
            node: Owner; its executor calls back.
            transport: 'raw' for Image on `image`; 'compressed' for CompressedImage on
                `image/compressed`, see `compressed_topic`.
            reliability: 'auto', 'best_effort' or 'reliable'.
            depth: Images that wait for the callback.
            callback: Gets every image.
        """
        self._node = node
        self._transport = transport
        self._topic = _TOPIC if transport == 'raw' else compressed_topic(node)
        self._reliability = reliability
        self._depth = depth
        self._callback = callback
        self._warned_of: set[str] = set()
        self._topic_name = ''
        self._subscription: Subscription | None = None
        self._timer: Timer | None = None
        self._subscribe({'reliable': ReliabilityPolicy.RELIABLE}.get(
            reliability, ReliabilityPolicy.BEST_EFFORT))
        self._watch_publishers()
        # Simulated time stands still until someone publishes it.
        self._timer = node.create_timer(_WATCH_PERIOD_S, self._watch_publishers,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def topic_name(self) -> str:
        """The topic after remapping."""
        return self._topic_name

    @property
    def heard_reliability(self) -> ReliabilityPolicy:
        """The reliability that images are now asked for with."""
        return self._chosen

    def destroy(self) -> None:
        """Unsubscribe; a second time it does nothing.

        Call it where the node's executor cannot run callbacks at the same time: in one of them,
        or while nobody spins.
        """
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._timer = self._subscription = None

    def _watch_publishers(self) -> None:
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        own_type = _TYPE_NAMES[self._transport]
        offered = [info.qos_profile.reliability for info in publishers
                   if info.topic_type == own_type]
        if publishers and not offered:
            self._warn_once('type', self._explain_type(publishers[0].topic_type))
        wanted = choose_reliability(offered)
        if self._reliability == 'auto' and wanted is not None and wanted != self._chosen:
            self._subscribe(wanted)
            self._node.get_logger().info(
                f"images from '{self._topic_name}' with reliability {wanted.name.lower()}, "
                f'as published')

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._chosen = reliability
        self._subscription = self._node.create_subscription(
            _MESSAGE_TYPES[self._transport], self._topic, self._callback,
            QoSProfile(depth=self._depth, reliability=reliability),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible_qos))
        self._topic_name = str(self._subscription.topic_name)

    def _on_incompatible_qos(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy != QoSPolicyKind.RELIABILITY.name:
            self._warn_once(policy, f"a publisher of '{self._topic_name}' offers another "
                            f'{policy} than is asked for, its images are not heard: give it the '
                            f'default one')
        elif self._reliability != 'auto':  # which will follow within a second
            self._warn_once(policy, f"a publisher of '{self._topic_name}' offers {policy} "
                            f'best_effort, image_reliability is {self._reliability}, its images '
                            f'are not heard: set image_reliability to auto or best_effort')

    def _explain_type(self, published: str) -> str:
        problem = (f"'{self._topic_name}' is published as {published}, image_transport "
                   f'{self._transport} needs {_TYPE_NAMES[self._transport]}, nothing is heard: ')
        if published == _TYPE_NAMES['compressed']:
            return (f'{problem}set image_transport to compressed and remap '
                    f'{_COMPRESSED_TOPIC}:={self._topic_name}')
        if published == _TYPE_NAMES['raw']:
            return f'{problem}set image_transport to raw and remap {_TOPIC}:={self._topic_name}'
        return f"{problem}remap {_TOPIC} to the camera's topic"

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned_of:
            self._warned_of.add(kind)
            self._node.get_logger().warning(text)


def compressed_topic(node: Node) -> str:
    """Where the compressed images are: the topic `image` after remapping, then `/compressed`.

    That is image_transport's convention. A remapping of `image/compressed` itself goes first,
    and one of `image` that ends in `/compressed` is left as it is.
    """
    if (node.resolve_topic_name(_COMPRESSED_TOPIC) !=
            node.resolve_topic_name(_COMPRESSED_TOPIC, only_expand=True)):
        return _COMPRESSED_TOPIC
    base = node.resolve_topic_name(_TOPIC)
    return base if base.endswith('/compressed') else f'{base}/compressed'


def choose_reliability(publishers: Iterable[ReliabilityPolicy]) -> ReliabilityPolicy | None:
    """The most reliable policy that hears all of these publishers; None where there are none."""
    found = set(publishers)
    if not found:
        return None
    if found == {ReliabilityPolicy.RELIABLE}:
        return ReliabilityPolicy.RELIABLE
    return ReliabilityPolicy.BEST_EFFORT
