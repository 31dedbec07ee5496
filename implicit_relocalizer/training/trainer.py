# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From a scene and a configuration to a model file, in steps with names."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from implicit_relocalizer.data.frames import Frame, Scene
from implicit_relocalizer.data.images import PosedImages, load_posed_images
from implicit_relocalizer.training.checkpoint import load_checkpoint, save_checkpoint
from implicit_relocalizer.training.configuration import TrainingConfig
from implicit_relocalizer.training.configuration_file import configuration_to_dict
from implicit_relocalizer.training.export import export_model
from implicit_relocalizer.training.loop import Stage, run_stage
from implicit_relocalizer.training.networks import build_network
from implicit_relocalizer.training.plan import Job, describe_frames, plan_job, spread_frames
from implicit_relocalizer.training.run_folder import (
    CHECKPOINT,
    MODEL,
    write_configuration,
    write_result,
)
from implicit_relocalizer.training.stages import StageContext, planned_stages

logger = logging.getLogger(__name__)

VALIDATION_FRAMES_SHOWN = 16
TRAIN_FRAMES_MEASURED = 64

Evaluate = Callable[[Callable[[Tensor, Tensor], dict[str, Tensor]], Sequence[Frame],
                     torch.device], dict[str, Any]]


def train_scene(scene: Scene, config: TrainingConfig, run_dir: Path, evaluate: Evaluate,
                show_progress: bool = True) -> dict[str, Any]:
    """Train on a scene; resumes what an interrupted run left in the folder.

    Args:
        scene: Only its training frames are learned from; its held-out frames are measured once,
            at the end.
        config: All settings.
        run_dir: Gets config.yaml, checkpoint.pt, model.pt and result.json.
        evaluate: Error summary of a localizer on frames.
        show_progress: Show progress bars on standard error.

    Returns:
        What result.json holds.

    Raises:
        ConfigurationError, CheckpointError, TrainingError, SceneError: with the remedy.
    """
    torch.set_flush_denormal(True)  # Adam's first moments are denormal, and ten times as slow
    job = plan_job(scene, config)
    run_dir.mkdir(parents=True, exist_ok=True)
    settings = configuration_to_dict(config)
    identity = {'configuration': settings, 'scene': describe_frames(job)}
    saved = load_checkpoint(run_dir / CHECKPOINT, identity)
    write_configuration(run_dir, settings)
    started = time.monotonic()
    seconds_before = saved['seconds'] if saved else 0.0
    torch.manual_seed(config.seed)
    images = load_posed_images(job.fit_frames)
    network = build_network(job, images).to(job.device)

    def save(stage: str, loop: dict[str, Any]) -> None:
        save_checkpoint(run_dir / CHECKPOINT, {
            'identity': identity, 'stage': stage, 'loop': loop,
            'seconds': seconds_before + time.monotonic() - started})

    if saved:
        logger.info('resuming %s at step %d', saved['stage'], saved['loop']['iteration'])
    histories = _run_stages(job, images, network, saved, save, evaluate, show_progress)
    seconds = seconds_before + time.monotonic() - started
    result = _measure(job, network, evaluate, seconds, histories)
    export_model(job, images, network, result, run_dir / MODEL)
    result['model_bytes'] = (run_dir / MODEL).stat().st_size
    write_result(run_dir, result)
    return result


def _run_stages(job: Job, images: PosedImages, network: nn.Module,
                saved: dict[str, Any] | None, save: Callable[[str, dict[str, Any]], None],
                evaluate: Evaluate, show_progress: bool) -> dict[str, Any]:
    histories: dict[str, Any] = {}
    stages = planned_stages(job.config)
    names = [stage.name for stage in stages]
    first = names.index(saved['stage']) if saved else 0
    for planned in stages[first:]:
        loop = saved['loop'] if saved and saved['stage'] == planned.name else None
        done = loop['iteration'] if loop else 0
        stage = planned.begin(StageContext(job, images, network, done, show_progress))
        histories[planned.name] = _run(job, stage, network, loop, save, evaluate, show_progress)
    return histories


def _run(job: Job, stage: Stage, network: nn.Module, loop: dict[str, Any] | None,
         save: Callable[[str, dict[str, Any]], None], evaluate: Evaluate,
         show_progress: bool) -> list[list[float]]:
    shown = spread_frames(job.validation_frames, VALIDATION_FRAMES_SHOWN)

    def validate() -> str:
        if not shown:
            return 'none'
        network.eval()
        summary = evaluate(network, shown, job.device)
        return (f'{100 * summary["median_translation_m"]:.1f} cm '
                f'{summary["median_rotation_deg"]:.2f}°')

    state = run_stage(stage, network, loop, lambda values: save(stage.name, values), validate,
                      job.config.checkpoint_every_s, job.config.validation_every_s,
                      show_progress)
    return state.history or []


def _measure(job: Job, network: nn.Module, evaluate: Evaluate, seconds: float,
             histories: dict[str, Any]) -> dict[str, Any]:
    network.eval()
    parts = {'train': spread_frames(job.fit_frames, TRAIN_FRAMES_MEASURED),
             'validation': list(job.validation_frames), 'test': list(job.scene.split('test'))}
    result: dict[str, Any] = {name: evaluate(network, frames, job.device)
                              for name, frames in parts.items() if frames}
    return {**result, 'scene': job.scene.name, 'training_seconds': seconds,
            'history': histories, 'configuration': configuration_to_dict(job.config),
            'versions': {'python': platform.python_version(), 'torch': torch.__version__},
            'device': str(job.device), 'dtype': str(job.dtype)}
