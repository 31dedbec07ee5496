# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From a scene and a configuration to a model file, in steps with names."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from implicit_relocalizer.data.frames import Frame, Scene
from implicit_relocalizer.data.images import PosedImages, load_posed_images
from implicit_relocalizer.network.encoders import Encoder, build_encoder
from implicit_relocalizer.network.heads import PointHead
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import ModelMetadata, save_model
from implicit_relocalizer.training.alignment import AlignmentStage
from implicit_relocalizer.training.anchors import spread_anchors
from implicit_relocalizer.training.buffer import PointBuffer, buffer_bytes, fill_buffer
from implicit_relocalizer.training.checkpoint import load_checkpoint, save_checkpoint
from implicit_relocalizer.training.configuration import (
    ConfigurationError,
    TrainingConfig,
    configuration_to_dict,
)
from implicit_relocalizer.training.loop import run_stage
from implicit_relocalizer.training.mapping import MappingStage
from implicit_relocalizer.training.precision import choose_device, choose_dtype

logger = logging.getLogger(__name__)

MAX_MEMORY_SHARE = 0.7
VALIDATION_FRAMES_SHOWN = 16
TRAIN_FRAMES_MEASURED = 64

Evaluate = Callable[[Callable[[Tensor, Tensor], dict[str, Tensor]], Sequence[Frame],
                     torch.device], dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """Everything the steps share."""

    scene: Scene
    config: TrainingConfig
    fit_frames: tuple[Frame, ...]
    validation_frames: tuple[Frame, ...]
    input_size: tuple[int, int]
    device: torch.device
    dtype: torch.dtype


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
    job = _plan(scene, config)
    run_dir.mkdir(parents=True, exist_ok=True)
    settings = configuration_to_dict(config)
    identity = {'configuration': settings, 'scene': _describe_frames(job)}
    saved = load_checkpoint(run_dir / 'checkpoint.pt', identity)
    (run_dir / 'config.yaml').write_text(yaml.safe_dump(settings, sort_keys=False))
    started = time.monotonic()
    seconds_before = saved['seconds'] if saved else 0.0
    torch.manual_seed(config.seed)
    images = load_posed_images(job.fit_frames)
    localizer = _build_localizer(job, images).to(job.device)

    def save(stage: str, loop: dict[str, Any]) -> None:
        save_checkpoint(run_dir / 'checkpoint.pt', {
            'identity': identity, 'stage': stage, 'loop': loop,
            'seconds': seconds_before + time.monotonic() - started})

    if saved:
        logger.info('resuming %s at step %d', saved['stage'], saved['loop']['iteration'])
    histories = _run_stages(job, images, localizer, saved, save, evaluate, show_progress)
    seconds = seconds_before + time.monotonic() - started
    result = _measure(job, localizer, evaluate, seconds, histories)
    _export(job, images, localizer, result, run_dir / 'model.pt')
    result['model_bytes'] = (run_dir / 'model.pt').stat().st_size
    partial = run_dir / 'result.json.partial'
    partial.write_text(json.dumps(result, indent=2))
    partial.replace(run_dir / 'result.json')
    return result


def remove_run(run_dir: Path) -> None:
    """Delete what `train_scene` left in a folder, and nothing else that may be there."""
    for name in ('config.yaml', 'checkpoint.pt', 'model.pt', 'result.json'):
        for path in (run_dir / name, run_dir / (name + '.partial')):
            path.unlink(missing_ok=True)


def split_validation(frames: Sequence[Frame], fraction: float,
                     ) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Set evenly spread frames aside: (frames to fit, frames to validate on)."""
    if fraction <= 0 or len(frames) < 4:
        return tuple(frames), ()
    step = max(2, round(1 / fraction))
    held = set(range(step // 2, len(frames), step))
    return (tuple(f for i, f in enumerate(frames) if i not in held),
            tuple(f for i, f in enumerate(frames) if i in held))


def _plan(scene: Scene, config: TrainingConfig) -> Job:
    frames = scene.split('train')
    if not frames:
        raise ConfigurationError(f'{scene.root}: has no training frames')
    fit, validation = split_validation(frames, config.validation_fraction)
    width, height = scene.image_size
    input_width = _round_to_stride(config.input_width)
    input_size = (input_width, _round_to_stride(input_width * height / width))
    device = choose_device(config.device)
    return Job(scene, config, fit, validation, input_size, device,
               choose_dtype(config.precision, device))


def _round_to_stride(size_px: float, stride: int = 8) -> int:
    return max(stride, round(size_px / stride) * stride)


def _build_localizer(job: Job, images: PosedImages) -> Localizer:
    config = job.config
    encoder = build_encoder(config.encoder.name, config.encoder.pretrained)
    head_config = config.head
    anchors = spread_anchors(images, head_config.anchors, head_config.nominal_depth_m, config.seed)
    head = PointHead(encoder.channels, anchors, head_config.nominal_depth_m,
                     head_config.offset_scale_m, head_config.width, head_config.blocks)
    nominal_focal_px = float(images.K_b33[:, 0, 0].mean()) * job.input_size[0] \
        / job.scene.image_size[0]
    options = config.localizer
    return Localizer(encoder, head, job.input_size, nominal_focal_px, images.origin_world_3,
                     options.alignment, options.hypothesis_count, options.refined_count)


def _run_stages(job: Job, images: PosedImages, localizer: Localizer,
                saved: dict[str, Any] | None, save: Callable[[str, dict[str, Any]], None],
                evaluate: Evaluate, show_progress: bool) -> dict[str, Any]:
    config = job.config
    histories: dict[str, Any] = {}
    resumed = saved['stage'] if saved else None
    if config.mapping.iterations > 0:
        loop = saved['loop'] if saved and resumed == 'mapping' else None
        if resumed == 'alignment':
            logger.info('mapping is done already')
        else:
            for parameter in localizer.encoder.parameters():
                parameter.requires_grad_(False)
            localizer.encoder.eval()
            stage = _mapping_stage(job, images, localizer, loop, show_progress)
            histories['mapping'] = _run(job, stage, localizer, loop, save, evaluate,
                                        show_progress)
    if config.alignment.iterations > 0:
        loop = saved['loop'] if saved and resumed == 'alignment' else None
        for parameter in localizer.encoder.parameters():
            parameter.requires_grad_(config.alignment.train_encoder)
        done = loop['iteration'] if loop else 0
        alignment = AlignmentStage(localizer, images, config.alignment, config.augmentation,
                                   torch.Generator().manual_seed(config.seed + 2 + done),
                                   job.device, job.dtype)
        histories['alignment'] = _run(job, alignment, localizer, loop, save, evaluate,
                                      show_progress)
    return histories


def _mapping_stage(job: Job, images: PosedImages, localizer: Localizer,
                   loop: dict[str, Any] | None, show_progress: bool) -> MappingStage:
    mapping = job.config.mapping
    buffer = _fill_buffer(job, images, localizer.encoder, show_progress)
    if loop is None:
        mean, scale = buffer.feature_statistics()
        localizer.head.set_feature_statistics(mean, scale)
    done = loop['iteration'] if loop else 0
    generator = torch.Generator().manual_seed(job.config.seed + 1 + done)
    return MappingStage(localizer.head, buffer, mapping, localizer.input_width,
                        localizer.nominal_focal_px, generator, job.device, job.dtype)


def _fill_buffer(job: Job, images: PosedImages, encoder: Encoder,
                 show_progress: bool) -> PointBuffer:
    mapping = job.config.mapping
    needed = buffer_bytes(len(images), mapping.views_per_image, mapping.points_per_view,
                          encoder.channels)
    available = psutil.virtual_memory().available
    if needed > MAX_MEMORY_SHARE * available:
        fitting = int(mapping.points_per_view * MAX_MEMORY_SHARE * available / needed)
        raise ConfigurationError(
            f'the buffer would take {needed / 1e9:.1f} GB of {available / 1e9:.1f} GB free '
            f'memory ({len(images)} images x {mapping.views_per_image} views x '
            f'{mapping.points_per_view} points); set mapping.points_per_view={max(1, fitting)} '
            f'or fewer mapping.views_per_image')
    with tqdm(total=len(images) * mapping.views_per_image, desc='encoding', unit='view',
              disable=not show_progress) as bar:
        return fill_buffer(images, encoder, job.input_size, mapping.views_per_image,
                           mapping.points_per_view, job.config.augmentation,
                           torch.Generator().manual_seed(job.config.seed), job.device,
                           lambda done: bar.update(done - bar.n))


def _run(job: Job, stage: MappingStage | AlignmentStage, localizer: Localizer,
         loop: dict[str, Any] | None, save: Callable[[str, dict[str, Any]], None],
         evaluate: Evaluate, show_progress: bool) -> list[list[float]]:
    shown = _spread(job.validation_frames, VALIDATION_FRAMES_SHOWN)

    def validate() -> str:
        if not shown:
            return 'none'
        localizer.eval()
        summary = evaluate(localizer, shown, job.device)
        return (f'{100 * summary["median_translation_m"]:.1f} cm '
                f'{summary["median_rotation_deg"]:.2f}°')

    modules: nn.Module = localizer
    state = run_stage(stage, modules, loop, lambda values: save(stage.name, values), validate,
                      job.config.checkpoint_every_s, job.config.validation_every_s,
                      show_progress)
    return state.history or []


def _measure(job: Job, localizer: Localizer, evaluate: Evaluate, seconds: float,
             histories: dict[str, Any]) -> dict[str, Any]:
    localizer.eval()
    parts = {'train': _spread(job.fit_frames, TRAIN_FRAMES_MEASURED),
             'validation': list(job.validation_frames), 'test': list(job.scene.split('test'))}
    result: dict[str, Any] = {name: evaluate(localizer, frames, job.device)
                              for name, frames in parts.items() if frames}
    return {**result, 'scene': job.scene.name, 'training_seconds': seconds,
            'history': histories, 'configuration': configuration_to_dict(job.config),
            'versions': {'python': platform.python_version(), 'torch': torch.__version__},
            'device': str(job.device), 'dtype': str(job.dtype)}


def _export(job: Job, images: PosedImages, localizer: Localizer, result: dict[str, Any],
            path: Path) -> None:
    localizer.eval().cpu()
    position = images.t_local_camera_b3.double() + images.origin_world_3
    low, high = position.amin(dim=0).tolist(), position.amax(dim=0).tolist()
    metadata = ModelMetadata(
        scene=job.scene.name, image_size=job.scene.image_size,
        K_33=tuple((float(a), float(b), float(c)) for a, b, c in job.fit_frames[0].K_33),
        position_min_m=(low[0], low[1], low[2]), position_max_m=(high[0], high[1], high[2]),
        encoder=job.config.encoder.name,
        accuracy={name: result[name] for name in ('train', 'validation', 'test')
                  if name in result},
        training={key: result[key] for key in ('training_seconds', 'configuration', 'versions',
                                               'device', 'dtype')})
    save_model(torch.jit.script(localizer), path, metadata)


def _describe_frames(job: Job) -> str:
    frames = job.fit_frames
    return f'{job.scene.name}: {len(frames)} frames from {frames[0].name} to {frames[-1].name}'


def _spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` frames, evenly spread."""
    if len(frames) <= count:
        return list(frames)
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]
