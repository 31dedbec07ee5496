# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A loaded model that answers with pose estimates."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from implicit_relocalizer.localization.cuda_accelerator import CudaAccelerator
from implicit_relocalizer.localization.estimate import MappedBounds, PoseEstimate
from implicit_relocalizer.localization.inference import DirectInference, Inference
from implicit_relocalizer.localization.rejection import NoPoseError, Reason
from implicit_relocalizer.localization.staged_inference import StagedInference
from implicit_relocalizer.network.model_file import (
    OUTPUT_NAMES,
    ModelFileError,
    ModelMetadata,
    load_model,
    make_ready,
)

T = TypeVar('T')
_LEAST_WARM_UP_CALLS, _MOST_WARM_UP_CALLS = 4, 12
_STEADY_SHARE = 0.1


def choose_device(name: str) -> torch.device:
    """The device that 'auto', 'cpu' or 'cuda' stands for on this machine.

    Raises:
        ModelFileError: 'cuda' where torch sees no such device.
    """
    available = torch.cuda.is_available()
    if name == 'cuda' and not available:
        raise ModelFileError('device is cuda, but torch finds no CUDA device here; use auto or '
                             'cpu, or install a driver and a torch built for it')
    return torch.device('cuda' if available and name in ('auto', 'cuda') else 'cpu')


def limit_threads(num_threads: int) -> None:
    """Let torch, and OpenCV before it, use so many CPU threads; 0 leaves the choice to them.

    By itself OpenCV wakes a thread on every core to convert an image, which takes one of them a
    tenth of a millisecond.
    """
    if num_threads > 0:
        torch.set_num_threads(num_threads)
        cv2.setNumThreads(num_threads)


def release_memory() -> None:
    """Give the memory of models that nobody holds any more back to the machine."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def describe_accuracy(metadata: ModelMetadata) -> str:
    """One line about the errors that were measured when the model was made."""
    if not metadata.accuracy:
        return 'the file says nothing about its accuracy'
    return f'measured when it was made: {json.dumps(metadata.accuracy)}'


class ModelRunner:
    """Runs one model file on one device, one image at a time.

    Attributes:
        metadata: What the model file says about itself.
        device: Where it runs.
    """

    def __init__(self, path: Path, device: torch.device, cuda_graphs: bool = True) -> None:
        """Load the model.

        Args:
            path: Of the model file.
            device: Where to run it.
            cuda_graphs: On CUDA, capture the model once for each size of images and replay it,
                where it can be captured.

        Raises:
            ModelFileError: the file cannot be used.
        """
        self.path = path
        self.device = device
        # products of tiny weights are denormal numbers, ten times as slow and worth nothing
        torch.set_flush_denormal(True)
        self._module, self.metadata = load_model(path, device)
        self._ready = make_ready(self._module)
        self._inference: Inference = DirectInference(self._ready)
        if device.type == 'cuda':
            # Ten bits of a number, that nobody has compared errors with; by default products of
            # matrices keep all of theirs, and convolutions do not.
            torch.backends.cudnn.allow_tf32 = False
            self._inference = StagedInference(self._ready, CudaAccelerator(device), cuda_graphs)

    @property
    def module(self) -> torch.jit.ScriptModule:
        """What was loaded, for whoever times its steps."""
        return self._module

    @property
    def steps(self) -> torch.jit.ScriptModule:
        """What answers: the frozen module, with the methods `network.model_file.STEPS`."""
        return self._ready

    @property
    def bounds(self) -> MappedBounds:
        """Where the training cameras were."""
        return MappedBounds(self.metadata.position_min_m, self.metadata.position_max_m)

    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool = False) -> PoseEstimate:
        """Estimate the camera's pose.

        Args:
            image_hw3: RGB image, contiguous.
            K_33: Its intrinsics, pixel centres at integers.
            with_points: Bring the cloud in the map along.

        Raises:
            NoPoseError: the model failed on this image.
        """
        try:
            return self._inference.locate(image_hw3, K_33, with_points)
        except RuntimeError as error:
            # TorchScript puts the reason last, under the trace of its own sources.
            reason = str(error).strip().splitlines()[-1]
            raise NoPoseError(Reason.MODEL, f'the model failed on this image: {reason}') from error

    def recorded(self, call: Callable[[], T]) -> Callable[[], T]:
        """A call of a step made as the model is: on CUDA a graph, whose tensors are overwritten
        by its next call; elsewhere the call itself."""
        return self._inference.recorded(call)

    def warm_up(self) -> list[float]:
        """Call the model at the training resolution, so that no real image waits.

        TorchScript profiles and compiles during its first calls, which are several times slower
        than the later ones. It is called until two calls in a row take about the same time; on
        CUDA, until it was captured as well.

        Returns:
            How long each call took, in seconds.

        Raises:
            ModelFileError: the model fails, or lacks an output.
        """
        width, height = self.metadata.image_size
        # Noise: an image of one colour has no gradients, and may take another path.
        image_hw3 = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        K_33 = np.asarray(self.metadata.K_33, np.float64)
        durations_s: list[float] = []
        try:
            while not (is_warm(durations_s) and self._inference.is_settled((width, height))):
                started_s = time.perf_counter()
                self.locate(image_hw3, K_33)
                durations_s.append(time.perf_counter() - started_s)
        except NoPoseError as error:
            raise ModelFileError(f'{self.path}: {error}') from error
        except KeyError as error:
            raise ModelFileError(f'{self.path}: has no output {error}, needs '
                                 f'{", ".join(OUTPUT_NAMES)}') from error
        return durations_s


def is_warm(durations_s: Sequence[float]) -> bool:
    """Whether calls of these durations, the last one last, have warmed a model up."""
    if len(durations_s) < _LEAST_WARM_UP_CALLS:
        return False
    before_s, last_s = durations_s[-2:]
    return (len(durations_s) >= _MOST_WARM_UP_CALLS
            or abs(last_s - before_s) <= _STEADY_SHARE * before_s)
