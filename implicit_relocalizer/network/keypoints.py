# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints: the same descriptors where the image has a blob or a corner instead of on a grid.

A grid cell shows a surface at another offset in every view, and a head has to learn all of them.
A keypoint lies on the same spot of the surface from view to view, so that its descriptor hardly
changes. The response is the determinant of the Hessian (Beaudet, ICPR 1978) at one scale.
"""

from typing import List, Tuple

import torch
from torch import Tensor, nn

from implicit_relocalizer.network.descriptor import (
    CELLS,
    GradientDescriptor,
    blur,
    blur_maps,
    gradient_maps,
    grey_images,
    normalise_and_clip,
    reach,
    shrink_factor,
)
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.image_input import unit_range

POINTS_PER_IMAGE = 500


class KeypointDescriptor(GradientDescriptor):
    """The gradient descriptor at keypoints, computed there and not between cells.

    Args:
        spacings_px: Of the descriptor's pooling positions.
        points_per_image: Keypoints taken of an image.
    """

    def __init__(self, spacings_px: List[float], points_per_image: int = POINTS_PER_IMAGE,
                 ) -> None:
        super().__init__(spacings_px)
        self.points_per_image = points_per_image
        self.side = CELLS

    def sample(self, images_b3hw: Tensor) -> Tuple[Tensor, Tensor]:
        """Descriptors and pixels of the keypoints, strongest first."""
        grey_bhw = grey_images(images_b3hw)
        pixels_bn2 = strongest_keypoints(grey_bhw, self.points_per_image, self.stride)
        pooled = [self.pool_at(grey_bhw, pixels_bn2, s) for s in self.spacings_px]
        vectors_bnsc = torch.stack(pooled, dim=1).permute(0, 3, 1, 2, 4).flatten(3)
        return normalise_and_clip(vectors_bnsc, 3).flatten(2), pixels_bn2

    def pool_at(self, grey_bhw: Tensor, pixels_bn2: Tensor, spacing_px: float) -> Tensor:
        """What the grid pools with one spacing, were a cell centred on the pixels.

        Returns:
            pooled_bonp: of each orientation, the pooling positions row by row.
        """
        batch, height, width = grey_bhw.shape
        sigma_px = 0.6 * spacing_px
        pooled = blur_maps(gradient_maps(grey_bhw, spacing_px),
                           sigma_px / shrink_factor(spacing_px))
        shift = (torch.arange(self.side, device=grey_bhw.device, dtype=grey_bhw.dtype)
                 - 0.5 * (self.side - 1)) * spacing_px
        x = pixels_bn2[:, :, 0].reshape(batch, -1, 1, 1) + shift.reshape(1, 1, 1, -1)
        y = pixels_bn2[:, :, 1].reshape(batch, -1, 1, 1) + shift.reshape(1, 1, -1, 1)
        per_reach = (reach(x, width, sigma_px) * reach(y, height, sigma_px)).reciprocal()
        x, y = torch.broadcast_tensors((2.0 * x + 1.0) / width - 1.0,
                                       (2.0 * y + 1.0) / height - 1.0)
        positions = torch.stack([x, y], dim=-1).flatten(2, 3)
        pooled = nn.functional.grid_sample(pooled, positions, mode='bilinear',
                                           padding_mode='zeros', align_corners=False)
        return pooled * per_reach.flatten(2).unsqueeze(1)


class KeypointSampler(Encoder):
    """Any encoder's grid, interpolated at keypoints of its image.

    Args:
        encoder: Gives the grid.
        points_per_image: Keypoints taken of an image.
    """

    def __init__(self, encoder: Encoder, points_per_image: int = POINTS_PER_IMAGE) -> None:
        super().__init__()
        self.encoder = encoder
        self.channels, self.stride = encoder.channels, encoder.stride
        self.points_per_image = points_per_image

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """The encoder's own grid."""
        return self.encoder(images_b3hw)

    def sample(self, images_b3hw: Tensor) -> Tuple[Tensor, Tensor]:
        """Features and pixels of the keypoints, strongest first."""
        pixels_bn2 = strongest_keypoints(grey_images(images_b3hw), self.points_per_image,
                                         self.stride)
        return self.features_at(images_b3hw, pixels_bn2), pixels_bn2

    def features_at(self, images_b3hw: Tensor, pixels_bn2: Tensor) -> Tensor:
        """The grid's features interpolated at pixels: (B, N, channels)."""
        grid_bchw = self.encoder(unit_range(images_b3hw)).float()
        size = torch.tensor([images_b3hw.shape[3], images_b3hw.shape[2]],
                            device=pixels_bn2.device, dtype=pixels_bn2.dtype)
        positions = ((2.0 * pixels_bn2 + 1.0) / size - 1.0).unsqueeze(1)
        features = nn.functional.grid_sample(grid_bchw, positions, mode='bilinear',
                                             padding_mode='border', align_corners=False)
        return features.squeeze(2).transpose(1, 2)


