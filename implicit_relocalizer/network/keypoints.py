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
    normalise_and_clip,
    scale_maps,
    shrink_factor,
)
from implicit_relocalizer.network.encoders import Encoder
from implicit_relocalizer.network.filters import (
    blur,
    blur_maps,
    gaussian_radius,
    grey_images,
    reach,
)
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
        return self.describe_at(grey_bhw, pixels_bn2), pixels_bn2

    def describe_at(self, grey_bhw: Tensor, pixels_bn2: Tensor) -> Tensor:
        """(B, N, channels): what the grid's cells have, were they centred on the pixels."""
        positions_sbnp2, per_reach_sbnp = self._pooling_positions(grey_bhw, pixels_bn2)
        pooled: List[Tensor] = []
        for scale, spacing_px in enumerate(self.spacings_px):
            sigma_px = 0.6 * spacing_px / shrink_factor(spacing_px)
            margin_px = gaussian_radius(sigma_px)
            maps_bohw = blur_maps(scale_maps(grey_bhw, spacing_px, margin_px), sigma_px, margin_px)
            pooled_bonp = nn.functional.grid_sample(
                maps_bohw, positions_sbnp2[scale], mode='bilinear', padding_mode='zeros',
                align_corners=False)
            # whole, before the points become the first: half the time
            pooled.append((pooled_bonp * per_reach_sbnp[scale].unsqueeze(1)).transpose(1, 2))
        vectors_bnsc = torch.stack(pooled, dim=2).flatten(3)
        return normalise_and_clip(vectors_bnsc, 3).flatten(2)

    def _pooling_positions(self, grey_bhw: Tensor, pixels_bn2: Tensor) -> Tuple[Tensor, Tensor]:
        """Where each spacing pools around the pixels, row by row, and how much of it is image.

        Returns:
            positions_sbnp2 from -1 to 1, and per_reach_sbnp, one over that of the Gaussians.
        """
        spacing_s1111 = torch.tensor(self.spacings_px).to(grey_bhw).view(-1, 1, 1, 1, 1)
        step_k = (torch.arange(self.side) - 0.5 * (self.side - 1)).to(grey_bhw)
        at_sbn2k = pixels_bn2.unsqueeze(3) + spacing_s1111 * step_k
        x_sbn1k, y_sbn1k = at_sbn2k.split(1, dim=3)
        sigma_s1111 = 0.6 * spacing_s1111
        per_reach_sbnkk = (reach(y_sbn1k, grey_bhw.shape[1], sigma_s1111).transpose(3, 4)
                           * reach(x_sbn1k, grey_bhw.shape[2], sigma_s1111)).reciprocal_()
        x_sbnkk, y_sbnkk = torch.broadcast_tensors(
            (2.0 * x_sbn1k + 1.0) / grey_bhw.shape[2] - 1.0,
            ((2.0 * y_sbn1k + 1.0) / grey_bhw.shape[1] - 1.0).transpose(3, 4))
        return torch.stack([x_sbnkk, y_sbnkk], dim=-1).flatten(3, 4), per_reach_sbnkk.flatten(3)


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
        x_bn1, y_bn1 = (2.0 * pixels_bn2 + 1.0).split(1, dim=2)
        positions = torch.cat([x_bn1 / images_b3hw.shape[3] - 1.0,
                               y_bn1 / images_b3hw.shape[2] - 1.0], dim=2).unsqueeze(1)
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
    # In place, on what is made here: each pass over the image counts.
    xx = (p[:, 1:-1, 2:] + p[:, 1:-1, :-2]).sub_(smooth, alpha=2.0)
    yy = (p[:, 2:, 1:-1] + p[:, :-2, 1:-1]).sub_(smooth, alpha=2.0)
    xy = (p[:, 2:, 2:] + p[:, :-2, :-2]).sub_(p[:, 2:, :-2]).sub_(p[:, :-2, 2:])
    return xx.mul_(yy).addcmul_(xy, xy, value=-0.0625).abs_().mul_(sigma_px ** 4)


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
    step = torch.tensor([-1, 0, 1]).to(index)
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
