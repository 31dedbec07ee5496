# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings of a small room, in this process or as programs of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from implicit_relocalizer.data.augmentation import ViewRange
from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.images import PosedImages
from implicit_relocalizer.evaluation.accuracy import measure_accuracy
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.training.alignment import AlignmentStage
from implicit_relocalizer.training.checkpoint import load_checkpoint
from implicit_relocalizer.training.configuration import AlignmentConfig, TrainingConfig
from implicit_relocalizer.training.configuration_file import load_configuration
from implicit_relocalizer.training.loop import LoopOptions, LoopState, run_stage
from implicit_relocalizer.training.measurement import Evaluate
from implicit_relocalizer.training.stage_log import StageLog
from implicit_relocalizer.training.trainer import train_scene

WIDTH, BLOCKS, ANCHORS = 128, 2, 32
SETTINGS: dict[str, Any] = {
    'input_width': 160, 'device': 'cpu', 'precision': 'float32',
    'head': {'width': WIDTH, 'blocks': BLOCKS, 'anchors': ANCHORS},
    'mapping': {'iterations': 400, 'max_seconds': 0, 'views_per_image': 4,
                'points_per_view': 300, 'batch_points': 512}}
# Less than a second of training.
BRIEF = ('mapping.views_per_image=1', 'mapping.points_per_view=50', 'head.width=16',
         'head.anchors=4', 'mapping.batch_points=64')


def write_settings(folder: Path) -> Path:
    """Write the settings of all these trainings as a configuration file."""
    path = folder / 'settings.yaml'
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def configuration(folder: Path, *overrides: str) -> TrainingConfig:
    """Those settings with overrides."""
    return load_configuration(write_settings(folder), list(overrides))


def train(scene: Scene, run_dir: Path, *overrides: str, evaluate: Evaluate = measure_accuracy,
          **options: Any) -> dict[str, Any]:
    """Train in this process."""
    config = configuration(run_dir.parent, *overrides)
    return train_scene(scene, config, run_dir, evaluate, show_progress=False, **options)


def train_command(scene_dir: Path, run_dir: Path, *overrides: str) -> list[str]:
    """The same training as a command line, without the program."""
    return ['train', str(scene_dir), '--config', str(write_settings(run_dir.parent)),
            '--output', str(run_dir), *(f'--set={value}' for value in overrides)]


def program(*arguments: str) -> list[str]:
    """The program with arguments."""
    return [sys.executable, '-m', 'implicit_relocalizer.cli', *arguments]


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    """Weights and buffers in the last checkpoint of a run."""
    state = load_checkpoint(run_dir / 'checkpoint.pt', {})
    assert state is not None
    weights: dict[str, torch.Tensor] = state['loop']['modules']
    return weights


def curves_of(run_dir: Path, stage: str) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would draw of a stage: steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(run_dir / 'tensorboard' / stage)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)]
            for name in events.Tags()['scalars']}


def parts_of_loss(curves: dict[str, list[tuple[int, float]]]) -> dict[str, list[float]]:
    """The parts of the loss among the curves of a stage, by name."""
    return {name.removeprefix('loss_parts/'): [value for _, value in points]
            for name, points in curves.items() if name.startswith('loss_parts/')}


def run_alignment(localizer: Localizer, images: PosedImages, **options: Any) -> LoopState:
    """Stage B alone."""
    config = AlignmentConfig(max_seconds=0.0, **options)
    for parameter in localizer.encoder.parameters():
        parameter.requires_grad_(config.train_encoder)
    generator = torch.Generator().manual_seed(0)
    stage = AlignmentStage(localizer, images, config, ViewRange(), generator,
                           torch.device('cpu'), torch.float32)
    with StageLog(None, 'alignment', 1) as log:
        return run_stage(stage, localizer, None, log,
                         LoopOptions(lambda values: None, lambda: None, generator))
