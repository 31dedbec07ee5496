# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The point head: from the features of one cell to a world point, a depth and an error."""

import math
from typing import Tuple

import torch
from torch import Tensor, nn

LOG_ERROR_MIN = -2.0
LOG_ERROR_MAX = 6.0
LOG_DEPTH_SPAN = 2.5


class CloudHead(nn.Module):
    """Features of single points -> both clouds and how far to trust them.

    Attributes:
        nominal_depth_m: How far things usually are.
    """

    nominal_depth_m: float

    def forward(self, features_nc: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """points_world_n3 (metres), log_depth_n and log_error_n; subclasses implement it."""
        raise NotImplementedError


class ResidualBlock(nn.Module):
    """x + W2 relu(W1 relu(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Any leading shape, last dimension `width`."""
        hidden = nn.functional.relu(self.first(nn.functional.relu(x)))
        return x + self.second(hidden)


class PointHead(CloudHead):
    """Residual MLP on single cells (the same as 1x1 convolutions).

    The world point is a softmax mixture of anchors plus a homogeneous offset
    (3 numbers and an inverse scale) around them; depth is for one nominal focal length.

    Args:
        channels: Numbers per cell of the encoder.
        anchors_a3: Points spread over the place, metres, in the frame of the predicted points
            (the world's axes around the centre of the training positions).
        nominal_depth_m: Depth predicted where the network says zero.
        offset_scale_m: Metres per unit of the predicted offset.
        width: Hidden width.
        blocks: Residual blocks of two layers each.
    """

    anchors_a3: Tensor
    feature_mean_c: Tensor
    feature_scale_c: Tensor

    def __init__(self, channels: int, anchors_a3: Tensor, nominal_depth_m: float = 2.5,
                 offset_scale_m: float = 1.0, width: int = 384, blocks: int = 3) -> None:
        super().__init__()
        self.nominal_depth_m = nominal_depth_m
        self.log_nominal_depth = math.log(nominal_depth_m)
        self.offset_scale_m = offset_scale_m
        self.log_depth_span = LOG_DEPTH_SPAN
        self.log_error_min, self.log_error_max = LOG_ERROR_MIN, LOG_ERROR_MAX
        self.anchor_count = anchors_a3.shape[0]
        self.register_buffer('anchors_a3', anchors_a3.float().clone())
        self.register_buffer('feature_mean_c', torch.zeros(channels))
        self.register_buffer('feature_scale_c', torch.ones(channels))
        self.first = nn.Linear(channels, width)
        self.blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)])
        self.last = nn.Linear(width, self.anchor_count + 6)
        nn.init.normal_(self.last.weight, std=1e-2)
        nn.init.zeros_(self.last.bias)

    def set_feature_statistics(self, mean_c: Tensor, scale_c: Tensor) -> None:
        """Standardise the inputs by these (fixed) numbers."""
        self.feature_mean_c.copy_(mean_c)
        self.feature_scale_c.copy_(scale_c)

    def forward(self, features_nc: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Predict for cells of any leading shape.

        Returns:
            points_world_n3 (metres), log_depth_n (log metres at the nominal focal length) and
            log_error_n (log pixels of expected reprojection error), all float32.
        """
        x = (features_nc - self.feature_mean_c) * self.feature_scale_c
        hidden = nn.functional.relu(self.blocks(self.first(x)))
        out = self.last(hidden).float()
        a = self.anchor_count
        base = torch.matmul(torch.softmax(out[..., :a], dim=-1), self.anchors_a3)
        inverse_scale = nn.functional.softplus(out[..., a + 3] + 0.5413) + 0.05
        offset = out[..., a:a + 3] * self.offset_scale_m / inverse_scale.unsqueeze(-1)
        points_world = base + offset
        log_depth = self.log_nominal_depth + self.log_depth_span * torch.tanh(
            out[..., a + 4] / self.log_depth_span)
        log_error = (out[..., a + 5] + 1.0).clamp(self.log_error_min, self.log_error_max)
        return points_world, log_depth, log_error
