# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From a scene and a configuration to a model file, in steps with names."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.images import PosedImages, load_posed_images
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.training.checkpoint import load_checkpoint, save_checkpoint
from implicit_relocalizer.training.configuration import TrainingConfig
from implicit_relocalizer.training.configuration_file import configuration_to_dict
from implicit_relocalizer.training.export import export_model
from implicit_relocalizer.training.loop import (
    LoopOptions,
    LoopState,
    progress_of,
    restore_state,
    run_stage,
)
from implicit_relocalizer.training.measurement import Evaluate, Measurement, prepare_measurement
from implicit_relocalizer.training.memory import (
    check_images_fit,
    explain_memory_errors,
    halved,
)
from implicit_relocalizer.training.networks import build_network, learn_landmarks
from implicit_relocalizer.training.phases import Phases
from implicit_relocalizer.training.plan import Job, describe_frames, plan_job
from implicit_relocalizer.training.regression import state_uncertainty
from implicit_relocalizer.training.run_folder import RunFolder
from implicit_relocalizer.training.stage_log import StageLog
from implicit_relocalizer.training.stages import PlannedStage, StageContext, planned_stages
from implicit_relocalizer.training.team import Team

logger = logging.getLogger(__name__)

# Settings that a resumed run may change: they do not decide how the model comes out.
FREE_SETTINGS = ('device', 'validation_every_s', 'checkpoint_every_s')


def train_scene(scene: Scene, config: TrainingConfig, run_dir: Path, evaluate: Evaluate,
                show_progress: bool = True, circumstances: Mapping[str, Any] | None = None,
                restart: bool = False, team: Team | None = None) -> dict[str, Any]:
    """Train on a scene; resumes what an interrupted run left in the folder.

    Args:
        scene: Only its training frames are learned from; its held-out frames are measured once,
            at the end.
        config: All settings.
        run_dir: Gets config.yaml, run.json, checkpoint.pt, model.pt, result.json and curves.
        evaluate: Error summary of a localizer on frames.
        show_progress: Show progress bars on standard error.
        circumstances: What to record beside the result: split, format, hardware, versions, ...
        restart: Throw an earlier run in the folder away.
        team: The processes that train together (`team.join_team`); every one calls this.

    Returns:
        What result.json holds, in every process.

    Raises:
        ConfigurationError, CheckpointError, RunFolderError, TrainingError, SceneError: with the
            remedy.
    """
    torch.set_flush_denormal(True)  # Adam's first moments are denormal, and ten times as slow
    started_s = time.monotonic()
    job = plan_job(scene, config, team)
    facts = {'scene': scene.name,
             'versions': {'python': platform.python_version(), 'torch': torch.__version__},
             **(circumstances or {})}
    with RunFolder(run_dir) as folder:
        saved = job.team.from_first(lambda: _open_folder(folder, job, facts, restart))
        seconds_before = saved['seconds'] if saved else 0.0

        def seconds() -> float:
            return float(seconds_before + time.monotonic() - started_s)

        phases = Phases(job.device, show_progress and job.team.is_first)
        with phases.step('reading images'):
            images = _load_images(job)
            measurement = prepare_measurement(job, images, evaluate)
        torch.manual_seed(config.seed)
        with phases.step('building'):
            network = job.team.from_first(lambda: build_network(job, images)).to(job.device)
        torch.manual_seed(config.seed + job.team.rank)
        run = _Run(job, images, network, folder, measurement, seconds, phases)
        ended = run.run_stages(saved)
        return job.team.from_first(lambda: run.finish(ended, facts))


def _open_folder(folder: RunFolder, job: Job, facts: Mapping[str, Any],
                 restart: bool) -> dict[str, Any] | None:
    """Make the run folder ours; what an interrupted run saved, if there was one."""
    folder.acquire()
    if restart:
        folder.clear()
    saved = load_checkpoint(folder.checkpoint, _identity(job))
    folder.write_configuration(job.config)
    folder.record_start(facts, job.config.seed, job.team.size, saved)
    if saved:
        logger.info('resuming %s at step %d', saved['stage'], saved['loop']['iteration'])
    return saved


def _identity(job: Job) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    settings = configuration_to_dict(job.config)
    return {'configuration': {key: value for key, value in settings.items()
                              if key not in FREE_SETTINGS},
            'scene': describe_frames(job)}


