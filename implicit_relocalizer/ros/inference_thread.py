# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The thread on which images are answered, and the way back to the executor's."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import torch
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from implicit_relocalizer.localization.image_answer import ImageAnswer
from implicit_relocalizer.localization.newest_slot import NewestSlot

_JOIN_TIMEOUT_S = 10.0


class InferenceThread:
    """Answers the newest image; answers come back on the thread that spins the node.

    Images that arrive while another is answered replace each other, so the age of an answered
    image stays bounded however many come.
    """

    def __init__(self, node: Node, answer: Callable[[Image | CompressedImage], ImageAnswer],
                 max_rate_hz: Callable[[], float], on_answer: Callable[[ImageAnswer], None],
                 on_fault: Callable[[Exception], None]) -> None:
        """Start.

        Args:
            node: Whose executor gets the answers.
            answer: Called on the thread, once per image.
            max_rate_hz: Asked before each image; 0 for no limit.
            on_answer: Called by the executor.
            on_fault: Called by the executor with what `answer` raised; the thread has ended.
        """
        self._node = node
        self._answer = answer
        self._max_rate_hz = max_rate_hz
        self._on_answer = on_answer
        self._on_fault = on_fault
        self._images: NewestSlot[tuple[int, Image | CompressedImage]] = NewestSlot()
        self._results: deque[tuple[int, ImageAnswer | Exception]] = deque()
        self._generation = 0
        self._wake = node.create_guard_condition(self._deliver)
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def put(self, image: Image | CompressedImage) -> bool:
        """Leave an image; True if another was dropped for it."""
        return self._images.put((self._generation, image))

    def forget(self) -> None:
        """What was put before is answered to nobody."""
        self._generation += 1

    def stop(self) -> None:
        """End; an image under way is waited for, its answer is dropped."""
        self._images.close()
        self._thread.join(_JOIN_TIMEOUT_S)
        self._results.clear()
        self._node.destroy_guard_condition(self._wake)

    @torch.inference_mode()  # once, not for each image
    def _run(self) -> None:
        started_s = 0.0
        while True:
            rate_hz = self._max_rate_hz()
            taken = self._images.take(started_s + 1.0 / rate_hz if rate_hz else 0.0)
            if taken is None:
                return
            generation, image = taken
            started_s = time.monotonic()
            result: ImageAnswer | Exception
            try:
                result = self._answer(image)
            except Exception as error:  # a fault of ours: told, not swallowed with the thread
                result = error
            self._results.append((generation, result))
            try:
                self._wake.trigger()
            except InvalidHandle:
                return  # the program was told to end
            if isinstance(result, Exception):
                return

    def _deliver(self) -> None:
        while self._results:
            generation, result = self._results.popleft()
            if isinstance(result, Exception):
                self._on_fault(result)
            elif generation == self._generation:
                self._on_answer(result)
