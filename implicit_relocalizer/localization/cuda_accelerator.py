# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A CUDA device for `staged_inference`: pinned memory, a stream, an event and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor

from implicit_relocalizer.localization.staged_inference import Recording

T = TypeVar('T')


class CudaAccelerator:
    """See `staged_inference.Accelerator`."""

    def __init__(self, device: torch.device) -> None:
        """
        Args:
            device: A CUDA device.
        """
        self._device = device
        # One stream for everything, recordings too: libraries get workspaces for each stream, and
        # the default one cannot be recorded.
        self._stream = torch.cuda.Stream(device)
        # The thread that waits sleeps: by default it would keep a core of the robot busy.
        self._done = torch.cuda.Event(blocking=True)

    @property
    def device(self) -> torch.device:
        """The device."""
        return self._device

    def empty_on_host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Pinned: from other memory the driver copies twice, and the CPU waits for it."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def queue(self) -> AbstractContextManager[object]:
        """Our stream, after all that was asked for on the one before, such as loading the model.

        On leaving it is that one again, even if a recording failed.
        """
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        return torch.cuda.stream(self._stream)

    def record(self, call: Callable[[], T]) -> Recording[T]:
        """Capture the call as a CUDA graph with memory of its own.

        Raises:
            RuntimeError: something in it must not be captured, such as a wait for the device.
        """
        graph = torch.cuda.CUDAGraph()
        # Threads of other programs in this process may go on using the GPU meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode='thread_local'):
            outputs = call()
        return Recording(outputs, graph.replay)

    def wait(self) -> None:
        """The one synchronisation of an answer."""
        self._done.record(self._stream)
        self._done.synchronize()
