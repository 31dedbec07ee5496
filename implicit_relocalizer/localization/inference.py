# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A loaded model called on an image in memory, and what of its answer leaves the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_relocalizer.localization.estimate import PoseEstimate, WeightedPoints

T = TypeVar('T')
# Called with an image and its intrinsics as tensors; see `network.localizer.Localizer.forward`.
Model = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
_NUMBERS = ('R_world_camera', 't_world_camera', 'covariance', 'confidence', 'inlier_fraction')
_POINTS = ('points_world', 'weights')


class Packed(NamedTuple):
    """What leaves the device: one download each.

    Attributes:
        numbers_50: Orientation, position, covariance, confidence and share of inliers, float64.
        points_n4: Points in the map, metres, and their weights, float32; None if not wanted, or
            if the model has none.
    """

    numbers_50: Tensor
    points_n4: Tensor | None


class Inference(Protocol):
    """A model on its device."""

    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool) -> PoseEstimate:
        """Image and intrinsics in memory to an estimate in memory.

        Raises:
            KeyError: the model lacks an output.
            RuntimeError: it failed on this image.
        """

    def is_settled(self, image_size: tuple[int, int]) -> bool:
        """Whether nothing is left to be prepared for images of this width and height."""

    def recorded(self, call: Callable[[], T]) -> Callable[[], T]:
        """The call made as answers are: recorded, where they are. Its tensors are overwritten by
        the next one."""


class DirectInference:
    """Calls the model with the image where it lies, on a CPU."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
               with_points: bool) -> PoseEstimate:
        """See `Inference`. Whoever asks often enters inference mode once, which takes time."""
        if torch.is_inference_mode_enabled():
            return self._locate(image_hw3, K_33, with_points)
        with torch.inference_mode():
            return self._locate(image_hw3, K_33, with_points)

    def _locate(self, image_hw3: NDArray[np.uint8], K_33: NDArray[np.float64],
                with_points: bool) -> PoseEstimate:
        outputs = self._model(torch.from_numpy(image_hw3),
                              torch.from_numpy(K_33.astype(np.float32)))
        numbers = [outputs[name].numpy() for name in _NUMBERS]
        points = None
        if with_points and _POINTS[0] in outputs:
            points = WeightedPoints(*(np.ascontiguousarray(outputs[name].numpy(), np.float32)
                                      for name in _POINTS))
        R_33, t_3, covariance_66 = (np.asarray(array, np.float64) for array in numbers[:3])
        return PoseEstimate(R_33, t_3, covariance_66, float(numbers[3]), float(numbers[4]), points)

    def is_settled(self, image_size: tuple[int, int]) -> bool:
        """Always."""
        return True

    def recorded(self, call: Callable[[], T]) -> Callable[[], T]:
        """The call as it is."""
        return call


def pack(outputs: Mapping[str, Tensor], with_points: bool) -> Packed:
    """The outputs that leave the device, on it."""
    numbers_50 = torch.cat([outputs[name].double().flatten() for name in _NUMBERS])
    if not with_points or _POINTS[0] not in outputs:
        return Packed(numbers_50, None)
    points_world_n3, weights_n = (outputs[name].float() for name in _POINTS)
    return Packed(numbers_50, torch.cat([points_world_n3, weights_n.unsqueeze(1)], dim=1))


def unpack(numbers_50: Any, points_n4: Any) -> PoseEstimate:
    """`Packed` on the CPU, as numpy arrays of its own, to an estimate."""
    points = None
    if points_n4 is not None:
        points = WeightedPoints(np.ascontiguousarray(points_n4[:, :3]),
                                np.ascontiguousarray(points_n4[:, 3]))
    return PoseEstimate(
        numbers_50[:9].reshape(3, 3), numbers_50[9:12], numbers_50[12:48].reshape(6, 6),
        float(numbers_50[48]), float(numbers_50[49]), points)
