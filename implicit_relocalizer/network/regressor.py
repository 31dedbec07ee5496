# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pose regression, the baseline: the same encoders, no geometry.

PoseNet (Kendall et al., ICCV 2015) with the learned loss balance of Kendall and Cipolla (CVPR
2017): pooled features, one hidden layer with dropout, position and orientation as plain numbers.
"""

import math
from typing import Dict, List, Tuple

import torch
from torch import Tensor, nn

from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.image_input import resize_image, unit_range

# Adam moves a parameter by about the learning rate a step: so scaled, the balance gets from
# its start to the logarithm of centimetres in some hundred steps instead of thousands.
BALANCE_GAIN = 10.0
BALANCE_START = (0.0, -3.0)
UNKNOWN_CONFIDENCE = 0.5


class RegressionHead(nn.Module):
    """Feature grid -> position (in units of the place) and six numbers of an orientation.

    Args:
        channels: Numbers per cell of the encoder.
        stem_blocks: 3 x 3 convolutions of stride 2 before pooling; a CNN needs none, the fixed
            descriptor describes single patches and needs some to relate them.
        cells: Pooled to cells x cells averages; 1 is PoseNet's global pooling.
        width: Hidden width.
        dropout: Share of the hidden numbers that a training step leaves out.
    """

    def __init__(self, channels: int, stem_blocks: int, cells: int, width: int,
                 dropout: float) -> None:
        super().__init__()
        stem_channels = min(channels, 256)
        layers: List[nn.Module] = []
        for block in range(stem_blocks):
            layers += [nn.Conv2d(channels if block == 0 else stem_channels, stem_channels, 3,
                                 stride=2, padding=1, bias=False),
                       nn.BatchNorm2d(stem_channels), nn.ReLU()]
        self.stem = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(cells)
        pooled = (stem_channels if stem_blocks else channels) * cells * cells
        self.hidden = nn.Sequential(nn.Linear(pooled, width), nn.ReLU(), nn.Dropout(dropout))
        self.position = nn.Linear(width, 3)
        self.orientation = nn.Linear(width, 6)

    def forward(self, features_bchw: Tensor) -> Tuple[Tensor, Tensor]:
        """position_b3 and orientation_b6, float32."""
        hidden = self.hidden(self.pool(self.stem(features_bchw)).flatten(1))
        return self.position(hidden).float(), self.orientation(hidden).float()


class PoseRegressor(nn.Module):
    """Image -> pose, by regression; called like `network.localizer.Localizer`.

    The orientation is regressed as the first two columns of the matrix, made orthonormal by Gram
    and Schmidt (Zhou et al., CVPR 2019): the logarithm of a quaternion, which MapNet regresses,
    jumps where a camera has turned by half a turn, and a robot turns all the way round.

    Args:
        encoder: Image -> feature grid.
        head: Feature grid -> pose numbers.
        input_size: Width and height in pixels that the network sees.
        origin_world_3: float64, metres; positions are learned relative to it.
        position_scale_m: Metres per unit of the head's position.
    """

    origin_world_3: Tensor
    deviations_2: Tensor

    def __init__(self, encoder: Encoder, head: RegressionHead, input_size: Tuple[int, int],
                 origin_world_3: Tensor, position_scale_m: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.input_width, self.input_height = int(input_size[0]), int(input_size[1])
        self.position_scale_m = float(position_scale_m)
        self.unknown_confidence = UNKNOWN_CONFIDENCE
        self.balance_2 = nn.Parameter(torch.tensor(BALANCE_START) / BALANCE_GAIN)
        self.register_buffer('origin_world_3', origin_world_3.double().clone())
        self.register_buffer('deviations_2', torch.tensor([1.0, math.radians(10.0)]))

    def forward(self, image_hw3: Tensor, K_33: Tensor) -> Dict[str, Tensor]:
        """Localize one image.

        Args:
            image_hw3: uint8 RGB, any resolution of the training images' aspect ratio.
            K_33: Its intrinsics; a regression has no use for them and answers as if they were
                those of the training images.

        Returns:
            The named outputs of a `Localizer`. covariance is the same for every image, from the
            errors on validation frames; confidence is always 0.5, as nothing in a regression
            tells a known view from an unknown one; the clouds are empty, inlier_fraction is 0.
        """
        R_b33, t_local_b3 = self.predict(self.prepare(image_hw3))
        deviations_6 = self.deviations_2.double().repeat_interleave(3)
        empty = K_33.new_zeros(0, 3).float()
        return {
            'R_world_camera': R_b33[0].double(),
            't_world_camera': t_local_b3[0].double() + self.origin_world_3,
            'covariance': torch.diag(deviations_6 * deviations_6),
            'confidence': torch.full_like(empty.sum(), self.unknown_confidence),
            'points_world': empty.double(),
            'points_camera': empty,
            'weights': empty[:, 0],
            'pixels': empty[:, :2],
            'reprojection_error_px': empty[:, 0],
            'inlier_fraction': torch.zeros_like(empty.sum()),
        }

    def prepare(self, image_hw3: Tensor) -> Tensor:
        """Resize to the network's input: (1, 3, H, W) as `resize_image` has it."""
        return resize_image(image_hw3, self.input_width, self.input_height)

    def predict(self, images_b3hw: Tensor) -> Tuple[Tensor, Tensor]:
        """R_world_camera_b33 and t_local_camera_b3 (metres, relative to the origin)."""
        position_b3, orientation_b6 = self.head(self.encoder(unit_range(images_b3hw)))
        return orthonormal_frame(orientation_b6), position_b3 * self.position_scale_m

    def set_deviations(self, position_m: float, rotation_rad: float) -> None:
        """Standard deviations per axis that every answer's covariance states."""
        self.deviations_2.copy_(torch.tensor([position_m, rotation_rad]))


def orthonormal_frame(columns_b6: Tensor) -> Tensor:
    """Rotations (B, 3, 3) whose first two columns are nearest in Gram and Schmidt's sense."""
    first = nn.functional.normalize(columns_b6[:, :3], dim=1)
    second = columns_b6[:, 3:] - (columns_b6[:, 3:] * first).sum(1, keepdim=True) * first
    second = nn.functional.normalize(second, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=1)], dim=2)
