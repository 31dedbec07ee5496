# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What is measured of a network while it learns and when it has."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.data.images import PosedImages, read_frame_image
from implicit_relocalizer.training.plan import Job, spread_frames

VALIDATION_FRAMES_SHOWN = 16
TRAIN_FRAMES_MEASURED = 64

# Error summary of a localizer on frames: at least median_translation_m and median_rotation_deg.
Evaluate = Callable[[Callable[[Tensor, Tensor], dict[str, Tensor]], Sequence[Frame],
                     torch.device], dict[str, Any]]


@dataclass(frozen=True)
class Measurement:
    """Frames to measure on; those of the training split are decoded already.

    Attributes:
        job: Everything the steps share.
        evaluate: Measures.
        train_frames: Some of those that are learned from.
        validation_frames: Those set aside.
    """

    job: Job
    evaluate: Evaluate
    train_frames: tuple[Frame, ...]
    validation_frames: tuple[Frame, ...]

    def validate(self, network: nn.Module) -> Mapping[str, Any] | None:
        """Summary on some validation frames, quickly; None where there are none."""
        shown = spread_frames(self.validation_frames, VALIDATION_FRAMES_SHOWN)
        network.eval()
        return self.evaluate(network, shown, self.job.device) if shown else None

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """Summaries `train`, `validation` and `test`, those that have any frames."""
        network.eval()
        parts = {'train': self.train_frames, 'validation': self.validation_frames,
                 'test': self.job.scene.split('test')}
        return {name: self.evaluate(network, frames, self.job.device)
                for name, frames in parts.items() if frames}


def prepare_measurement(job: Job, images: PosedImages, evaluate: Evaluate) -> Measurement:
    """Keep the frames that are measured in memory, so that no image is decoded twice.

    Args:
        job: Its `own_frames` are those of the images.
        images: The training images of this process.
        evaluate: Measures.
    """
    own = job.own_frames
    chosen = spread_frames(range(len(own)), TRAIN_FRAMES_MEASURED)
    train = tuple(keep_image(own[index], images.images_bhw3[index]) for index in chosen)
    validation = tuple(keep_image(frame, read_frame_image(frame))
                       for frame in job.validation_frames if job.team.is_first)
    return Measurement(job, evaluate, train, validation)


def keep_image(frame: Frame, image_hw3: Tensor) -> Frame:
    """The frame with its decoded (and undistorted) image in memory, uncompressed."""
    stream = io.BytesIO()
    Image.fromarray(image_hw3.numpy()).save(stream, 'PPM')
    return replace(frame, image_bytes=stream.getvalue(), lens=None)
