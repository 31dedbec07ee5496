# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of a model file on more images of its place, in steps with names."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from implicit_relocalizer.data.frames import Frame, Scene, SceneError
from implicit_relocalizer.data.images import PosedImages, load_posed_images, read_frame_image
from implicit_relocalizer.network.calibration import start_anew
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.keypoints import look_up
from implicit_relocalizer.network.landmarks import LandmarkHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import ModelMetadata, save_model
from implicit_relocalizer.training.configuration import ConfigurationError
from implicit_relocalizer.training.finetune_configuration import FinetuneConfig
from implicit_relocalizer.training.finetune_stage import FinetuneStage
from implicit_relocalizer.training.kept_answers import KeptAnswers, encode_cells
from implicit_relocalizer.training.landmarks.extension import extend_landmarks
from implicit_relocalizer.training.loop import LoopOptions, run_stage
from implicit_relocalizer.training.measurement import TRAIN_FRAMES_MEASURED, Evaluate
from implicit_relocalizer.training.plan import spread_frames
from implicit_relocalizer.training.positioned_cells import (
    PositionedCells,
    collect_cells,
    forget_rotations,
)
from implicit_relocalizer.training.precision import choose_device, choose_dtype
from implicit_relocalizer.training.restoring import RestoredModel, restore_model
from implicit_relocalizer.training.stage_log import StageLog

logger = logging.getLogger(__name__)

Labels = Literal['position', 'pose']
MAX_ASPECT_DIFFERENCE = 0.01
KEPT_CELLS_PER_IMAGE = 600


def finetune_model(model: Path, scene: Scene, labels: Labels, config: FinetuneConfig, out: Path,
                   evaluate: Evaluate, seed: int = 0, device_name: str = 'auto',
                   show_progress: bool = True, known_frames: Sequence[Frame] = (),
                   ) -> dict[str, Any]:
    """Go on learning the head of a model; the encoder stays as it is.

    A landmark head gets the landmarks of the new images (`landmarks.extension`); a point head is
    trained further (`finetune_stage`).

    Args:
        model: Model file to start from; stays as it is.
        scene: Its training frames are learned from; its held-out frames are measured before and
            after, and nothing else.
        labels: 'position' never looks at the orientations of the training frames, except to
            measure them.
        config: Settings, of a point head.
        out: Model file to write.
        evaluate: Error summary of a localizer on frames.
        seed: Of everything random.
        device_name: 'auto', 'cpu' or 'cuda'.
        show_progress: Show progress bars on standard error.
        known_frames: Images that the model was trained on, lest a point head forgets them; their
            labels are not read. Without any, the new images, mirrored, take their place less well.

    Returns:
        `before` and `after`, each with summaries `train` and `test` (where the scene has such
        frames); the settings, seconds, and the curve.

    Raises:
        ModelFileError, SceneError, ConfigurationError, TrainingError: with the remedy.
    """
    torch.set_flush_denormal(True)  # Adam's first moments are denormal, and ten times as slow
    started_s = time.monotonic()
    torch.manual_seed(seed)
    restored = restore_model(model)
    frames = _check_frames(scene, restored.metadata, model)
    device = choose_device(device_name)
    localizer = restored.localizer.to(device)
    before = _measure(localizer, scene, evaluate, device)
    generator = torch.Generator().manual_seed(seed)
    images = load_posed_images(frames, localizer.origin_world_3.cpu())
    if isinstance(localizer.head, LandmarkHead):
        progress = _extend(restored, images, labels, device, seed)
    else:
        progress = _train_head(restored, images, labels, config, known_frames, generator, device,
                               show_progress)
    result = {'labels': labels, 'frames': len(frames), 'known_frames': len(known_frames),
              'seed': seed, 'before': before,
              'after': _measure(localizer, scene, evaluate, device),
              'device': str(device), 'wall_seconds': time.monotonic() - started_s, **progress}
    _export(restored, frames, result, out)
    return result


def _extend(restored: RestoredModel, images: PosedImages, labels: Labels, device: torch.device,
            seed: int) -> dict[str, Any]:
    """Landmarks are not trained further: the new images bring their own."""
    if labels == 'position':
        images = forget_rotations(images)
    localizer, settings = restored.localizer.eval(), restored.config.landmarks
    # landmarks are learned from more than is asked
    look_up(localizer.encoder, restored.config.encoder.points_per_image)
    extension = extend_landmarks(localizer, images, labels == 'pose', settings, device, seed)
    look_up(localizer.encoder, settings.points_asked)
    if extension.trusted == 0:
        logger.warning('none of the %d images shows what the model knows: it stays as it was. '
                       'Add images that overlap with those it was trained on', len(images))
    return {'settings': dataclasses.asdict(settings),
            'iterations': extension.rounds, 'history': [],
            'extension': dataclasses.asdict(extension)}


