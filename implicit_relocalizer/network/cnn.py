# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""torchvision's CNNs as encoders: features of strides 8, 16 and 32 merged at stride 8."""

from typing import List

import torch
import torchvision
from torch import Tensor, nn

from implicit_relocalizer.network.encoders import Encoder, register_encoder

MERGED_CHANNELS = 256


class PyramidEncoder(Encoder):
    """A CNN cut at three strides; 1x1 convolutions bring the levels together.

    Args:
        stages: Run one after the other; they end at strides 8, 16 and 32.
        stage_channels: Channels at the end of each stage.
    """

    mean_c: Tensor
    std_c: Tensor

    def __init__(self, stages: List[nn.Module], stage_channels: List[int]) -> None:
        super().__init__()
        self.stride = 8
        self.channels = MERGED_CHANNELS
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(
            nn.Conv2d(channels, MERGED_CHANNELS, 1) for channels in stage_channels)
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


@register_encoder('resnet18')
def build_resnet18(pretrained: bool) -> Encoder:
    """torchvision's resnet18 without its classifier."""
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1 if pretrained else None
    net = torchvision.models.resnet18(weights=weights)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2)
    return PyramidEncoder([stem, net.layer3, net.layer4], [128, 256, 512])


@register_encoder('mobilenet_v3_large')
def build_mobilenet_v3_large(pretrained: bool) -> Encoder:
    """torchvision's mobilenet_v3_large without its classifier."""
    weights = torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V2 if pretrained else None
    layers = list(torchvision.models.mobilenet_v3_large(weights=weights).features)
    stages: List[nn.Module] = [nn.Sequential(*layers[:7]), nn.Sequential(*layers[7:13]),
                               nn.Sequential(*layers[13:])]
    return PyramidEncoder(stages, [40, 112, 960])
