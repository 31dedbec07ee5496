# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a training is about to do: which frames, at which size, on which device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from implicit_relocalizer.data.frames import Frame, Scene, SceneError
from implicit_relocalizer.training.configuration import ConfigurationError, TrainingConfig
from implicit_relocalizer.training.precision import choose_device, choose_dtype
from implicit_relocalizer.training.team import ALONE, Team

T = TypeVar('T')

SEEDS_PER_PROCESS = 7919


@dataclass(frozen=True)
class Job:
    """Everything the steps share.

    Attributes:
        scene: The place; its held-out frames are only ever measured.
        config: All settings.
        fit_frames: Training frames to learn from.
        validation_frames: Training frames set aside to watch the progress.
        input_size: Width and height in pixels that the network sees.
        device, dtype: Where and in which number format the network is computed.
        team: The processes that train together.
    """

    scene: Scene
    config: TrainingConfig
    fit_frames: tuple[Frame, ...]
    validation_frames: tuple[Frame, ...]
    input_size: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    team: Team = ALONE

    @property
    def own_frames(self) -> tuple[Frame, ...]:
        """The frames that this process of the team learns from."""
        return self.team.share(self.fit_frames)

    @property
    def origin_world_3(self) -> Tensor:
        """Mean position of the cameras to fit, float64 metres: the same in every process."""
        positions = np.stack([frame.T_world_camera[:3, 3] for frame in self.fit_frames])
        return torch.from_numpy(positions).double().mean(dim=0)

    def generator(self, purpose: int) -> torch.Generator:
        """Random numbers for one purpose, others in each process of the team."""
        return torch.Generator().manual_seed(
            self.config.seed + purpose + SEEDS_PER_PROCESS * self.team.rank)


def plan_job(scene: Scene, config: TrainingConfig, team: Team | None = None) -> Job:
    """Decide what the configuration leaves open.

    Raises:
        ConfigurationError: no training frames, fewer than processes, or no such device.
        SceneError: a pose or its intrinsics are no numbers.
    """
    team = team or ALONE
    frames = scene.split('train')
    if not frames:
        raise ConfigurationError(f'{scene.root}: has no training frames')
    for frame in frames:
        if not (np.isfinite(frame.T_world_camera).all() and np.isfinite(frame.K_33).all()):
            raise SceneError(f'{frame.image_path}: its pose or its intrinsics are no numbers; '
                             f'remove the frame or correct its label')
    fit, validation = split_validation(frames, config.validation_fraction)
    if len(fit) < team.size:
        raise ConfigurationError(f'{scene.root}: {len(fit)} training frames for {team.size} '
                                 f'processes; start torchrun with fewer')
    width, height = scene.image_size
    input_width = _round_to_stride(config.input_width)
    input_size = (input_width, _round_to_stride(input_width * height / width))
    device = choose_device(config.device)
    return Job(scene, config, fit, validation, input_size, device,
               choose_dtype(config.precision, device), team)


def split_validation(frames: Sequence[Frame], fraction: float,
                     ) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Set evenly spread frames aside: (frames to fit, frames to validate on)."""
    if fraction <= 0 or len(frames) < 4:
        return tuple(frames), ()
    step = max(2, round(1 / fraction))
    held = set(range(step // 2, len(frames), step))
    return (tuple(f for i, f in enumerate(frames) if i not in held),
            tuple(f for i, f in enumerate(frames) if i in held))


def spread_frames(frames: Sequence[T], count: int) -> list[T]:
    """At most `count` of some frames, evenly spread."""
    if len(frames) <= count:
        return list(frames)
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]


def describe_frames(job: Job) -> str:
    """One line by which a resumed run knows its scene again."""
    frames = job.fit_frames
    return f'{job.scene.name}: {len(frames)} frames from {frames[0].name} to {frames[-1].name}'


def _round_to_stride(size_px: float, stride: int = 8) -> int:
    return max(stride, round(size_px / stride) * stride)
