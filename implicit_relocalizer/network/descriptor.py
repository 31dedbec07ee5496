# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Dense multi-scale gradient descriptors: SIFT's idea on a grid, without any weights.

At every cell and for each spacing s: gradients of the image blurred by max(0.5, 0.35 s) px are
spread over 8 orientations, pooled by Gaussians of 0.6 s px at 4 x 4 positions s px apart, and
normalised (L2, clip at 0.2, L2) as in Lowe, IJCV 2004; Gaussian pooling instead of histograms
follows DAISY, Tola et al., PAMI 2010.
"""

from typing import List

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import matmul
from implicit_relocalizer.network.encoders import Encoder, register_encoder
from implicit_relocalizer.network.filters import blur, gradient_maps, grey_images, shrink_images

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
        maps_bhwo = scale_maps(grey_bhw, spacing_px, 0)
        pool_x = pooling_matrix(width, self.stride, spacing_px, shrink, grey_bhw)
        pool_y = pooling_matrix(height, self.stride, spacing_px, shrink, grey_bhw)
        pooled_by = matmul(pool_y, maps_bhwo.flatten(2)).unflatten(2, maps_bhwo.shape[2:])
        pooled = matmul(pool_x, pooled_by).permute(0, 3, 1, 2)
        rows, columns = height // self.stride, width // self.stride
        maps, side = maps_bhwo.shape[3], pool_x.shape[0] // columns
        cells = pooled.reshape(batch, maps, rows, side, columns, side)
        vectors = cells.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, rows, columns)
        return normalise_and_clip(vectors)


def shrink_factor(spacing_px: float) -> int:
    """How far the image may shrink before a descriptor of this spacing loses anything."""
    if spacing_px >= 24.0:
        return 4
    return 2 if spacing_px >= 8.0 else 1


def scale_maps(grey_bhw: Tensor, spacing_px: float, margin_px: int,
               orientations: int = ORIENTATIONS) -> Tensor:
    """The gradient maps that a spacing pools: `filters.gradient_maps` of the shrunken, blurred
    image, of which the margin has pixels too."""
    shrink = shrink_factor(spacing_px)
    small_bhw = blur(shrink_images(grey_bhw, shrink), max(0.5, 0.35 * spacing_px / shrink))
    return gradient_maps(small_bhw, orientations, margin_px)


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


def normalise_and_clip(vectors: Tensor, dim: int = 1, limit: float = CLIP) -> Tensor:
    """Unit length, clip at 0.2, unit length again; a patch without gradients stays near zero."""
    # The floor keeps sensor noise on blank walls from being blown up to a unit vector.
    floor = 0.02
    norm = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    clipped = (vectors * torch.rsqrt(norm * norm + floor * floor)).clamp(max=limit)
    norm = torch.linalg.vector_norm(clipped, dim=dim, keepdim=True)
    return clipped * torch.rsqrt(norm * norm + 1e-6)


@register_encoder('gradient_descriptor')
def build_gradient_descriptor(pretrained: bool) -> Encoder:
    """The descriptor at spacings of 4, 12 and 32 px: 384 numbers a cell."""
    if pretrained:
        raise ValueError('gradient_descriptor has no weights; set pretrained: false')
    return GradientDescriptor([4.0, 12.0, 32.0])
