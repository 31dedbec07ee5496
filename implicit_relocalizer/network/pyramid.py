# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What all learned encoders share: levels of strides 8, 16 and 32 merged at stride 8."""

from typing import List

import torch
from torch import Tensor, nn

from implicit_relocalizer.network.encoders import Encoder

MERGED_CHANNELS = 256


class PyramidEncoder(Encoder):
    """A network cut at three strides; 1x1 convolutions bring the levels together.

    Args:
        stages: Run one after the other; they end at strides 8, 16 and 32.
        laterals: Bring the output of each stage to (B, 256, h, w).
    """

    mean_c: Tensor
    std_c: Tensor

    def __init__(self, stages: List[nn.Module], laterals: List[nn.Module]) -> None:
        super().__init__()
        self.stride = 8
        self.channels = MERGED_CHANNELS
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(laterals)
        # what torchvision's ImageNet weights were trained with
        self.register_buffer('mean_c', torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer('std_c', torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, 256, H / 8, W / 8)."""
        x = (images_b3hw - self.mean_c) / self.std_c
        grid = [images_b3hw.shape[2] // 8, images_b3hw.shape[3] // 8]
        merged = torch.zeros([1], device=x.device)
        for stage, lateral in zip(self.stages, self.laterals):  # noqa: B905 (TorchScript)
            x = stage(x)
            level = nn.functional.interpolate(
                lateral(x).float(), size=grid, mode='bilinear', align_corners=False)
            merged = merged + level
        return merged
