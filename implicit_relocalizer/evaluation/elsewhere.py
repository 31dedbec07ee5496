# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A model's answers to images of places that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from implicit_relocalizer.data.frames import Scene
from implicit_relocalizer.data.images import as_float_images, read_frame_image
from implicit_relocalizer.evaluation.locating import Module, is_pose, spread
from implicit_relocalizer.network.model_file import ModelMetadata


@dataclass(frozen=True)
class ElsewhereAnswer:
    """An answer that nobody should believe.

    Attributes:
        scene: Name of the other place.
        name: Of the frame.
        confidence: As the model states it; 0 where that is no number.
        is_answered: Whether the answer is a pose at all, with a confidence.
    """

    scene: str
    name: str
    confidence: float
    is_answered: bool


@torch.inference_mode()
def ask_about_elsewhere(module: Module, metadata: ModelMetadata, scenes: Sequence[Scene],
                        device: torch.device | str = 'cpu', most_each: int | None = None,
                        show_progress: bool = True) -> list[ElsewhereAnswer]:
    """Ask about every frame of other scenes, cut and resized to be an image of the model's camera.

    Args:
        module: The model.
        metadata: Of its file.
        scenes: Of other places; both splits are asked about.
        device: Where the module lives.
        most_each: Frames asked of each scene at most, evenly spread; None: all.
        show_progress: Show progress bars on standard error.
    """
    K_33 = torch.tensor(metadata.K_33).float().to(device)
    answers = []
    for scene in scenes:
        for frame in tqdm(spread(scene.frames, most_each), desc=f'elsewhere: {scene.name}',
                          unit='image', disable=not show_progress):
            image_hw3 = fit_to_camera(read_frame_image(frame), metadata.image_size)
            outputs = module(image_hw3.to(device), K_33)
            T_44 = np.eye(4)
            T_44[:3, :3] = outputs['R_world_camera'].double().cpu().numpy()
            T_44[:3, 3] = outputs['t_world_camera'].double().cpu().numpy()
            confidence = float(outputs['confidence']) if 'confidence' in outputs else np.nan
            known = bool(np.isfinite(confidence))
            answers.append(ElsewhereAnswer(scene.name, frame.name, confidence if known else 0.0,
                                           known and is_pose(T_44)))
    return answers


def fit_to_camera(image_hw3: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The middle of an image, cut to the aspect ratio of (width, height) and resized to it."""
    width, height = image_size
    rows, columns = image_hw3.shape[:2]
    cut_rows = min(rows, round(columns * height / width))
    cut_columns = min(columns, round(rows * width / height))
    top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
    cut = as_float_images(
        image_hw3[top:top + cut_rows, left:left + cut_columns].unsqueeze(0))
    resized = interpolate(cut, size=(height, width), mode='bilinear', antialias=True)
    return (255.0 * resized[0].permute(1, 2, 0)).round().to(torch.uint8).contiguous()
