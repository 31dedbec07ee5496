# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of a localizer, eager or scripted, on posed frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.evaluation.metrics import pose_errors, summarize

Module = Callable[[Tensor, Tensor], dict[str, Tensor]]


@torch.no_grad()
def measure_accuracy(module: Module, frames: Sequence[Frame],
                     device: torch.device | str = 'cpu') -> dict[str, Any]:
    """Localize every frame and summarise the errors (keys of `ErrorSummary.to_dict`).

    Args:
        module: (H, W, 3) uint8 image and (3, 3) intrinsics -> named outputs.
        frames: At least one.
        device: Where the module lives.
    """
    estimates = []
    for frame in frames:
        image = read_frame_image(frame).to(device)
        K_33 = torch.from_numpy(frame.K_33).float().to(device)
        outputs = module(image, K_33)
        T_44 = np.eye(4)
        T_44[:3, :3] = outputs['R_world_camera'].cpu().numpy()
        T_44[:3, 3] = outputs['t_world_camera'].cpu().numpy()
        estimates.append(T_44)
    truth = np.stack([frame.T_world_camera for frame in frames])
    return summarize(pose_errors(truth, np.stack(estimates)), len(frames)).to_dict()
