# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The loop that all stages share: schedule, checkpoints, curves, and the validation error."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from implicit_relocalizer.training.meter import Meter
from implicit_relocalizer.training.optimization import Optimization
from implicit_relocalizer.training.stage import Stage, StageConfig, StepResult
from implicit_relocalizer.training.stage_log import StageLog
from implicit_relocalizer.training.team import ALONE, Team

STEPS_PER_ROW = 100


@dataclass
class LoopState:
    """Where a stage stands; goes into checkpoints.

    Attributes:
        iteration: Steps done.
        elapsed_s: Seconds trained, over all resumes.
        history: Rows of iteration, elapsed_s, loss, median error for plots.
        validations: Rows of iteration, elapsed_s, median_translation_m, median_rotation_deg.
    """

    iteration: int = 0
    elapsed_s: float = 0.0
    history: list[list[float]] = field(default_factory=list)
    validations: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class LoopOptions:
    """What surrounds a loop.

    Attributes:
        save: Stores a checkpoint; called in the first process alone.
        validate: Error summary on the validation frames, None without any; first process alone.
        generator: Draws the batches; its state goes into checkpoints, so that a resumed run does
            not draw the same again.
        checkpoint_every_s, validation_every_s: Seconds of training between two.
        show_progress: Show a progress bar on standard error.
        error_unit: Of the errors that the stage's steps give.
        item: What a batch is made of, 'points' or 'images'.
        items_per_step: How many of them in each process.
        team: The processes that train together.
    """

    save: Callable[[dict[str, Any]], None]
    validate: Callable[[], Mapping[str, Any] | None]
    generator: torch.Generator
    checkpoint_every_s: float = math.inf
    validation_every_s: float = math.inf
    show_progress: bool = False
    error_unit: str = 'px'
    item: str = 'points'
    items_per_step: int = 1
    team: Team = ALONE


def progress_of(state: LoopState, config: StageConfig) -> float:
    """Share of the stage that is done, by steps or by time, whichever is further."""
    by_time = state.elapsed_s / config.max_seconds if config.max_seconds > 0 else 0.0
    return min(1.0, max(state.iteration / config.iterations, by_time))


def restore_state(saved: Mapping[str, Any] | None) -> LoopState:
    """Where the stage stood when `save` was called; the start without."""
    return LoopState() if saved is None else LoopState(
        saved['iteration'], saved['elapsed_s'], list(saved['history']),
        list(saved['validations']))


def run_stage(stage: Stage, network: nn.Module, saved: dict[str, Any] | None, log: StageLog,
              options: LoopOptions) -> LoopState:
    """Optimise until the stage's steps or seconds are used up.

    Args:
        stage: Gives the loss of each step.
        network: Whose parameters with `requires_grad` are optimised and saved.
        saved: What `options.save` got when an earlier run was cut off, or None.
        log: Gets the curves.
        options: What surrounds the loop.

    Raises:
        TrainingError: the loss, its gradient or the weights are no longer finite.
    """
    return _Loop(stage, network, saved, log, options).run()


