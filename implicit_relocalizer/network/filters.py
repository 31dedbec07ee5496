# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Luma, Gaussian blur and gradients of images, as matrix products.

A filter along an axis is the product with a matrix that has entries near its diagonal only. Cut
into blocks of rows, each of which meets the few columns that it has entries for, that is one
batched product: on a CPU two to seven times as fast as a convolution of one channel, and the same
numbers.
"""

import math

import torch
from torch import Tensor

from implicit_relocalizer.geometry.precision import depthwise, matmul

# Numbers of the result that one block of a filter's matrix gives.
BLOCK = 12
# Pixels of which one product makes the luma.
LUMA_BLOCK = 8


def grey_images(images_b3hw: Tensor, block: int = LUMA_BLOCK) -> Tensor:
    """Luma of RGB images in [0, 1], or of bytes: (B, H, W) float32 in [0, 1]."""
    images_bhw3 = images_b3hw.float().permute(0, 2, 3, 1)
    luma_31 = torch.tensor([[0.299], [0.587], [0.114]])  # a frozen module has it as a constant
    if images_b3hw.dtype == torch.uint8:
        luma_31 = luma_31 / 255.0
    batch, height, width = images_bhw3.shape[:3]
    if height * width % block == 0:  # a quarter of the time of products of three numbers
        luma_31 = (torch.eye(block).view(block, 1, block) * luma_31).view(3 * block, block)
    grey = matmul(images_bhw3.reshape(-1, luma_31.shape[0]), luma_31.to(images_bhw3))
    return grey.view(batch, height, width)


def shrink_images(images_bhw: Tensor, factor: int) -> Tensor:
    """Means of factor x factor pixels, for factors of two; left-over rows and columns are cut."""
    while factor > 1:  # by slices: average pooling of one channel took four times as long
        height, width = images_bhw.shape[1] // 2 * 2, images_bhw.shape[2] // 2 * 2
        above, below = images_bhw[:, 0:height:2], images_bhw[:, 1:height:2]
        images_bhw = 0.25 * (above[:, :, 0:width:2] + above[:, :, 1:width:2]
                             + below[:, :, 0:width:2] + below[:, :, 1:width:2])
        factor = factor // 2
    return images_bhw


def gaussian_radius(sigma_px: float) -> int:
    """Whole pixels on either side of the middle of `gaussian_kernel`."""
    return int(4.0 * sigma_px)


def gaussian_kernel(sigma_px: float) -> Tensor:
    """A Gaussian of whole pixels, its sum 1, cut off at 4 sigma; on the CPU, where a frozen
    module has it as a constant."""
    radius = gaussian_radius(sigma_px)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel_k = torch.exp(offset * offset * (-0.5 / (sigma_px * sigma_px)))
    return kernel_k / kernel_k.sum()


def band_matrix(kernel_k: Tensor, block: int) -> Tensor:
    """(block, block + k - 1): the kernel in every row, one column further in each."""
    width = block + kernel_k.shape[0] - 1
    row = torch.nn.functional.pad(kernel_k, [0, block])
    return row.repeat(block)[:block * width].view(block, width)


def blur(images_bhw: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of single images, mirrored at the border (where smaller than the kernel's
    half, continued)."""
    batch, height, width = images_bhw.shape
    by_column = _blur_and_transpose(images_bhw.reshape(-1, width), sigma_px)
    by_row = _blur_and_transpose(by_column.view(-1, height), sigma_px)
    return by_row.view(height, width, batch).permute(2, 0, 1).contiguous()


