# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""torchvision's CNNs as encoders, without their classifiers."""

from typing import List

from torch import nn
from torchvision import models

from implicit_relocalizer.network.encoders import Encoder, register_encoder
from implicit_relocalizer.network.pretrained import load_pretrained
from implicit_relocalizer.network.pyramid import MERGED_CHANNELS, PyramidEncoder


@register_encoder('resnet18')
def build_resnet18(pretrained: bool) -> Encoder:
    """torchvision's resnet18."""
    net = models.resnet18()
    load_pretrained(net, models.ResNet18_Weights.IMAGENET1K_V1 if pretrained else None)
    return _cut_resnet(net)


@register_encoder('resnet34')
def build_resnet34(pretrained: bool) -> Encoder:
    """torchvision's resnet34."""
    net = models.resnet34()
    load_pretrained(net, models.ResNet34_Weights.IMAGENET1K_V1 if pretrained else None)
    return _cut_resnet(net)


@register_encoder('mobilenet_v3_large')
def build_mobilenet_v3_large(pretrained: bool) -> Encoder:
    """torchvision's mobilenet_v3_large."""
    net = models.mobilenet_v3_large()
    load_pretrained(net, models.MobileNet_V3_Large_Weights.IMAGENET1K_V2 if pretrained else None)
    return _cut_sequence(list(net.features), [7, 13], [40, 112, 960])


@register_encoder('efficientnet_b0')
def build_efficientnet_b0(pretrained: bool) -> Encoder:
    """torchvision's efficientnet_b0, also without the widening convolution at its end."""
    net = models.efficientnet_b0()
    load_pretrained(net, models.EfficientNet_B0_Weights.IMAGENET1K_V1 if pretrained else None)
    return _cut_sequence(list(net.features)[:8], [4, 6], [40, 112, 320])


def _cut_resnet(net: models.ResNet) -> Encoder:
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2)
    return PyramidEncoder([stem, net.layer3, net.layer4], _laterals([128, 256, 512]))


def _cut_sequence(layers: List[nn.Module], ends: List[int], channels: List[int]) -> Encoder:
    """Stages [0, ends[0]), [ends[0], ends[1]) and the rest, with the channels of their outputs."""
    first, second = ends
    stages: List[nn.Module] = [nn.Sequential(*layers[:first]),
                               nn.Sequential(*layers[first:second]),
                               nn.Sequential(*layers[second:])]
    return PyramidEncoder(stages, _laterals(channels))


def _laterals(stage_channels: List[int]) -> List[nn.Module]:
    return [nn.Conv2d(channels, MERGED_CHANNELS, 1) for channels in stage_channels]