def _train_head(restored: RestoredModel, images: PosedImages, labels: Labels,
                config: FinetuneConfig, known_frames: Sequence[Frame],
                generator: torch.Generator, device: torch.device,
                show_progress: bool) -> dict[str, Any]:
    localizer = restored.localizer
    assert isinstance(localizer.head, PointHead)
    dtype = choose_dtype('auto', device)
    cells = _collect(restored, images, labels, config, generator, device, show_progress)
    others_bhw3 = images.images_bhw3.flip(2) if not known_frames else torch.stack(
        [read_frame_image(frame) for frame in known_frames])
    others = encode_cells(others_bhw3, localizer.encoder, _input_size(localizer),
                          KEPT_CELLS_PER_IMAGE, generator, device)
    for parameter in localizer.encoder.parameters():
        parameter.requires_grad_(False)
    kept = KeptAnswers(localizer.head, others, generator, device)
    stage = FinetuneStage(localizer, cells, kept, config, generator, device, dtype)
    state = run_stage(stage, localizer, None, StageLog(None, stage.name, 0), LoopOptions(
        save=lambda checkpoint: None, validate=lambda: None, generator=generator,
        show_progress=show_progress, item='images', items_per_step=config.batch_images))
    return {'settings': dataclasses.asdict(config), 'dtype': str(dtype),
            'iterations': state.iteration, 'history': state.history}


def _check_frames(scene: Scene, metadata: ModelMetadata, model: Path) -> tuple[Frame, ...]:
    frames = scene.split('train')
    if not frames:
        raise ConfigurationError(f'{scene.root}: has no training frames to fine-tune on')
    aspect, known = (width / height for width, height in (scene.image_size, metadata.image_size))
    if abs(aspect / known - 1.0) > MAX_ASPECT_DIFFERENCE:
        raise SceneError(f'{scene.root}: its images are {scene.image_size[0]}x'
                         f'{scene.image_size[1]}, {model} was trained on {metadata.image_size[0]}x'
                         f'{metadata.image_size[1]}; crop them to the same shape')
    return frames


def _collect(restored: RestoredModel, images: PosedImages, labels: Labels,
             config: FinetuneConfig, generator: torch.Generator, device: torch.device,
             show_progress: bool) -> PositionedCells:
    localizer = restored.localizer
    if labels == 'position':
        images = forget_rotations(images)
    localizer.eval()
    with tqdm(total=len(images), desc='encoding', unit='image', disable=not show_progress) as bar:
        return collect_cells(
            images, labels == 'pose', localizer.encoder, _input_size(localizer),
            localizer.nominal_focal_px,
            config.views_per_image, config.points_per_view, restored.config.augmentation,
            generator, device, lambda done: bar.update(done - bar.n))


def _input_size(localizer: Localizer) -> tuple[int, int]:
    return localizer.input_width, localizer.input_height


def _measure(localizer: nn.Module, scene: Scene, evaluate: Evaluate,
             device: torch.device) -> dict[str, Any]:
    localizer.eval()
    parts: dict[str, Sequence[Frame]] = {
        'train': spread_frames(scene.split('train'), TRAIN_FRAMES_MEASURED),
        'test': scene.split('test')}
    return {name: evaluate(localizer, frames, device) for name, frames in parts.items() if frames}


def _export(restored: RestoredModel, frames: Sequence[Frame], result: dict[str, Any],
            out: Path) -> None:
    """Write the model; what was calibrated or measured of the old one does not hold any more."""
    localizer: Localizer = restored.localizer.eval().cpu()
    metadata = restored.metadata
    positions = np.stack([metadata.position_min_m, metadata.position_max_m,
                          *(frame.T_world_camera[:3, 3] for frame in frames)])
    low, high = positions.min(axis=0).tolist(), positions.max(axis=0).tolist()
    start_anew(localizer.calibration, low, high)
    finetuning = {key: result[key] for key in (
        'labels', 'frames', 'known_frames', 'seed', 'settings', 'device', 'iterations',
        'wall_seconds')}
    earlier = metadata.training.get('finetuning', [])
    training = {key: value for key, value in metadata.training.items()
                if key != 'train_frames_sha256'}  # more frames are known now
    save_model(torch.jit.script(localizer), out, replace(
        metadata, position_min_m=(low[0], low[1], low[2]),
        position_max_m=(high[0], high[1], high[2]), calibration={}, accuracy=result['after'],
        training={**training, 'finetuning': [*earlier, finetuning]}))
