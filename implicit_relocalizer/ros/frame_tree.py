# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms between the robot's frames, as matrices."""

from __future__ import annotations

import threading
import time

import numpy as np
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage
from tf2_ros import Buffer, TransformException
from tf_transformations import quaternion_matrix

from implicit_relocalizer.localization.agreement import Transform
from implicit_relocalizer.localization.frames import NoTransformError
from implicit_relocalizer.localization.stamps import TransformStamps
from implicit_relocalizer.ros.quiet_subscription import QuietSubscription

_LATEST = Time()
_DEPTH = 100  # as tf2's own listeners
_AUTHORITY = 'relocalizer'  # for tf2's warnings
_LOOK_AGAIN_S = 0.002


class FrameTree:
    """What /tf and /tf_static tell, from construction until `close`.

    Not tf2's listener: a robot has hundreds of transforms a second, each of which would wake the
    executor, and an image needs one of them. They wait in their queue of a hundred until they are
    asked for, or until `hear`.

    A buffer refuses all that is older than its newest by more than its length, and a late
    message of the time before a jump may be that newest: it would stay deaf for as long as the
    jump was. Images tell of jumps too, but on another topic, in no order with this one.
    """

    def __init__(self, node: Node) -> None:
        # Not told the node, for which it would offer a service, once more with every activation.
        # Jumps in time come through `forget`, from the stamps of the images.
        self._buffer = Buffer()
        self._stamps = TransformStamps()
        self._stopped = threading.Event()
        self._moving = QuietSubscription(node, TFMessage, '/tf', self._take_moving,
                                         QoSProfile(depth=_DEPTH))
        self._static = QuietSubscription(
            node, TFMessage, '/tf_static', self._take_static,
            QoSProfile(depth=_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL))

    def hear(self) -> None:
        """Take what came; to be called many times a second, before the queue is full."""
        self._static.take()
        self._moving.take()

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int,
               wait_s: float = 0.0) -> Transform:
        """T_target_source at a stamp; blocks at most `wait_s` for it to become known.

        Raises:
            NoTransformError: unknown, or not at this stamp.
        """
        when = Time(nanoseconds=stamp_ns)
        # Not by the buffer's own wait, whose clock may be the simulation's and stand still.
        end_s = time.monotonic() + wait_s
        self.hear()
        while (time.monotonic() < end_s
               and not self._buffer.can_transform(target_frame, source_frame, when)
               and not self._stopped.wait(_LOOK_AGAIN_S)):
            self.hear()
        return matrix_from_transform(self._find(target_frame, source_frame, when))

    def latest(self, target_frame: str, source_frame: str) -> tuple[Transform, TimeMsg]:
        """T_target_source and its stamp, the newest that is known.

        Raises:
            NoTransformError: unknown.
        """
        self.hear()
        found = self._find(target_frame, source_frame, _LATEST)
        return matrix_from_transform(found), found.header.stamp

    def is_connected(self, target_frame: str, source_frame: str) -> bool:
        """Whether the transform is known at any time."""
        self.hear()
        return bool(self._buffer.can_transform(target_frame, source_frame, _LATEST))

    def forget(self) -> None:
        """Forget all that moves, as stamps went back; what is static stays."""
        self._buffer.clear()

    def stop_waiting(self) -> None:
        """Lookups do not wait any more, also those that do now."""
        self._stopped.set()

    def close(self) -> None:
        """End the subscriptions; a second time it does nothing."""
        self._moving.destroy()
        self._static.destroy()

    def _take_moving(self, message: TFMessage) -> None:
        if self._stamps.go_back(message.transforms):
            self._buffer.clear()
        for transform in message.transforms:
            self._buffer.set_transform(transform, _AUTHORITY)

    def _take_static(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self._buffer.set_transform_static(transform, _AUTHORITY)

    def _find(self, target_frame: str, source_frame: str, when: Time) -> TransformStamped:
        try:
            return self._buffer.lookup_transform(target_frame, source_frame, when)
        except TransformException as error:
            raise NoTransformError(f"no transform from '{source_frame}' to '{target_frame}': "
                                   f'{error}') from error


def matrix_from_transform(stamped: TransformStamped) -> Transform:
    """T_parent_child as a 4x4 matrix."""
    q, t = stamped.transform.rotation, stamped.transform.translation
    T_44 = np.asarray(quaternion_matrix([q.x, q.y, q.z, q.w]), np.float64)
    T_44[:3, 3] = (t.x, t.y, t.z)
    return T_44
