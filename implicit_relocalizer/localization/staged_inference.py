# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A model called through buffers that stay where they are: one upload, no wait, one download.

Buffers that stay allow what the device is asked for to be recorded once for each size of images
and replayed, so that some eight hundred operations cost the CPU one call. Nothing here knows CUDA:
`cuda_accelerator.CudaAccelerator` does.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_relocalizer.localization.estimate import PoseEstimate
from implicit_relocalizer.localization.inference import Model, Packed, pack, unpack

logger = logging.getLogger(__name__)

T = TypeVar('T')
# TorchScript profiles the first call with a size of image, compiles in the second and perhaps in
# the third, and libraries get their handles and memory: none of it may happen in a recording.
CALLS_BEFORE_RECORDING = 4
# A robot has one camera, or a few; each size keeps the model's intermediate results allocated.
MOST_SIZES = 4
_K_BYTES = 64  # 36, and the image begins where memory is aligned


class Recording(NamedTuple, Generic[T]):
    """What a call asks of the device, to be asked again at once.

    Attributes:
        outputs: Of the call; `replay` fills them anew.
        replay: Does not wait.
    """

    outputs: T
    replay: Callable[[], object]


class Accelerator(Protocol):
    """A device that works by itself until it is waited for."""

    @property
    def device(self) -> torch.device:
        """Where tensors lie."""

    def empty_on_host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the host that the device copies from and to by itself."""

    def queue(self) -> AbstractContextManager[object]:
        """Within it, what is asked for is done in order."""

    def record(self, call: Callable[[], T]) -> Recording[T]:
        """Record a call, within `queue`; the outputs hold nothing before the first replay.

        Raises:
            RuntimeError: the call cannot be recorded.
        """

    def wait(self) -> None:
        """Until all that was asked for, within `queue`, is done."""


class StagedInference:
    """See the module; an `inference.Inference`."""

    def __init__(self, model: Model, accelerator: Accelerator, records: bool = True) -> None:
        """
        Args:
            model: On the accelerator's device, with nothing in it that waits for the device.
            accelerator: The device.
            records: Record the model, where it can be; otherwise call it step by step.
        """
        self._model = model
        self._accelerator = accelerator
        self._records = records
        self._stages: OrderedDict[tuple[int, int], _Stage] = OrderedDict()
        self._received: dict[str, Tensor] = {}

    @torch.inference_mode()
    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool) -> PoseEstimate:
        """See `Inference`."""
        with self._accelerator.queue():
            stage = self._stage(image_hw3.shape[1], image_hw3.shape[0])
            try:
                stage.upload(image_hw3, K_33)
                numbers_50, points_n4 = self._answer(stage)
                numbers_50 = self._download('numbers', numbers_50)
                points_n4 = (self._download('points', points_n4)
                             if with_points and points_n4 is not None else None)
            finally:
                # After a failure, too: the next image goes where this one may yet be copied from.
                self._accelerator.wait()
        return unpack(*(None if received is None else received.numpy().copy()
                        for received in (numbers_50, points_n4)))

    def is_settled(self, image_size: tuple[int, int]) -> bool:
        """Whether images of this width and height are answered by a recording, or none will be."""
        stage = self._stages.get(image_size)
        return not self._records or (stage is not None and stage.recording is not None)

    def recorded(self, call: Callable[[], T]) -> Callable[[], T]:
        """See `Inference`; a call that cannot be recorded stays as it is, with a warning."""
        if not self._records:
            return call
        with self._accelerator.queue():
            for _ in range(CALLS_BEFORE_RECORDING):
                call()
            self._accelerator.wait()
            try:
                recording = self._accelerator.record(call)
            except RuntimeError as error:
                logger.warning('a step is timed without a recording: %s', reason_of(error))
                return call

        def replay() -> T:
            recording.replay()
            return recording.outputs

        return replay

    def _stage(self, width: int, height: int) -> _Stage:
        """Of images of this size; the one that was not used for longest makes room for it."""
        stage = self._stages.pop((width, height), None)
        if stage is None:
            if len(self._stages) >= MOST_SIZES:
                self._stages.popitem(last=False)
            stage = _Stage(self._accelerator, width, height)
        self._stages[width, height] = stage
        return stage

    def _answer(self, stage: _Stage) -> Packed:
        if self._records and stage.recording is None and stage.calls >= CALLS_BEFORE_RECORDING:
            try:
                stage.recording = self._accelerator.record(lambda: self._call(stage))
            except RuntimeError as error:
                self._records = False
                self._stages = OrderedDict({stage.size: stage})
                logger.warning(
                    'the model cannot be recorded for %s, and is called step by step from now on, '
                    'which is slower: %s', self._accelerator.device, reason_of(error))
        stage.calls += 1
        if stage.recording is None:
            return self._call(stage)
        stage.recording.replay()
        return stage.recording.outputs

    def _call(self, stage: _Stage) -> Packed:
        # The points, too: what is recorded does not know whether somebody will want them.
        return pack(self._model(stage.image_hw3, stage.K_33), with_points=True)

    def _download(self, name: str, values: Tensor) -> Tensor:
        """Ask for a copy on the host, in memory that is used again while the shape stays."""
        received = self._received.get(name)
        if received is None or received.shape != values.shape or received.dtype != values.dtype:
            received = self._accelerator.empty_on_host(tuple(values.shape), values.dtype)
            self._received[name] = received
        return received.copy_(values, non_blocking=True)


class _Stage:
    """Where images of one size lie on the host and on the device.

    Attributes:
        size: Width and height.
        image_hw3, K_33: On the device, for the model.
        recording: Of the model on them, once there is one.
        calls: So far.
    """

    def __init__(self, accelerator: Accelerator, width: int, height: int) -> None:
        self.size = width, height
        self.recording: Recording[Packed] | None = None
        self.calls = 0
        self._host = accelerator.empty_on_host((_K_BYTES + 3 * width * height,), torch.uint8)
        self._device = torch.empty(self._host.shape, dtype=torch.uint8, device=accelerator.device)
        self._host_image, self._host_K = (part.numpy() for part in self._split(self._host))
        self.image_hw3, self.K_33 = self._split(self._device)

    def upload(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64]) -> None:
        """Ask for image and intrinsics on the device, in one copy."""
        self._host_image[:] = image_hw3
        self._host_K[:] = K_33
        self._device.copy_(self._host, non_blocking=True)

    def _split(self, bytes_n: Tensor) -> tuple[Tensor, Tensor]:
        width, height = self.size
        return (bytes_n[_K_BYTES:].view(height, width, 3),
                bytes_n[:36].view(torch.float32).view(3, 3))


def reason_of(error: BaseException) -> str:
    """The last line of the first of a chain of errors.

    A recording that fails is ended, which fails too; TorchScript tells the reason last.
    """
    first: Any = error
    while first.__context__ is not None or first.__cause__ is not None:
        first = first.__cause__ or first.__context__
    lines = [line for line in str(first).splitlines() if line.strip()]
    return f'{type(first).__name__}: {lines[-1].strip() if lines else "without a message"}'
