# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One step of training, in one process or in a team: loss, mean gradients, update."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from implicit_relocalizer.training.stage import Stage, StepResult, TrainingError
from implicit_relocalizer.training.team import Team

MAX_GRADIENT_NORM = 1.0


def learning_rate_factor(progress: float, warmup: float = 0.02) -> float:
    """Linear warm-up, then half a cosine down to one hundredth."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


class StageLoss(nn.Module):
    """A stage as a module, so that DistributedDataParallel knows whose gradients to average."""

    def __init__(self, stage: Stage, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._stage = stage

    def forward(self, progress: float) -> StepResult:
        """Loss of one batch."""
        return self._stage.step(progress)


class Optimization:
    """AdamW on what learns in a network.

    Args:
        stage: Gives the losses.
        network: Whose parameters with `requires_grad` are optimised.
        team: The processes whose gradients are averaged.
    """

    def __init__(self, stage: Stage, network: nn.Module, team: Team) -> None:
        self._stage = stage
        self._network = network
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=stage.config.learning_rate,
                                            weight_decay=stage.config.weight_decay)
        team.copy_state(network)
        self._compute = team.average_gradients_of(StageLoss(stage, network))

    @property
    def learning_rate(self) -> float:
        """Of the latest step."""
        return float(self._optimizer.param_groups[0]['lr'])

    def compute(self, progress: float) -> StepResult:
        """Loss of one batch at this share of the stage."""
        factor = learning_rate_factor(progress)
        for group in self._optimizer.param_groups:
            group['lr'] = self._stage.config.learning_rate * factor
        self._stage.train_mode()
        result: StepResult = self._compute(progress)
        return result

    def update(self, result: StepResult, iteration: int) -> None:
        """Step down the gradient of a loss.

        Raises:
            TrainingError: it is not finite; the weights stay as they were.
        """
        self._optimizer.zero_grad(set_to_none=True)
        result.loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self._parameters, MAX_GRADIENT_NORM))
        # in a team the gradients are the same everywhere, so all of it ends at this step
        loss = float(result.loss.detach())
        if not math.isfinite(loss):
            raise self.failure('loss', loss, iteration)
        if not math.isfinite(norm):
            raise self.failure('gradient', norm, iteration)
        self._optimizer.step()

    def check_weights(self, iteration: int) -> None:
        """Refuse weights that are no numbers.

        Raises:
            TrainingError: a parameter is not finite.
        """
        for parameter in self._parameters:
            if not bool(parameter.isfinite().all()):
                raise self.failure('weights', math.nan, iteration)

    def failure(self, what: str, value: float, iteration: int) -> TrainingError:
        """The error that says what to change."""
        name, config = self._stage.name, self._stage.config
        return TrainingError(
            f'{name}: the {what} became {value} at step {iteration}; set '
            f'{name}.learning_rate={config.learning_rate / 3:.2g} (now '
            f'{config.learning_rate:g}), or check the poses and intrinsics with '
            f'`implicit-relocalizer inspect`. The last checkpoint is kept')

    def state(self) -> dict[str, Any]:
        """Weights and the optimizer's moments."""
        return {'modules': self._network.state_dict(), 'optimizer': self._optimizer.state_dict()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self._network.load_state_dict(saved['modules'])
        self._optimizer.load_state_dict(saved['optimizer'])