def _load_images(job: Job) -> PosedImages:
    own = job.own_frames
    held = len(own) + (len(job.validation_frames) if job.team.is_first else 0)
    check_images_fit(held, job.scene.image_size)
    return load_posed_images(own, job.origin_world_3)


class _Run:
    """A training under way in one process of the team."""

    def __init__(self, job: Job, images: PosedImages, network: nn.Module, folder: RunFolder,
                 measurement: Measurement, seconds: Callable[[], float],
                 phases: Phases) -> None:
        self._job, self._images, self._network = job, images, network
        self._folder, self._measurement = folder, measurement
        self._seconds, self._phases = seconds, phases

    def run_stages(self, saved: dict[str, Any] | None) -> dict[str, LoopState]:
        """Run the stages that are not done; in which state each of them ended."""
        done = saved['done'] if saved else {}
        ended = {name: restore_state(state) for name, state in done.items()}
        for index, planned in enumerate(planned_stages(self._job.config)):
            if planned.name in ended:
                continue
            loop = saved['loop'] if saved and saved['stage'] == planned.name else None
            if loop and progress_of(restore_state(loop), planned.config) >= 1.0:
                self._network.load_state_dict(loop['modules'])
                ended[planned.name] = restore_state(loop)
            else:
                ended[planned.name] = self._run_stage(planned, index, loop, ended)
        return ended

    def _run_stage(self, planned: PlannedStage, index: int, loop: dict[str, Any] | None,
                   ended: Mapping[str, LoopState]) -> LoopState:
        job, config = self._job, self._job.config
        iterations = loop['iteration'] if loop else 0
        generator = job.generator(1 + index + iterations)
        smaller = halved('input_width', config.input_width, least=64)
        with (self._phases.step(f'preparing {planned.name}'),
              explain_memory_errors(f'preparing {planned.name}',
                                    [*planned.remedies(planned.preparation_keys), smaller])):
            stage = planned.begin(StageContext(job, self._images, self._network, iterations,
                                               generator, self._phases.show_progress))

        def save(values: dict[str, Any]) -> None:
            save_checkpoint(self._folder.checkpoint, {
                'identity': _identity(job), 'stage': planned.name, 'loop': values,
                'done': {name: asdict(state) for name, state in ended.items()},
                'seconds': self._seconds()})

        options = LoopOptions(
            save, lambda: self._measurement.validate(self._network), generator,
            config.checkpoint_every_s, config.validation_every_s, self._phases.show_progress,
            planned.error_unit, planned.item, planned.items_per_step, job.team)
        curves = self._folder.path if job.team.is_first else None
        with (self._phases.step(planned.name),
              StageLog(curves, planned.name, first_step=iterations + 1) as log,
              explain_memory_errors(planned.name, [*planned.remedies((planned.batch_key,)),
                                                   smaller])):
            return run_stage(stage, self._network, loop, log, options)

    def finish(self, ended: Mapping[str, LoopState], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Measure, export the model and write the result."""
        job, config = self._job, self._job.config
        if config.landmarks.most > 0:
            assert isinstance(self._network, Localizer)
            fewer = halved('landmarks.partner_views', config.landmarks.partner_views)
            with explain_memory_errors('learning landmarks', [fewer]):
                learn_landmarks(job, self._images, self._network, self._phases)
        training_seconds = self._seconds()
        smaller = halved('input_width', config.input_width, least=64)
        with self._phases.step('measuring'), explain_memory_errors('measuring', [smaller]):
            measured = self._measurement.measure(self._network)
        state_uncertainty(self._network, measured)
        result = {
            'kind': 'training', **facts, **measured, 'seed': config.seed,
            'processes': job.team.size, 'device': str(job.device), 'dtype': str(job.dtype),
            'training_seconds': training_seconds,
            'history': {name: state.history for name, state in ended.items()},
            'validation_history': {name: state.validations for name, state in ended.items()},
            'configuration': configuration_to_dict(config)}
        with self._phases.step('exporting'):
            export_model(job, self._network, result, self._folder.model)
        result['model_bytes'] = self._folder.model.stat().st_size
        result['phase_seconds'] = dict(self._phases.seconds)
        result['wall_seconds'] = self._seconds()
        self._folder.write_result(result)
        return result
