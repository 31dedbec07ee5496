# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Who sends which transform: a tf2 buffer, and beside it the senders that tf2 forgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from rclpy.topic_endpoint_info import TopicEndpointInfo
from tf2_msgs.msg import TFMessage
from tf2_ros import Buffer, TransformException, TransformListener

from implicit_relocalizer.localization.bringup_observation import (
    Expectation,
    Lookup,
    TransformLink,
    Transforms,
)

_UNKNOWN = '_NODE_NAME_UNKNOWN_'  # the middleware's, until it knows better
_DEPTH = 100  # as tf2's own listeners
_TOPICS = ('/tf', '/tf_static')  # the node may have remapped them


class Senders:
    """Tells whether the messages of one link come from one publisher.

    With the publisher's identity (rclpy from Kilted on) by that. Without it by the publication
    sequence numbers, each publisher's own, or the stamps: two interleaved rows go back again and
    again, one goes back when its sender starts anew.
    """

    def __init__(self) -> None:
        self.gids: list[bytes] = []
        self._turns = 0
        self._last: tuple[bytes, int] | None = None

    def add(self, gid: bytes, order: int) -> None:
        """Take in a message: its publisher (empty: unknown) and its place in the row."""
        if gid and gid not in self.gids:
            self.gids.append(gid)
        if self._last is not None:
            last_gid, last_order = self._last
            self._turns += gid != last_gid or (not gid and order < last_order)
        self._last = gid, order

    def is_contested(self, is_static: bool) -> bool:
        """Whether publishers took turns; one after another is a restart.

        Static transforms are sent once: two publishers are enough.
        """
        return len(self.gids) > 1 if is_static else self._turns > 1


class TransformWatch:
    """Listens for as long as its node lives."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)
        self._senders: dict[tuple[str, str, bool], Senders] = {}
        # Beside the listener's, because tf2 does not pass on who sent a transform.
        node.create_subscription(TFMessage, _TOPICS[0], self._on_moving, QoSProfile(depth=_DEPTH))
        node.create_subscription(
            TFMessage, _TOPICS[1], self._on_static,
            QoSProfile(depth=_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL))

    def observe(self, expected: Expectation) -> Transforms:
        """What was heard so far."""
        publishers = {topic: self._node.get_publishers_info_by_topic(topic) for topic in _TOPICS}
        names = {_comparable(info.endpoint_gid): node_of(info)
                 for infos in publishers.values() for info in infos}
        camera = expected.camera_frame
        return Transforms(
            links=tuple(
                TransformLink(parent, child, is_static, _names_of(senders, names),
                              senders.is_contested(is_static))
                for (parent, child, is_static), senders in sorted(self._senders.items())),
            odometry=self._look_up(expected.odom_frame, expected.base_frame),
            camera_mount=self._look_up(expected.base_frame, camera) if camera else None,
            publishers=tuple(sorted({node_of(info) for info in publishers[_TOPICS[0]]})))

    def _look_up(self, target: str, source: str) -> Lookup:
        try:
            found = self._buffer.lookup_transform(target, source, Time())
        except TransformException as error:
            return Lookup(False, ' '.join(str(error).split()).rstrip('. '))
        stamp = found.header.stamp
        return Lookup(True, stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec)

    def _on_moving(self, message: TFMessage, info: Mapping[str, Any]) -> None:
        self._add(message, info, is_static=False)

    def _on_static(self, message: TFMessage, info: Mapping[str, Any]) -> None:
        self._add(message, info, is_static=True)

    def _add(self, message: TFMessage, info: Mapping[str, Any], is_static: bool) -> None:
        gid = _comparable((info.get('publisher_gid') or {}).get('data', b''))
        number = info.get('publication_sequence_number')
        for transform in message.transforms:
            stamp = transform.header.stamp
            order = number if number is not None else stamp.sec * 1_000_000_000 + stamp.nanosec
            # tf2 drops a leading slash as well.
            key = (transform.header.frame_id.removeprefix('/'),
                   transform.child_frame_id.removeprefix('/'), is_static)
            self._senders.setdefault(key, Senders()).add(gid, order)


def node_of(info: TopicEndpointInfo) -> str:
    """Fully qualified name of the node behind a publisher or subscription."""
    if info.node_name == _UNKNOWN:
        return 'a node not known yet'
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'


def _comparable(gid: Any) -> bytes:
    # The two sources pad to different lengths, depending on the middleware.
    return bytes(gid).rstrip(b'\0')


def _names_of(senders: Senders, names: Mapping[bytes, str]) -> tuple[str, ...]:
    return tuple(sorted(names.get(gid, 'a node that has left') for gid in senders.gids))