def _blur_and_transpose(rows_rw: Tensor, sigma_px: float, block: int = BLOCK) -> Tensor:
    """Rows blurred, as columns: (W, R)."""
    radius, length = gaussian_radius(sigma_px), rows_rw.shape[1]
    beyond = 'reflect' if radius < length else 'replicate'
    # as an image: rows by themselves take torch ten times as long
    padded_rp = torch.nn.functional.pad(rows_rw[None, None], [radius, radius, 0, 0],
                                        mode=beyond)[0, 0]
    blocks = -(-length // block)
    if blocks * block > length:
        padded_rp = torch.nn.functional.pad(padded_rp, [0, blocks * block - length])
    windows_npr = padded_rp.unfold(1, block + 2 * radius, block).permute(1, 2, 0)
    band = band_matrix(gaussian_kernel(sigma_px), block).to(rows_rw)
    blurred = matmul(band.unsqueeze(0).expand(blocks, -1, -1), windows_npr)
    return blurred.flatten(0, 1).narrow(0, 0, length)


def blur_maps(maps_bhwo: Tensor, sigma_px: float, margin_px: int) -> Tensor:
    """Gaussian blur of maps with nothing around them: (B, H + 2 margin, W, O) -> (B, O, H, W).

    Channels stay the last in memory. `reach` tells how much of the kernel lay on the maps.

    Args:
        maps_bhwo: Of any number of maps.
        sigma_px: Of the Gaussian.
        margin_px: Rows of zeros above and below the maps, the kernel's radius at least: to have
            them from the start saves copying all that is between.
    """
    count, width = maps_bhwo.shape[3], maps_bhwo.shape[2]
    kernel_k = gaussian_kernel(sigma_px)
    radius = kernel_k.shape[0] // 2
    inner = maps_bhwo.narrow(1, margin_px - radius, maps_bhwo.shape[1] - 2 * (margin_px - radius))
    down_bhwo = _filter_down(inner.flatten(2), kernel_k).unflatten(2, [width, count])
    across_o11k = kernel_k.to(maps_bhwo).view(1, 1, 1, -1).expand(count, -1, -1, -1)
    return depthwise(down_bhwo.permute(0, 3, 1, 2), across_o11k, [0, radius])


def _filter_down(padded_bpm: Tensor, kernel_k: Tensor, block: int = BLOCK) -> Tensor:
    """Along the columns: (B, H + k - 1, M) -> (B, H, M)."""
    height, window = padded_bpm.shape[1] - kernel_k.shape[0] + 1, block + kernel_k.shape[0] - 1
    blocks = -(-height // block)
    if blocks * block > height:
        padded_bpm = torch.nn.functional.pad(padded_bpm, [0, 0, 0, blocks * block - height])
    band = band_matrix(kernel_k, block).to(padded_bpm).unsqueeze(0).expand(blocks, -1, -1)
    # Image by image: windows of several images at once would have to be copied.
    filtered = [matmul(band, padded_bpm[image].unfold(0, window, block).transpose(1, 2))
                for image in range(padded_bpm.shape[0])]
    together = filtered[0].unsqueeze(0) if len(filtered) == 1 else torch.stack(filtered)
    return together.flatten(1, 2).narrow(1, 0, height)


def gradient_maps(images_bhw: Tensor, orientations: int, margin_px: int) -> Tensor:
    """Gradients spread over directions, between rows of zeros: (B, H + 2 margin, W, O).

    A direction's share of the magnitude falls from the whole, where the gradient points along it,
    to zero at the neighbouring direction: a bump of dot products, max(0, along - edge), does
    without the angle, and is one product of (gx, gy, magnitude) for all directions.
    """
    batch, height, width = images_bhw.shape
    padded = torch.nn.functional.pad(images_bhw.unsqueeze(1), (1, 1, 1, 1), mode='replicate')[:, 0]
    gx = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    gy = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    planes_3bhw = torch.zeros([3, batch, height + 2 * margin_px, width], dtype=gx.dtype,
                              device=gx.device)
    inner_3bhw = planes_3bhw.narrow(2, margin_px, height)
    inner_3bhw[0] = gx
    inner_3bhw[1] = gy
    inner_3bhw[2] = torch.addcmul(gx * gx, gy, gy).add_(4e-12).sqrt_()
    directions_3o = _directions(orientations).to(images_bhw)
    maps_mo = matmul(planes_3bhw.flatten(1).t(), directions_3o).relu_()
    return maps_mo.view(batch, height + 2 * margin_px, width, orientations)


def _directions(count: int) -> Tensor:
    """(3, count) from (gx, gy, magnitude) to what belongs to each direction."""
    edge = math.cos(2.0 * math.pi / count)
    angle_o = torch.arange(count) * (2.0 * math.pi / count)
    rows_3o = torch.stack([torch.cos(angle_o), torch.sin(angle_o), torch.full([count], -edge)])
    return rows_3o * (0.5 / (1.0 - edge))


def reach(position: Tensor, size: int, sigma_px: Tensor) -> Tensor:
    """How much of a Gaussian around positions lies on the pixels 0 to size - 1, at least 0.01."""
    per_sigma = 0.5 ** 0.5 / sigma_px
    inside = (torch.erf((size - 0.5 - position) * per_sigma)
              + torch.erf((position + 0.5) * per_sigma))
    return (0.5 * inside).clamp(min=0.01)
