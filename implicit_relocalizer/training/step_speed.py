# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How fast the steps of a stage are: the real loop against the network on one batch in memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.training.configuration import TrainingConfig
from implicit_relocalizer.training.loop import LoopOptions, run_stage
from implicit_relocalizer.training.networks import build_network
from implicit_relocalizer.training.plan import Job
from implicit_relocalizer.training.stage import DrawingStage, StageConfig, StepResult
from implicit_relocalizer.training.stage_log import StageLog
from implicit_relocalizer.training.stages import PlannedStage, StageContext

MIDDLE = 0.5


@dataclass(frozen=True)
class Variant:
    """A way of computing the same steps.

    Attributes:
        dtype: Of the network.
        compile: By torch.compile.
    """

    dtype: torch.dtype
    compile: bool = False

    @property
    def name(self) -> str:
        """Such as 'float32, compiled'."""
        return str(self.dtype).removeprefix('torch.') + (', compiled' if self.compile else '')


def measure_steps(job: Job, images: PosedImages, planned: PlannedStage,
                  variants: list[Variant], rounds: int, turn_s: float) -> list[dict[str, Any]]:
    """Time a stage's real loop and its bare steps in turns, for every variant, as JSON values.

    The bare step is forward, loss, backward and update on one batch that lies on the device.
    What the real one has besides: drawing and augmenting its batch, clipping, checks and curves.

    Args:
        job: Its device and configuration are used, its number format is the variant's.
        images: The training images.
        planned: Of the configuration.
        variants: Each with a network of its own.
        rounds: In each every variant's loop and bare steps are timed once.
        turn_s: About so many seconds each time, and one step at least.
    """
    subjects = [_Subject(job, images, planned, variant, turn_s) for variant in variants]
    for _ in range(rounds):
        for subject in subjects:
            subject.round()
    return [subject.summarize(planned) for subject in subjects]


class _Subject:
    """A stage with a network in one variant, and the times that it took."""

    def __init__(self, job: Job, images: PosedImages, planned: PlannedStage, variant: Variant,
                 turn_s: float) -> None:
        config: TrainingConfig = replace(job.config, compile=variant.compile)
        job = replace(job, config=config, dtype=variant.dtype)
        torch.manual_seed(config.seed)
        self._variant, self._job = variant, job
        self._network: nn.Module = build_network(job, images).to(job.device)
        self._generator = job.generator(1)
        self._stage = planned.begin(StageContext(job, images, self._network, 0, self._generator,
                                                 False))
        self._batch = self._stage.draw()
        self._optimizer = torch.optim.AdamW(
            [p for p in self._network.parameters() if p.requires_grad],
            lr=planned.config.learning_rate, weight_decay=planned.config.weight_decay)
        self._stage.train_mode()
        self._first_step_s = self._seconds_of_bare(1)
        self._steps = max(1, round(turn_s / self._seconds_of_bare(1)))
        self._loop_s: list[float] = []
        self._draw_s: list[float] = []
        self._bare_s: list[float] = []

    def round(self) -> None:
        """Time the loop, and as many bare steps."""
        timed = _TimedStage(self._stage, self._steps, self._wait)
        state = run_stage(timed, self._network, None, StageLog(None, timed.name, 0), LoopOptions(
            lambda values: None, lambda: None, self._generator))
        self._loop_s.append(state.elapsed_s)
        self._draw_s.append(timed.draw_s)
        self._stage.train_mode()
        self._bare_s.append(self._seconds_of_bare(self._steps))

    def _seconds_of_bare(self, steps: int) -> float:
        self._wait()
        started_s = time.monotonic()
        for _ in range(steps):
            self._bare_step()
        self._wait()
        return time.monotonic() - started_s

    def _bare_step(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._stage.loss(self._batch, MIDDLE).loss.backward()
        self._optimizer.step()

    def _wait(self) -> None:
        if self._job.device.type == 'cuda':
            torch.cuda.synchronize(self._job.device)

    def summarize(self, planned: PlannedStage) -> dict[str, Any]:
        """Medians over rounds; ratios are of the same round."""
        items = self._steps * planned.items_per_step
        pairs = list(zip(self._loop_s, self._bare_s, strict=True))
        bare_step_s = statistics.median(self._bare_s) / self._steps
        return {
            'variant': self._variant.name, 'item': planned.item,
            'batch': planned.items_per_step,
            'loop_per_s': items / statistics.median(self._loop_s),
            'bare_per_s': items / statistics.median(self._bare_s),
            'loop_over_bare': statistics.median(loop / bare for loop, bare in pairs),
            'data_per_s': items / statistics.median(self._draw_s),
            'share_of_data': statistics.median(
                draw / loop for draw, loop in zip(self._draw_s, self._loop_s, strict=True)),
            'bare_step_ms': 1e3 * bare_step_s,
            'seconds_to_first_step': max(0.0, self._first_step_s - bare_step_s)}


class _TimedStage:
    """A stage of a few steps that says how long they waited for their data."""

    def __init__(self, stage: DrawingStage[Any], steps: int, wait: Any) -> None:
        settings: Any = stage.config
        self.name = stage.name
        self.config: StageConfig = replace(settings, iterations=steps, max_seconds=0.0)
        self.draw_s = 0.0
        self._stage, self._wait = stage, wait

    def train_mode(self) -> None:
        """Of the stage."""
        self._stage.train_mode()

    def step(self, progress: float) -> StepResult:
        """Of the stage."""
        self._wait()
        started_s = time.monotonic()
        batch = self._stage.draw()
        self._wait()
        self.draw_s += time.monotonic() - started_s
        return self._stage.loss(batch, progress)