def strongest_keypoints(grey_bhw: Tensor, count: int, cell_px: int,
                        sigma_px: float = 2.0) -> Tensor:
    """The strongest keypoints, at most one in a cell: pixels_bn2, strongest first.

    Where fewer cells have a maximum, others fill up: images of one size have the same number.
    """
    pixels_bn2, response_bn = strongest_in_cells(hessian_response(grey_bhw, sigma_px), cell_px)
    chosen_bn = response_bn.topk(min(count, pixels_bn2.shape[1]), dim=1)[1]
    return pixels_bn2.gather(1, chosen_bn.unsqueeze(-1).expand(-1, -1, 2))


def hessian_response(grey_bhw: Tensor, sigma_px: float) -> Tensor:
    """|determinant of the Hessian| of the blurred images, times sigma^4: (B, H, W)."""
    smooth = blur(grey_bhw, sigma_px)
    p = nn.functional.pad(smooth.unsqueeze(1), (1, 1, 1, 1), mode='replicate')[:, 0]
    xx = p[:, 1:-1, 2:] - 2.0 * smooth + p[:, 1:-1, :-2]
    yy = p[:, 2:, 1:-1] - 2.0 * smooth + p[:, :-2, 1:-1]
    xy = 0.25 * (p[:, 2:, 2:] + p[:, :-2, :-2] - p[:, 2:, :-2] - p[:, :-2, 2:])
    return (xx * yy - xy * xy).abs() * sigma_px ** 4


def strongest_in_cells(response_bhw: Tensor, cell_px: int) -> Tuple[Tensor, Tensor]:
    """The strongest pixel of every cell, to a fraction of a pixel by a parabola each way.

    Returns:
        pixels_bn2 (x, y) and response_bn, zero where the pixel is no maximum of its 3 x 3
        neighbours (the maximum then lies in the next cell) or lies at the image's border.
    """
    batch, height, width = response_bhw.shape
    columns = width // cell_px
    rows = height // cell_px
    cells = response_bhw[:, :rows * cell_px, :columns * cell_px].reshape(
        batch, rows, cell_px, columns, cell_px).transpose(2, 3).reshape(batch, rows * columns, -1)
    strongest, index = cells.max(dim=2)
    cell = torch.arange(rows * columns, device=response_bhw.device)
    y = (cell // columns) * cell_px + index // cell_px
    x = (cell % columns) * cell_px + index % cell_px
    y, x = y.clamp(1, height - 2), x.clamp(1, width - 2)
    step = torch.tensor([-1, 0, 1], device=response_bhw.device)
    around_9 = (step.unsqueeze(1) * width + step).flatten()
    index_bn9 = (y * width + x).unsqueeze(2) + around_9
    around_bn9 = response_bhw.reshape(batch, -1).gather(1, index_bn9.flatten(1)).view(
        index_bn9.shape)
    here = around_bn9[:, :, 4]
    is_maximum = here >= around_bn9.amax(2)
    dx = _vertex(around_bn9[:, :, 3], here, around_bn9[:, :, 5]) * is_maximum
    dy = _vertex(around_bn9[:, :, 1], here, around_bn9[:, :, 7]) * is_maximum
    return torch.stack([x + dx, y + dy], dim=-1), strongest * is_maximum


def _vertex(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    curvature = (2.0 * here - before - after).clamp(min=1e-20)
    return (0.5 * (after - before) / curvature).clamp(-0.5, 0.5)


def at_keypoints(encoder: Encoder) -> Encoder:
    """The encoder that gives the same features at keypoints instead of on the grid."""
    if isinstance(encoder, GradientDescriptor):
        return KeypointDescriptor(encoder.spacings_px)
    return KeypointSampler(encoder)


def look_up(encoder: Encoder, points_per_image: int) -> None:
    """Set how many keypoints of an image an encoder gives; one on a grid gives all its cells."""
    if isinstance(encoder, (KeypointDescriptor, KeypointSampler)):
        encoder.points_per_image = points_per_image
