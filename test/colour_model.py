# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A model that answers with colours."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import torch

from implicit_relocalizer.network.model_file import ModelMetadata, save_model

WIDTH, HEIGHT = 64, 48


class ColourModel(torch.nn.Module):
    """Answers with the mean colour as position and the intrinsics as variances.

    So a test knows which image was answered, and with which K. `work` matrix products make it
    slow. A red of 255 makes it fail in its numbers, a blue of 255 unsure. Like models that
    regress the pose, it may have no points.
    """

    def __init__(self, work: int, has_points: bool) -> None:
        super().__init__()
        self.work = work
        self.has_points = has_points

    def forward(self, image_hw3: torch.Tensor, K_33: torch.Tensor) -> Dict[str, torch.Tensor]:
        colour = image_hw3.float().mean(dim=(0, 1))
        busy = torch.eye(400) + 0.0 * colour[0]  # of the image, or freezing would do it before
        for _ in range(self.work):
            busy = busy @ busy
        angle = colour[1] / 100.0
        R = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(),
                         0 * angle, 0 * angle, 0 * angle, 1 + 0 * angle]).reshape(3, 3)
        if bool(colour[0] > 254.0):
            R = R / 0.0
        variances = torch.stack([K_33[0, 0], K_33[1, 1], K_33[0, 2], K_33[1, 2], busy[0, 0],
                                 busy[0, 0]])
        confidence = torch.tensor(0.9)
        if bool(colour[2] > 254.0):
            confidence = torch.tensor(0.1)
        outputs = {
            'R_world_camera': R, 't_world_camera': colour, 'confidence': confidence,
            'covariance': torch.diag(variances), 'inlier_fraction': torch.tensor(0.5)}
        if self.has_points:
            outputs['points_world'] = torch.stack([colour, colour + 1.0])
            outputs['weights'] = torch.tensor([0.25, 0.75])
        return outputs


def write_model(path: Path, work: int = 0, has_points: bool = True) -> Path:
    metadata = ModelMetadata(
        scene='colours', image_size=(WIDTH, HEIGHT), K_33=((60.0, 0.0, 31.5), (0.0, 61.0, 23.5),
                                                          (0.0, 0.0, 1.0)),
        position_min_m=(0.0, 0.0, 0.0), position_max_m=(255.0, 255.0, 255.0), encoder='none',
        accuracy={'held_out_median_m': 0.125})
    save_model(torch.jit.script(ColourModel(work, has_points)), path, metadata)
    return path
