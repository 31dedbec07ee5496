# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms between the robot's frames, as matrices."""

from __future__ import annotations

import threading

import numpy as np
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage
from tf2_ros import Buffer, TransformException, TransformListener
from tf_transformations import quaternion_matrix

from implicit_relocalizer.localization.agreement import Transform
from implicit_relocalizer.localization.frames import NoTransformError
from implicit_relocalizer.localization.stamps import TransformStamps

_LATEST = Time()
_MOST_AT_ONCE = 1000


class _Listener(TransformListener):
    """Keeps up with a busy /tf, and forgets what moves when its stamps go back.

    An executor of rclpy takes one message of a topic per round. On a machine that leaves it fewer
    rounds than the robot has transforms the queue of a hundred would always be full, and all that
    is known late by its length, while of the images the newest is answered: none would find its
    odometry any more.

    A buffer refuses all that is older than its newest by more than its length, and a late
    message of the time before a jump may be that newest: it would stay deaf for as long as the
    jump was. Images tell of jumps too, but on another topic, in no order with this one.
    """

    def __init__(self, buffer: Buffer, node: Node) -> None:
        self._stamps = TransformStamps()
        self.news = threading.Condition()
        super().__init__(buffer, node)

    def callback(self, data: TFMessage) -> None:
        """Take transforms, also those that wait behind them."""
        self._take(data)
        subscription = self.tf_sub.handle
        with subscription:
            for _ in range(_MOST_AT_ONCE):  # others want to be heard too
                waiting = subscription.take_message(TFMessage, False)
                if waiting is None:
                    break
                self._take(waiting[0])
        self.tell()

    def static_callback(self, data: TFMessage) -> None:
        """Take transforms that hold for ever."""
        super().static_callback(data)
        self.tell()

    def tell(self) -> None:
        """Wake who waits."""
        with self.news:
            self.news.notify_all()

    def _take(self, data: TFMessage) -> None:
        if self._stamps.go_back(data.transforms):
            self.buffer.clear()
        super().callback(data)


class FrameTree:
    """What /tf and /tf_static tell, from construction until `close`."""

    def __init__(self, node: Node) -> None:
        # Not told the node, for which it would offer a service, once more with every activation.
        # Jumps in time come through `forget`, from the stamps of the images.
        self._buffer = Buffer()
        self._listener: _Listener | None = _Listener(self._buffer, node)
        self._waits = True

    def lookup(self, target_frame: str, source_frame: str, stamp_ns: int,
               wait_s: float = 0.0) -> Transform:
        """T_target_source at a stamp; blocks at most `wait_s` for it to become known.

        Not to be called with a wait by the thread that spins the node, which hears of transforms.

        Raises:
            NoTransformError: unknown, or not at this stamp.
        """
        when = Time(nanoseconds=stamp_ns)
        # Not by the buffer's own wait, whose clock may be the simulation's and stand still.
        listener = self._listener
        if wait_s > 0.0 and listener is not None:
            with listener.news:
                listener.news.wait_for(lambda: not self._waits or bool(
                    self._buffer.can_transform(target_frame, source_frame, when)), wait_s)
        return matrix_from_transform(self._find(target_frame, source_frame, when))

    def latest(self, target_frame: str, source_frame: str) -> tuple[Transform, TimeMsg]:
        """T_target_source and its stamp, the newest that is known.

        Raises:
            NoTransformError: unknown.
        """
        found = self._find(target_frame, source_frame, _LATEST)
        return matrix_from_transform(found), found.header.stamp

    def is_connected(self, target_frame: str, source_frame: str) -> bool:
        """Whether the transform is known at any time."""
        return bool(self._buffer.can_transform(target_frame, source_frame, _LATEST))

    def forget(self) -> None:
        """Forget all that moves, as stamps went back; what is static stays."""
        self._buffer.clear()

    def stop_waiting(self) -> None:
        """Lookups do not wait any more, also those that do now."""
        self._waits = False
        if self._listener is not None:
            self._listener.tell()

    def close(self) -> None:
        """End the subscriptions."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None

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
