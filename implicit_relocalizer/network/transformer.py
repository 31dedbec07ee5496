# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A vision transformer as encoder: torchvision's swin_t.

Its attention is within windows of 7 x 7 cells (Liu et al., ICCV 2021), so that cost grows with
the image's area and not with its square, any image size will do, and its stages end at the
strides of a CNN. The plain vit_b_16 has three times the weights, one size, and stride 16 alone.
"""

from typing import List

from torch import nn
from torchvision import models
from torchvision.ops import Permute

from implicit_relocalizer.network.encoders import Encoder, register_encoder
from implicit_relocalizer.network.pretrained import load_pretrained
from implicit_relocalizer.network.pyramid import MERGED_CHANNELS, PyramidEncoder


@register_encoder('swin_t')
def build_swin_t(pretrained: bool) -> Encoder:
    """torchvision's swin_t without its classifier."""
    net = models.swin_t()
    load_pretrained(net, models.Swin_T_Weights.IMAGENET1K_V1 if pretrained else None)
    layers = list(net.features)
    stages: List[nn.Module] = [nn.Sequential(*layers[:4]), nn.Sequential(*layers[4:6]),
                               nn.Sequential(*layers[6:])]
    return PyramidEncoder(stages, [_lateral(channels) for channels in (192, 384, 768)])


def _lateral(channels: int) -> nn.Module:
    """Channels come last out of a stage, and not normalised."""
    return nn.Sequential(nn.LayerNorm(channels), Permute([0, 3, 1, 2]),
                         nn.Conv2d(channels, MERGED_CHANNELS, 1))
