# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Dense multi-scale gradient descriptors: SIFT's idea on a grid, without any weights.

At every cell and for each spacing s: gradients of the image blurred by max(0.5, 0.35 s) px are
spread over 8 orientations, pooled by Gaussians of 0.6 s px at 4 x 4 positions s px apart, and
normalised (L2, clip at 0.2, L2) as in Lowe, IJCV 2004; Gaussian pooling instead of histograms
follows DAISY, Tola et al., PAMI 2010.
"""

import math
from typing import List

import torch
from torch import Tensor, nn

from implicit_relocalizer.geometry.precision import matmul
from implicit_relocalizer.network.encoders import Encoder, register_encoder

ORIENTATIONS = 8
CELLS = 4
CLIP = 0.2


class GradientDescriptor(Encoder):
    """The fixed descriptor: `ORIENTATIONS * CELLS**2` numbers per spacing, at stride 8."""

    def __init__(self, spacings_px: List[float], stride: int = 8) -> None:
        super().__init__()
        self.spacings_px = [float(s) for s in spacings_px]
        self.stride = stride
        self.channels = ORIENTATIONS * CELLS * CELLS * len(spacings_px)

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, channels, H / stride, W / stride), float32."""
        grey_bhw = grey_images(images_b3hw)
        scales = [self._describe(grey_bhw, spacing) for spacing in self.spacings_px]
        return torch.cat(scales, dim=1)

    def _describe(self, grey_bhw: Tensor, spacing_px: float) -> Tensor:
        batch, height, width = grey_bhw.shape
        shrink = shrink_factor(spacing_px)
        small = nn.functional.avg_pool2d(grey_bhw.unsqueeze(1), shrink)[:, 0]
        small = blur(small, max(0.5, 0.35 * spacing_px / shrink))
        maps_bohw = orientation_maps(small)
        pool_x = pooling_matrix(width, self.stride, spacing_px, shrink, grey_bhw)
        pool_y = pooling_matrix(height, self.stride, spacing_px, shrink, grey_bhw)
        pooled = matmul(pool_y, matmul(maps_bohw, pool_x.t()))
        rows, columns = height // self.stride, width // self.stride
        maps, side = maps_bohw.shape[1], pool_x.shape[0] // columns
        cells = pooled.reshape(batch, maps, rows, side, columns, side)
        vectors = cells.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, rows, columns)
        return normalise_and_clip(vectors)


def grey_images(images_b3hw: Tensor) -> Tensor:
    """Luma of RGB images: (B, H, W) float32."""
    images = images_b3hw.float()
    return 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]


def shrink_factor(spacing_px: float) -> int:
    """How far the image may shrink before a descriptor of this spacing loses anything."""
    if spacing_px >= 24.0:
        return 4
    return 2 if spacing_px >= 8.0 else 1


def orientation_maps(grey_bhw: Tensor, orientations: int = ORIENTATIONS) -> Tensor:
    """Gradient magnitude spread over the nearest of `orientations` directions: (B, O, H, W).

    A direction's share falls from the whole magnitude, where the gradient points along it, to
    zero at the neighbouring direction; a bump of dot products does without the angle.
    """
    padded = nn.functional.pad(grey_bhw.unsqueeze(1), (1, 1, 1, 1), mode='replicate')[:, 0]
    gx = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    gy = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    edge = math.cos(2.0 * math.pi / orientations)
    threshold = edge * torch.sqrt(gx * gx + gy * gy + 1e-12)
    maps: List[Tensor] = []
    opposite: List[Tensor] = []
    for k in range(orientations // 2):
        angle = 2.0 * math.pi * k / orientations
        along = math.cos(angle) * gx + math.sin(angle) * gy
        maps.append(nn.functional.relu(along - threshold))
        opposite.append(nn.functional.relu(-along - threshold))
    return torch.stack(maps + opposite, dim=1) * (1.0 / (1.0 - edge))


def blur(images_bhw: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur as two matrix products; at the border the kernel is renormalised."""
    across = _blur_matrix(images_bhw.shape[2], sigma_px, images_bhw)
    down = _blur_matrix(images_bhw.shape[1], sigma_px, images_bhw)
    return matmul(down, matmul(images_bhw, across.t()))


def _blur_matrix(size: int, sigma_px: float, like: Tensor) -> Tensor:
    # rows are windows of one kernel: exponentials of all pairs took 30 of 150 ms an image
    offset = torch.arange(1 - size, size, device=like.device, dtype=like.dtype)
    weights = _gaussian(offset / sigma_px).unfold(0, size, 1).flip(0)
    return weights / weights.sum(dim=1, keepdim=True)


def pooling_matrix(size: int, stride: int, spacing_px: float, shrink: int, like: Tensor,
                   side: int = CELLS) -> Tensor:
    """Gaussian weights of every pixel for every pooling position: (cells * side, size / shrink).

    Sizes, stride and spacing are in pixels of the full image, of which `shrink` make one here.
    """
    cells = size // stride
    centre = torch.arange(cells, device=like.device, dtype=like.dtype) * stride
    centre = centre + 0.5 * (stride - 1)
    shift = torch.arange(side, device=like.device, dtype=like.dtype) - 0.5 * (side - 1)
    position = (centre.unsqueeze(1) + spacing_px * shift.unsqueeze(0)).reshape(-1, 1)
    pixel = torch.arange(size // shrink, device=like.device, dtype=like.dtype).unsqueeze(0)
    pixel = (pixel + 0.5) * shrink - 0.5
    sigma_px = 0.6 * spacing_px
    return _gaussian((pixel - position) / sigma_px) * (shrink / (sigma_px * 2.5066))


def _gaussian(x: Tensor) -> Tensor:
    """exp(-x^2 / 2), cut off at 4: denormal tails would slow the products down by ten times."""
    return torch.exp(-0.5 * x * x) * (x.abs() < 4.0).to(x.dtype)


def normalise_and_clip(vectors_bchw: Tensor, limit: float = CLIP) -> Tensor:
    """Unit length, clip at 0.2, unit length again; a patch without gradients stays near zero."""
    # The floor keeps sensor noise on blank walls from being blown up to a unit vector.
    floor = 0.02
    norm = torch.sqrt((vectors_bchw * vectors_bchw).sum(dim=1, keepdim=True) + floor * floor)
    clipped = (vectors_bchw / norm).clamp(max=limit)
    norm = torch.sqrt((clipped * clipped).sum(dim=1, keepdim=True) + 1e-6)
    return clipped / norm


@register_encoder('gradient_descriptor')
def build_gradient_descriptor(pretrained: bool) -> Encoder:
    """The descriptor at spacings of 4, 12 and 32 px: 384 numbers a cell."""
    if pretrained:
        raise ValueError('gradient_descriptor has no weights; set pretrained: false')
    return GradientDescriptor([4.0, 12.0, 32.0])
