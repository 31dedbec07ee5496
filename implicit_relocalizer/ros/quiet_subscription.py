# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A subscription that wakes nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

MessageT = TypeVar('MessageT')
_MOST_AT_ONCE = 1000
_EVENT_PERIOD_S = 1.0
_LOOKS = 4  # before and after a wait, at both events of a subscription


class QuietSubscription(Generic[MessageT]):
    """Messages that wait in the middleware until somebody asks for them.

    An executor of rclpy builds its wait set anew for every callback, and takes one message of a
    topic each time: with a busy topic that is most of what a node does. What is only looked up
    now and then, such as /tf, is taken from its queue then, all at once.
    """

    def __init__(self, node: Node, message_type: type[MessageT], topic: str,
                 callback: Callable[[MessageT], object], qos: QoSProfile) -> None:
        """
        Args:
            node: Owner.
            message_type: Of the topic.
            topic: Before remapping.
            callback: Gets every message in its order, on the thread that takes.
            qos: Its depth is how many may wait.
        """
        self._node = node
        self._message_type = message_type
        self._callback = callback
        self._lock = threading.Lock()
        # An executor that ignores callback groups would call back by itself, which is as good.
        self._subscription: Subscription | None = node.create_subscription(
            message_type, topic, self._hear, qos, callback_group=_QuietGroup())
        self.topic_name = str(self._subscription.topic_name)

    def take(self) -> None:
        """Hand what waits to the callback; from any thread, not from the callback itself."""
        with self._lock:
            if self._subscription is None:
                return
            handle = self._subscription.handle
            with handle:
                for _ in range(_MOST_AT_ONCE):  # whoever asks has other things to do, too
                    waiting = handle.take_message(self._message_type, False)
                    if waiting is None:
                        return
                    self._callback(waiting[0])

    def destroy(self) -> None:
        """Unsubscribe; a second time it does nothing."""
        with self._lock:
            if self._subscription is not None:
                self._node.destroy_subscription(self._subscription)
                self._subscription = None

    def _hear(self, message: MessageT) -> None:
        with self._lock:
            self._callback(message)


class _QuietGroup(CallbackGroup):
    """Keeps a subscription out of wait sets, and lets its events in once a second.

    The events tell of publishers that cannot be heard, which rclpy warns of. In every wait set
    they would not let it sleep: of the Fast DDS middleware events and messages share what wakes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next_look_s = 0.0
        self._looks = 0

    def can_execute(self, entity: Any) -> bool:
        if isinstance(entity, Subscription):
            return False
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _EVENT_PERIOD_S
            self._looks = _LOOKS
        self._looks -= 1
        return self._looks >= 0

    def beginning_execution(self, entity: Any) -> bool:
        return True

    def ending_execution(self, entity: Any) -> None:
        pass