class _Loop:
    """The state of a running loop."""

    def __init__(self, stage: Stage, network: nn.Module, saved: dict[str, Any] | None,
                 log: StageLog, options: LoopOptions) -> None:
        self._stage, self._log, self._options = stage, log, options
        self._optimization = Optimization(stage, network, options.team)
        self._state = restore_state(saved)
        if saved is not None:
            self._optimization.load(saved)
            _restore_random(saved['random'], options)
        self._meter = Meter()
        self._next_save_s = self._state.elapsed_s + options.checkpoint_every_s
        self._next_validation_s = self._state.elapsed_s + options.validation_every_s
        self._shown_validation = ''

    def run(self) -> LoopState:
        state, config = self._state, self._stage.config
        with tqdm(total=100, desc=self._stage.name, unit='%',
                  disable=not self._options.show_progress, bar_format=
                  '{desc}: {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining} {postfix}') as bar:
            save_now = False
            while (progress := progress_of(state, config)) < 1.0:
                started = time.monotonic()
                random = self._random() if save_now else []
                result = self._optimization.compute(progress)
                if save_now:
                    self._save(random, proof=result)
                self._optimization.update(result, state.iteration)
                state.iteration += 1
                self._meter.add(result)
                state.elapsed_s += time.monotonic() - started
                save_now, validate_now = self._agree()
                if state.iteration % STEPS_PER_ROW == 0 or progress_of(state, config) >= 1.0:
                    self._add_row(bar, progress)
                if validate_now:
                    self._validate()
            bar.n = 100
            bar.refresh()
        self._optimization.check_weights(state.iteration)
        self._save(self._random())
        return state

    def _agree(self) -> tuple[bool, bool]:
        """All processes go by the first one's clock: (save with the next step, validate now)."""
        state, options = self._state, self._options
        mine = [state.elapsed_s, float(state.elapsed_s >= self._next_save_s),
                float(state.elapsed_s >= self._next_validation_s)]
        elapsed_s, save, validate = options.team.sum(
            mine if options.team.is_first else [0.0, 0.0, 0.0])
        state.elapsed_s = elapsed_s
        return save > 0, validate > 0

    def _random(self) -> list[dict[str, Any]]:
        """The states of the random numbers of every process."""
        return self._options.team.gather({'sampler': self._options.generator.get_state(),
                                          'torch': torch.get_rng_state()})

    def _save(self, random: list[dict[str, Any]], proof: StepResult | None = None) -> None:
        """Store a checkpoint; never one whose weights give a loss that is no number.

        Args:
            random: As it was before the step that is the proof: a resumed run does it again.
            proof: A step with these weights, not yet taken.
        """
        state, options = self._state, self._options
        usable = proof is None or math.isfinite(float(proof.loss.detach()))
        if options.team.is_first and usable:
            options.save({**self._optimization.state(), 'iteration': state.iteration,
                          'elapsed_s': state.elapsed_s, 'history': state.history,
                          'validations': state.validations, 'random': random})
        self._next_save_s = state.elapsed_s + options.checkpoint_every_s

    def _add_row(self, bar: Any, progress: float) -> None:
        state, options = self._state, self._options
        row = self._meter.take(options.team)
        state.history.append([state.iteration, state.elapsed_s, row.loss, row.median_error])
        items = row.steps * options.items_per_step * options.team.size
        self._log.add(state.iteration, {
            'loss': row.loss, f'median_error_{options.error_unit}': row.median_error,
            **{f'loss_parts/{name}': value for name, value in row.parts.items()},
            'learning_rate': self._optimization.learning_rate,
            f'{options.item}_per_second': items / max(row.seconds, 1e-9)})
        bar.n = round(100 * progress)
        bar.set_postfix_str(f'error {row.median_error:.1f} {options.error_unit}'
                            f'{self._shown_validation}')

    def _validate(self) -> None:
        state, options = self._state, self._options
        started = time.monotonic()
        summary = options.validate() if options.team.is_first else None
        if summary is not None and summary['median_translation_m'] is not None:
            translation_m = float(summary['median_translation_m'])
            rotation_deg = float(summary['median_rotation_deg'])
            state.validations.append([state.iteration, state.elapsed_s, translation_m,
                                      rotation_deg])
            self._log.add(state.iteration, {'validation/median_translation_m': translation_m,
                                            'validation/median_rotation_deg': rotation_deg})
            self._shown_validation = (f', validation {100 * translation_m:.1f} cm '
                                      f'{rotation_deg:.2f}°')
        state.elapsed_s += time.monotonic() - started
        self._meter.pause(time.monotonic() - started)
        self._agree_on_time()
        self._next_validation_s = state.elapsed_s + options.validation_every_s

    def _agree_on_time(self) -> None:
        team = self._options.team
        self._state.elapsed_s = team.sum([self._state.elapsed_s if team.is_first else 0.0])[0]


def _restore_random(random: list[dict[str, Any]], options: LoopOptions) -> None:
    """Go on drawing where this process stopped; one that is new keeps its own beginning."""
    if options.team.rank < len(random):
        options.generator.set_state(random[options.team.rank]['sampler'])
        torch.set_rng_state(random[options.team.rank]['torch'])
