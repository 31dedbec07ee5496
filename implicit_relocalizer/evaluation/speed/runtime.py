# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot runs, as the benchmark is given it: evaluation knows neither node nor training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from numpy.typing import NDArray
from torch import nn

from implicit_relocalizer.evaluation.metrics import Float64Array
from implicit_relocalizer.evaluation.speed.images import Image, Size
from implicit_relocalizer.network.model_file import ModelMetadata

T = TypeVar('T')


class Runner(Protocol):
    """A loaded model file, such as `localization.model_runner.ModelRunner`."""

    metadata: ModelMetadata

    @property
    def module(self) -> nn.Module:
        """What was loaded."""

    @property
    def steps(self) -> nn.Module:
        """What answers, with `network.model_file.STEPS`."""

    def recorded(self, call: Callable[[], T]) -> Callable[[], T]:
        """The call of a step made as answers are: on CUDA a graph, elsewhere itself."""

    def locate(self, image_hw3: Image, K_33: Float64Array) -> Any:
        """An image in memory to a pose estimate in memory."""


@dataclass(frozen=True)
class Runtime:
    """The program around the network.

    Attributes:
        open: Loads a model file onto a device, as the node does.
        decode: An image message to RGB, as the node does.
        build_regressor: An untrained pose regression by the encoder's name and the size of image
            that it sees.
        build_messages: A pose estimate to what the node publishes; None without ROS.
    """

    open: Callable[[Path, torch.device], Runner]
    decode: Callable[[Any], NDArray[Any]]
    build_regressor: Callable[[str, Size], nn.Module]
    build_messages: Callable[[Any], object] | None = None
