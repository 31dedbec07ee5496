# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Collect what the node answers while a drive is played, and keep the run as a bag."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tf2_msgs.msg import TFMessage

from implicit_relocalizer.evaluation.drive import ReceivedPose

POSE_TOPIC = '/relocalizer/pose'
COVARIANCE_TOPIC = '/relocalizer/pose_with_covariance'
TF_TOPIC = '/tf'

_MESSAGE_TYPES = {POSE_TOPIC: PoseStamped, COVARIANCE_TOPIC: PoseWithCovarianceStamped,
                  TF_TOPIC: TFMessage, '/diagnostics': DiagnosticArray}
_QUEUE_DEPTH = 100  # as tf2's own listeners


class DriveClock:
    """Nanoseconds since the epoch that never jump: wall time at the start, then monotonic.

    Stamps, sending and arrival share it, so that latencies are differences of one clock.
    """

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """The current time."""
        return self._offset_ns + time.monotonic_ns()


@dataclass(frozen=True)
class RecordedMessage:
    """A message as it lies in a bag: absolute topic, ROS type, CDR bytes and its time."""

    topic: str
    type_name: str
    time_ns: int
    cdr: bytes


class DriveRecorder(Node):
    """Keeps what the node says and /tf, still serialized, with the times of their arrival."""

    def __init__(self, clock: DriveClock) -> None:
        super().__init__('drive_recorder')
        self._drive_clock = clock
        self._messages: list[RecordedMessage] = []
        self._drive_subscriptions = {
            topic: self.create_subscription(
                message_type, topic, self._make_callback(topic, message_type),
                QoSProfile(depth=_QUEUE_DEPTH), raw=True)
            for topic, message_type in _MESSAGE_TYPES.items()}

    @property
    def messages(self) -> tuple[RecordedMessage, ...]:
        """Everything received so far, in the order of arrival."""
        return tuple(self._messages)

    def count_pose_publishers(self) -> int:
        """How many publishers of poses are connected."""
        return self._drive_subscriptions[POSE_TOPIC].get_publisher_count()

    def poses(self) -> tuple[ReceivedPose, ...]:
        """The poses received so far."""
        poses = []
        for record in self._messages:
            if record.topic != POSE_TOPIC:
                continue
            message = deserialize_message(record.cdr, PoseStamped)
            poses.append(_received_pose(
                message.header, '', message.pose.position, message.pose.orientation, record))
        return tuple(poses)

    def covariance_stamps_ns(self) -> set[int]:
        """The stamps of the poses with covariance received so far."""
        return {stamp_to_ns(deserialize_message(
                    record.cdr, PoseWithCovarianceStamped).header.stamp)
                for record in self._messages if record.topic == COVARIANCE_TOPIC}

    def transforms(self) -> tuple[ReceivedPose, ...]:
        """The transforms received so far, one by one."""
        return tuple(
            _received_pose(item.header, item.child_frame_id, item.transform.translation,
                           item.transform.rotation, record)
            for record in self._messages if record.topic == TF_TOPIC
            for item in deserialize_message(record.cdr, TFMessage).transforms)

    def _make_callback(self, topic: str, message_type: type) -> Any:
        name = ros_type_name(message_type)

        def keep(cdr: bytes) -> None:
            self._messages.append(RecordedMessage(topic, name, self._drive_clock.now_ns(), cdr))

        return keep


def write_bag(path: Path, messages: Iterable[RecordedMessage]) -> None:
    """Write messages as a ROS 2 bag (mcap, zstd chunks), replacing an earlier bag at `path`.

    Raises:
        FileExistsError: `path` exists and is no bag.
    """
    if path.exists():
        if not path.is_dir() or any(not _belongs_to_bag(file) for file in path.iterdir()):
            raise FileExistsError(f'{path}: exists and holds more than a bag; move it away')
        shutil.rmtree(path)
    typestore = get_typestore(Stores.ROS2_KILTED)
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for message in sorted(messages, key=lambda m: m.time_ns):
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(
                    message.topic, message.type_name, typestore=typestore)
            writer.write(connections[message.topic], message.time_ns, message.cdr)


def ros_type_name(message_type: type) -> str:
    """`sensor_msgs/msg/Image` for the class of that message."""
    package, kind = message_type.__module__.split('.')[:2]
    return f'{package}/{kind}/{message_type.__name__}'


def stamp_to_ns(stamp: Time) -> int:
    """A message's stamp in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def stamp_from_ns(stamp_ns: int) -> Time:
    """A message's stamp from nanoseconds."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def _belongs_to_bag(file: Path) -> bool:
    # An interrupted run leaves a bag without its metadata, or with a temporary one.
    return file.suffix == '.mcap' or file.name.startswith('metadata.yaml')


def _received_pose(header: Any, child: str, position: Any, rotation: Any,
                   record: RecordedMessage) -> ReceivedPose:
    return ReceivedPose(
        stamp_to_ns(header.stamp), record.time_ns, header.frame_id, child,
        (position.x, position.y, position.z), (rotation.x, rotation.y, rotation.z, rotation.w))
