# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A buffer of transforms whose lookups can wait for data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, JumpThreshold
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.task import Future
from tf2_py import BufferCore

NO_TIMEOUT = Duration()


class Buffer(BufferCore):
    """BufferCore with timeouts, futures, and forgetting when time jumps back.

    A lookup with a timeout blocks its thread. Transforms have to arrive in another: spin the
    node in a multi-threaded executor, or give the listener spin_thread.
    """

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        """
        Args:
            cache_time: How long transforms are kept; 10 s by default.
            node: Whose clock tells of jumps in (simulated) time, which clear the buffer.
        """
        super().__init__(cache_time)
        self._new_data = threading.Condition(threading.RLock())
        self._new_data_callbacks: list[Callable[[], None]] = []
        self.clock = node.get_clock() if node is not None else Clock()
        self.jump_handle = self.clock.create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
            ),
            post_callback=self.time_jump_callback,
        )

    def time_jump_callback(self, time_jump: Any) -> None:
        get_logger('tf2_buffer').warning('Detected jump back in time. Clearing tf buffer.')
        self.clear()

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        super().set_transform(transform, authority)
        self._announce_new_data()

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        super().set_transform_static(transform, authority)
        self._announce_new_data()

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Any, timeout: Duration = NO_TIMEOUT
    ) -> TransformStamped:
        """The transform that maps coordinates in source_frame to target_frame.

        Args:
            time: rclpy or builtin_interfaces Time; 0 asks for the latest.
            timeout: How long to wait for it to become possible.

        Raises:
            TransformException: The kinds that BufferCore.lookup_transform_core names, after the
                timeout too.
        """
        self.can_transform(target_frame, source_frame, time, timeout)
        return self.lookup_transform_core(target_frame, source_frame, time)

    def lookup_transform_full(
        self,
        target_frame: str,
        target_time: Any,
        source_frame: str,
        source_time: Any,
        fixed_frame: str,
        timeout: Duration = NO_TIMEOUT,
    ) -> TransformStamped:
        """From source_frame at source_time to target_frame at target_time, through fixed_frame."""
        query = (target_frame, target_time, source_frame, source_time, fixed_frame)
        self.can_transform_full(*query, timeout)
        return self.lookup_transform_full_core(*query)

    async def lookup_transform_async(
        self, target_frame: str, source_frame: str, time: Any
    ) -> TransformStamped:
        """The transform as soon as it is available."""
        await self.wait_for_transform_async(target_frame, source_frame, time)
        return self.lookup_transform_core(target_frame, source_frame, time)

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Any,
        timeout: Duration = NO_TIMEOUT,
        return_debug_tuple: bool = False,
    ) -> bool | tuple[bool, str]:
        """Whether the lookup is possible, within timeout; with the reason if wanted."""
        return self._wait_until(
            lambda: self.can_transform_core(target_frame, source_frame, time),
            timeout,
            return_debug_tuple,
        )

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Any,
        source_frame: str,
        source_time: Any,
        fixed_frame: str,
        timeout: Duration = NO_TIMEOUT,
        return_debug_tuple: bool = False,
    ) -> bool | tuple[bool, str]:
        """Whether the full lookup is possible, within timeout; with the reason if wanted."""
        query = (target_frame, target_time, source_frame, source_time, fixed_frame)
        return self._wait_until(
            lambda: self.can_transform_full_core(*query), timeout, return_debug_tuple
        )

    def wait_for_transform_async(self, target_frame: str, source_frame: str, time: Any) -> Future:
        """A future that gets the transform when it is available."""
        future: Future = Future()

        def answer_if_possible() -> None:
            if future.done() or not self.can_transform_core(target_frame, source_frame, time)[0]:
                return
            try:
                future.set_result(self.lookup_transform_core(target_frame, source_frame, time))
            except Exception as error:
                future.set_exception(error)

        with self._new_data:
            answer_if_possible()
            if not future.done():
                self._new_data_callbacks.append(answer_if_possible)
                future.add_done_callback(lambda _: self._forget(answer_if_possible))
        return future

    def _wait_until(
        self, check: Callable[[], tuple[bool, str]], timeout: Duration, return_debug_tuple: bool
    ) -> bool | tuple[bool, str]:
        with self._new_data:
            if timeout > NO_TIMEOUT:
                self._new_data.wait_for(lambda: check()[0], timeout.nanoseconds * 1e-9)
            result = check()
        return result if return_debug_tuple else result[0]

    def _announce_new_data(self) -> None:
        with self._new_data:
            self._new_data.notify_all()
            callbacks = list(self._new_data_callbacks)
        for callback in callbacks:
            callback()

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._new_data:
            if callback in self._new_data_callbacks:
                self._new_data_callbacks.remove(callback)
