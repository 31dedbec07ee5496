# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From the trained network to the model file, with what the file says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from implicit_relocalizer.network.calibration import start_anew
from implicit_relocalizer.network.localizer import Localizer
from implicit_relocalizer.network.model_file import ModelMetadata, save_model
from implicit_relocalizer.training.plan import Job

# Of the result, what a model file tells about its making.
TRAINING_KEYS = ('split', 'format', 'train_frames_sha256', 'training_seconds', 'configuration',
                 'versions', 'hardware', 'device', 'dtype')


def export_model(job: Job, network: nn.Module, result: Mapping[str, Any], path: Path) -> None:
    """Write the model file of a measured network."""
    network.eval().cpu()
    positions = np.stack([frame.T_world_camera[:3, 3] for frame in job.fit_frames])
    low, high = positions.min(axis=0).tolist(), positions.max(axis=0).tolist()
    if isinstance(network, Localizer):
        start_anew(network.calibration, low, high)
    metadata = ModelMetadata(
        scene=job.scene.name, image_size=job.scene.image_size,
        K_33=tuple((float(a), float(b), float(c)) for a, b, c in job.fit_frames[0].K_33),
        position_min_m=(low[0], low[1], low[2]), position_max_m=(high[0], high[1], high[2]),
        encoder=job.config.encoder.name,
        accuracy={name: result[name] for name in ('train', 'validation', 'test')
                  if name in result},
        training={key: result[key] for key in TRAINING_KEYS if key in result})
    save_model(torch.jit.script(network), path, metadata)
