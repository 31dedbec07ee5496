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

from implicit_relocalizer.geometry.precision import depthwise, matmul
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
        maps_bhwo = gradient_maps(grey_bhw, spacing_px)
        pool_x = pooling_matrix(width, self.stride, spacing_px, shrink, grey_bhw)
        pool_y = pooling_matrix(height, self.stride, spacing_px, shrink, grey_bhw)
        pooled_by = matmul(pool_y, maps_bhwo.flatten(2)).unflatten(2, maps_bhwo.shape[2:])
        pooled = matmul(pool_x, pooled_by).permute(0, 3, 1, 2)
        rows, columns = height // self.stride, width // self.stride
        maps, side = maps_bhwo.shape[3], pool_x.shape[0] // columns
        cells = pooled.reshape(batch, maps, rows, side, columns, side)
        vectors = cells.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, rows, columns)
        return normalise_and_clip(vectors)


def grey_images(images_b3hw: Tensor) -> Tensor:
    """Luma of RGB images in [0, 1], or of bytes: (B, H, W) float32 in [0, 1]."""
    images = images_b3hw.float()
    scale = 1.0 / 255.0 if images_b3hw.dtype == torch.uint8 else 1.0
    luma_3 = torch.tensor([0.299 * scale, 0.587 * scale, 0.114 * scale], device=images.device)
    return matmul(images.permute(0, 2, 3, 1), luma_3)


def shrink_factor(spacing_px: float) -> int:
    """How far the image may shrink before a descriptor of this spacing loses anything."""
    if spacing_px >= 24.0:
        return 4
    return 2 if spacing_px >= 8.0 else 1


def gradient_maps(grey_bhw: Tensor, spacing_px: float,
                  orientations: int = ORIENTATIONS) -> Tensor:
    """Gradients of the shrunken, blurred images spread over directions: (B, H, W, O).

    A direction's share of the magnitude falls from the whole, where the gradient points along it,
    to zero at the neighbouring direction: a bump of dot products, max(0, along - edge), does
    without the angle, and is one product of (gx, gy, magnitude) for all directions.
    """
    shrink = shrink_factor(spacing_px)
    small = blur(shrink_images(grey_bhw, shrink), max(0.5, 0.35 * spacing_px / shrink))
    padded = nn.functional.pad(small.unsqueeze(1), (1, 1, 1, 1), mode='replicate')[:, 0]
    gx = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    gy = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    gradients_bhw3 = torch.empty([gx.shape[0], gx.shape[1], gx.shape[2], 3], dtype=gx.dtype,
                                 device=gx.device)
    gradients_bhw3[..., 0] = gx  # stacking three took four times as long
    gradients_bhw3[..., 1] = gy
    gradients_bhw3[..., 2] = torch.addcmul(gx * gx, gy, gy).add_(4e-12).sqrt_()
    edge = math.cos(2.0 * math.pi / orientations)
    scale = 0.5 / (1.0 - edge)
    rows: List[List[float]] = []
    for k in range(orientations):
        angle = 2.0 * math.pi * k / orientations
        rows.append([scale * math.cos(angle), scale * math.sin(angle), -scale * edge])
    directions_o3 = torch.tensor(rows, dtype=small.dtype, device=small.device)
    return matmul(gradients_bhw3, directions_o3.t()).relu_()


def shrink_images(images_bhw: Tensor, factor: int) -> Tensor:
    """Means of factor x factor pixels, for factors of two; left-over rows and columns are cut."""
    while factor > 1:  # by slices: average pooling of one channel took four times as long
        height, width = images_bhw.shape[1] // 2 * 2, images_bhw.shape[2] // 2 * 2
        above, below = images_bhw[:, 0:height:2], images_bhw[:, 1:height:2]
        images_bhw = 0.25 * (above[:, :, 0:width:2] + above[:, :, 1:width:2]
                             + below[:, :, 0:width:2] + below[:, :, 1:width:2])
        factor = factor // 2
    return images_bhw


def blur(images_bhw: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of single images, mirrored at the border (where smaller than the kernel's
    half, continued)."""
    return _blur_down(_blur_down(images_bhw, sigma_px).transpose(1, 2), sigma_px).transpose(1, 2)


def _blur_down(images_bhw: Tensor, sigma_px: float) -> Tensor:
    """Along the columns, each of which is a channel: they lie side by side in memory."""
    kernel_k = gaussian_kernel(sigma_px, images_bhw)
    radius = kernel_k.shape[0] // 2
    beyond = 'reflect' if radius < images_bhw.shape[1] else 'replicate'
    padded_b1hw = nn.functional.pad(images_bhw.unsqueeze(1), [0, 0, radius, radius], mode=beyond)
    columns_bwh1 = padded_b1hw.permute(0, 3, 2, 1)
    kernel_w1k1 = kernel_k.view(1, 1, -1, 1).expand(columns_bwh1.shape[1], -1, -1, -1)
    return depthwise(columns_bwh1, kernel_w1k1, [0, 0]).squeeze(-1).transpose(1, 2)


def blur_maps(maps_bhwo: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of maps with nothing around them: (B, H, W, O) -> (B, O, H, W).

    Channels stay the last in memory. `reach` tells how much of the kernel lay on the maps.
    """
    count = maps_bhwo.shape[3]
    kernel_k = gaussian_kernel(sigma_px, maps_bhwo)
    radius = kernel_k.shape[0] // 2
    across_o11k = kernel_k.view(1, 1, 1, -1).expand(count, -1, -1, -1)
    down_o1k1 = kernel_k.view(1, 1, -1, 1).expand(count, -1, -1, -1)
    maps_bohw = depthwise(maps_bhwo.permute(0, 3, 1, 2), across_o11k, [0, radius])
    return depthwise(maps_bohw, down_o1k1, [radius, 0])


def reach(position: Tensor, size: int, sigma_px: float) -> Tensor:
    """How much of a Gaussian around positions lies on the pixels 0 to size - 1, at least 0.01."""
    scale = 1.0 / (2.0 ** 0.5 * sigma_px)
    inside = (torch.erf((size - 0.5 - position) * scale) + torch.erf((position + 0.5) * scale))
    return (0.5 * inside).clamp(min=0.01)


def gaussian_kernel(sigma_px: float, like: Tensor) -> Tensor:
    """A Gaussian of whole pixels, its sum 1, cut off at 4 sigma."""
    radius = int(4.0 * sigma_px)
    offset = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    kernel_k = torch.exp(offset * offset * (-0.5 / (sigma_px * sigma_px)))
    return kernel_k / kernel_k.sum()


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
    per_norm = torch.rsqrt((vectors * vectors).sum(dim=dim, keepdim=True) + floor * floor)
    clipped = (vectors * per_norm).clamp(max=limit)
    return clipped * torch.rsqrt((clipped * clipped).sum(dim=dim, keepdim=True) + 1e-6)


@register_encoder('gradient_descriptor')
def build_gradient_descriptor(pretrained: bool) -> Encoder:
    """The descriptor at spacings of 4, 12 and 32 px: 384 numbers a cell."""
    if pretrained:
        raise ValueError('gradient_descriptor has no weights; set pretrained: false')
    return GradientDescriptor([4.0, 12.0, 32.0])
