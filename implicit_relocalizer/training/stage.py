# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a stage is to the loop that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

Batch = TypeVar('Batch')


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what to change."""


class StageConfig(Protocol):
    """What the loop reads of a stage's configuration."""

    @property
    def iterations(self) -> int:
        """Steps of the whole stage."""

    @property
    def max_seconds(self) -> float:
        """Time budget; the schedule ends when either is used up."""

    @property
    def learning_rate(self) -> float:
        """At its highest."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""


class StepResult(NamedTuple):
    """What a step gives.

    Attributes:
        loss: A scalar to minimise.
        median_error: Of the batch, in the stage's unit.
        parts: What the loss is made of, by name, for the curves.
    """

    loss: Tensor
    median_error: float
    parts: Mapping[str, float | Tensor] = {}


class Stage(Protocol):
    """What the loop needs of a stage."""

    name: str

    @property
    def config(self) -> StageConfig:
        """Length and step size."""

    def train_mode(self) -> None:
        """Prepare the modules for a training step."""

    def step(self, progress: float) -> StepResult:
        """Loss of one batch at this share of the stage, its median error, and any parts."""


class DrawingStage(Stage, Protocol[Batch]):
    """A stage whose steps are two: data, and what is computed of them."""

    def draw(self) -> Batch:
        """A batch on the device, as the network is given it."""

    def loss(self, batch: Batch, progress: float) -> StepResult:
        """The loss of a batch at this share of the stage."""
