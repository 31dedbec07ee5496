# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The loop both stages share: schedule, checkpoints, progress bar with the validation error."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

MAX_GRADIENT_NORM = 1.0
SHOWN_ITERATIONS = 100


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


class Stage(Protocol):
    """What the loop needs of a stage."""

    name: str

    @property
    def config(self) -> StageConfig:
        """Length and step size."""

    def train_mode(self) -> None:
        """Prepare the modules for a training step."""

    def step(self, progress: float) -> tuple[Tensor, float]:
        """Loss of one batch at this share of the stage, and its median error in pixels."""


@dataclass
class LoopState:
    """Where a stage stands; goes into checkpoints.

    Attributes:
        iteration: Steps done.
        elapsed_s: Seconds trained, over all resumes.
        history: Rows of iteration, elapsed_s, loss, median_px for plots.
    """

    iteration: int = 0
    elapsed_s: float = 0.0
    history: list[list[float]] | None = None


def progress_of(state: LoopState, config: StageConfig) -> float:
    """Share of the stage that is done, by steps or by time, whichever is further."""
    by_time = state.elapsed_s / config.max_seconds if config.max_seconds > 0 else 0.0
    return min(1.0, max(state.iteration / config.iterations, by_time))


def learning_rate_factor(progress: float, warmup: float = 0.02) -> float:
    """Linear warm-up, then half a cosine down to one hundredth."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def run_stage(stage: Stage, modules: nn.Module, saved: dict[str, Any] | None,
              save: Callable[[dict[str, Any]], None], validate: Callable[[], str],
              checkpoint_every_s: float, validation_every_s: float,
              show_progress: bool) -> LoopState:
    """Optimise until the stage's steps or seconds are used up.

    Args:
        stage: Gives the loss of each step.
        modules: Whose parameters with `requires_grad` are optimised and saved.
        saved: What `save` got when an earlier run was cut off, or None.
        save: Stores a checkpoint.
        validate: Current error on the validation frames, for the progress bar.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    config = stage.config
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate,
                                  weight_decay=config.weight_decay)
    state = LoopState(history=[])
    if saved is not None:
        modules.load_state_dict(saved['modules'])
        optimizer.load_state_dict(saved['optimizer'])
        state = LoopState(saved['iteration'], saved['elapsed_s'], saved['history'])

    def snapshot() -> dict[str, Any]:
        return {'modules': modules.state_dict(), 'optimizer': optimizer.state_dict(),
                'iteration': state.iteration, 'elapsed_s': state.elapsed_s,
                'history': state.history}

    next_save_s = state.elapsed_s + checkpoint_every_s
    next_validation_s = state.elapsed_s + validation_every_s
    validation = ''
    recent_px: list[float] = []
    with tqdm(total=100, desc=stage.name, unit='%', disable=not show_progress,
              bar_format='{desc}: {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}',
              ) as bar:
        while (progress := progress_of(state, config)) < 1.0:
            started = time.monotonic()
            for group in optimizer.param_groups:
                group['lr'] = config.learning_rate * learning_rate_factor(progress)
            stage.train_mode()
            loss, median_px = _optimise(stage, optimizer, parameters, progress, state)
            state.iteration += 1
            state.elapsed_s += time.monotonic() - started
            recent_px.append(median_px)
            if state.iteration % SHOWN_ITERATIONS == 0:
                shown_px = sum(recent_px) / len(recent_px)
                recent_px.clear()
                assert state.history is not None
                state.history.append([state.iteration, state.elapsed_s, loss, shown_px])
                bar.n = round(100 * progress)
                bar.set_postfix_str(f'points {shown_px:.1f} px{validation}')
            if state.elapsed_s >= next_validation_s:
                validating = time.monotonic()
                validation = f', validation {validate()}'
                state.elapsed_s += time.monotonic() - validating
                next_validation_s = state.elapsed_s + validation_every_s
            if state.elapsed_s >= next_save_s:
                save(snapshot())
                next_save_s = state.elapsed_s + checkpoint_every_s
        bar.n = 100
        bar.refresh()
    save(snapshot())
    return state


def _optimise(stage: Stage, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter],
              progress: float, state: LoopState) -> tuple[float, float]:
    loss, median_px = stage.step(progress)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f'{stage.name}: the loss became {value} at step {state.iteration}; lower '
            f'{stage.name}.learning_rate ({stage.config.learning_rate}), or check the poses with '
            f'their intrinsics. The last checkpoint is kept')
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
    optimizer.step()
    return value, median_px
