# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Images of a recording are answered on several cores before their turn comes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from implicit_relocalizer.localization.camera_check import (
    calibration_from_message,
    check_aspect,
    intrinsics_of_image,
)
from implicit_relocalizer.localization.estimate import MappedBounds, PoseEstimate
from implicit_relocalizer.localization.image_answer import Runner
from implicit_relocalizer.localization.image_decoding import rgb_from_message
from implicit_relocalizer.localization.rejection import NoPoseError

Event = TypeVar('Event')
# What the model was asked, and its answer; None where it could not be asked.
_Asked = tuple[bytes, PoseEstimate] | None


class Lookahead:
    """A model that may have been asked already.

    It changes nothing but the time that a replay takes: an answer counts only for the very image
    and intrinsics that the node asks about, and whatever was not foreseen is asked then.
    """

    def __init__(self, runner: Runner, is_rectified: bool, workers: int) -> None:
        """
        Args:
            runner: The model; may be called by several threads at once.
            is_rectified: The parameter `rectified`.
            workers: Images that are answered at the same time.
        """
        self.metadata = runner.metadata
        self._runner = runner
        self._is_rectified = is_rectified
        self._most_waiting = 2 * workers
        self._waiting: deque[Future[_Asked]] = deque()
        self._answers: dict[bytes, PoseEstimate] = {}
        self._pool = ThreadPoolExecutor(workers, 'lookahead', lambda: (
            torch.set_flush_denormal(True), None)[1])  # as the model's own thread

    def __enter__(self) -> Lookahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def bounds(self) -> MappedBounds:
        """Where the training cameras were."""
        return self._runner.bounds

    def watch(self, events: Iterator[Event],
              image_of: Callable[[Event], Callable[[], tuple[Any, Any]] | None],
              ) -> Iterator[Event]:
        """The same events, read some images ahead.

        Args:
            events: Of a recording, in order.
            image_of: For an image what makes its message and its newest CameraInfo, on another
                thread; None for all else.
        """
        ahead: deque[tuple[Event, bool]] = deque()
        images = 0
        for event in events:
            read = image_of(event)
            ahead.append((event, read is not None))
            if read is not None:
                images += 1
                self._waiting.append(self._pool.submit(self._ask, read))
            while images > self._most_waiting:
                first, is_image = ahead.popleft()
                images -= is_image
                yield first
        yield from (event for event, _ in ahead)

    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool = False) -> PoseEstimate:
        """As the model's: images come in the order of the recording, or not at all."""
        wanted = _key(image_hw3, K_33)
        while wanted not in self._answers and self._waiting and not with_points:
            asked = self._waiting.popleft().result()
            if asked is not None:
                self._answers[asked[0]] = asked[1]
        if wanted in self._answers and not with_points:
            return self._answers.pop(wanted)
        # Old ones that nobody asked about: their images were refused before.
        for key in list(self._answers)[:-4 * self._most_waiting]:
            del self._answers[key]
        return self._runner.locate(image_hw3, K_33, with_points)

    def _ask(self, read: Callable[[], tuple[Any, Any]]) -> _Asked:
        try:
            image, info = read()
            rgb_hw3 = rgb_from_message(image)
            size = (rgb_hw3.shape[1], rgb_hw3.shape[0])
            check_aspect(size, self.metadata.image_size)
            K_33 = intrinsics_of_image(calibration_from_message(info), size, self._is_rectified)
            return _key(rgb_hw3, K_33), self._runner.locate(rgb_hw3, K_33)
        except (NoPoseError, ValueError, AttributeError):
            return None  # it will be refused in its turn, in the right words


def _key(image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64]) -> bytes:
    digest = hashlib.blake2b(np.ascontiguousarray(image_hw3).data, digest_size=16)
    digest.update(repr(image_hw3.shape).encode())
    digest.update(np.ascontiguousarray(K_33).tobytes())
    return digest.digest()
