# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms between the robot's frames, as matrices."""

from __future__ import annotations

import time

import numpy as np
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage
from tf2_ros import Buffer, TransformException, TransformListener
from tf_transformations import quaternion_matrix

from implicit_relocalizer.localization.agreement import Transform
from implicit_relocalizer.localization.supervision import JUMP_BACK_NS

_POLL_S = 0.004
_LATEST = Time()


class NoTransformError(LookupError):
    """Two frames are not connected at a stamp; the message says which and why."""


class _Listener(TransformListener):
    """Forgets what moves when its stamps go back.

    A buffer refuses all that is older than its newest by more than its length, and a late
    message of the time before a jump may be that newest: it would stay deaf for as long as the
    jump was. Images tell of jumps too, but on another topic, in no order with this one.
    """

    def __init__(self, buffer: Buffer, node: Node) -> None:
        self._newest_ns: dict[str, int] = {}
        super().__init__(buffer, node)

    def callback(self, data: TFMessage) -> None:
        """Take transforms, those of a new time into an empty buffer."""
        stamps_ns = {moved.child_frame_id: moved.header.stamp.sec * 10**9
                     + moved.header.stamp.nanosec for moved in data.transforms}
        if any(stamp_ns < self._newest_ns.get(child, stamp_ns) - JUMP_BACK_NS
               for child, stamp_ns in stamps_ns.items()):
            self.buffer.clear()
            self._newest_ns.clear()
        for child, stamp_ns in stamps_ns.items():
            self._newest_ns[child] = max(stamp_ns, self._newest_ns.get(child, stamp_ns))
        super().callback(data)


class FrameTree:
    """What /tf and /tf_static tell, from construction until `close`."""

    def __init__(self, node: Node) -> None:
        # Not told the node, for which it would offer a service, once more with every activation.
        # Jumps in time come through `forget`, from the stamps of the images.
        self._buffer = Buffer()
        self._listener: TransformListener | None = _Listener(self._buffer, node)

    def lookup(self, target_frame: str, source_frame: str, stamp: TimeMsg,
               wait_s: float = 0.0) -> Transform:
        """T_target_source at a stamp; blocks at most `wait_s` for it to become known.

        Not to be called with a wait by the thread that spins the node, which hears of transforms.

        Raises:
            NoTransformError: unknown, or not at this stamp.
        """
        when = Time.from_msg(stamp)
        # A wait on the buffer's own clock would never end while simulated time stands still.
        end_s = time.monotonic() + wait_s
        while (not self._buffer.can_transform(target_frame, source_frame, when)
               and time.monotonic() < end_s):
            time.sleep(_POLL_S)
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
