# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Filters as products of band matrices give the numbers of convolutions."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from implicit_relocalizer.network.filters import (
    band_matrix,
    blur,
    blur_maps,
    gaussian_kernel,
    gaussian_radius,
    gradient_maps,
    grey_images,
)
from implicit_relocalizer.network.image_input import resize_image

# Of whole blocks and not; one is smaller than the widest kernel's half.
SIZES = [(48, 60), (41, 67), (7, 30)]


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_every_row_of_a_band_matrix_has_the_kernel_one_column_further():
    kernel = torch.tensor([1.0, 2.0, 3.0])
    assert band_matrix(kernel, 4).tolist() == [
        [1, 2, 3, 0, 0, 0], [0, 1, 2, 3, 0, 0], [0, 0, 1, 2, 3, 0], [0, 0, 0, 1, 2, 3]]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('sigma_px', [0.5, 1.4, 2.1])
@pytest.mark.parametrize('batch', [1, 3])
def test_blur_is_convolution_with_a_gaussian(size, sigma_px, batch):
    images = noise(batch, *size)
    kernel, radius = gaussian_kernel(sigma_px), gaussian_radius(sigma_px)
    assert kernel.sum() == pytest.approx(1.0) and len(kernel) == 2 * radius + 1
    expected = images.unsqueeze(1)
    for weights, pad in ((kernel.view(1, 1, -1, 1), [0, 0, radius, radius]),
                         (kernel.view(1, 1, 1, -1), [radius, radius, 0, 0])):
        mode = 'reflect' if radius < size[0 if pad[0] == 0 else 1] else 'replicate'
        expected = functional.conv2d(functional.pad(expected, pad, mode=mode), weights)
    torch.testing.assert_close(blur(images, sigma_px), expected[:, 0], rtol=0.0, atol=1e-6)
    torch.testing.assert_close(torch.jit.script(blur)(images, sigma_px), expected[:, 0],
                               rtol=0.0, atol=1e-6)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('batch', [1, 2])
def test_blurred_maps_have_nothing_around_them(size, batch):
    sigma_px, count = 2.4, 8
    radius = gaussian_radius(sigma_px)
    maps = noise(batch, *size, count)
    padded = functional.pad(maps, [0, 0, 0, 0, radius + 2, radius + 2])
    kernel = gaussian_kernel(sigma_px)
    square = (kernel.unsqueeze(1) * kernel).expand(count, 1, -1, -1)
    expected = functional.conv2d(maps.permute(0, 3, 1, 2), square, padding=radius, groups=count)
    blurred = blur_maps(padded, sigma_px, radius + 2)
    torch.testing.assert_close(blurred, expected, rtol=0.0, atol=1e-5)
    assert blurred.is_contiguous(memory_format=torch.channels_last), 'as sampling needs it'


def test_a_ramp_pulls_in_its_own_direction_and_the_margin_is_empty():
    ramp = torch.arange(20.0).expand(1, 16, 20)
    maps = gradient_maps(ramp, 8, 3)
    assert maps.shape == (1, 22, 20, 8)
    assert (maps[:, :3] == 0).all() and (maps[:, -3:] == 0).all()
    inner = maps[0, 3:-3, 1:-1]
    torch.testing.assert_close(inner[..., 0], torch.ones_like(inner[..., 0]))
    assert inner[..., 1:].abs().max() < 1e-5, 'a neighbouring direction has none of it'


@pytest.mark.parametrize('size', [(8, 12), (5, 7)])  # whole blocks of pixels and not
def test_luma_of_bytes_and_of_numbers(size):
    image = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0),
                          dtype=torch.uint8)
    expected = (image.float() / 255 * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    torch.testing.assert_close(grey_images(image), expected)
    torch.testing.assert_close(grey_images(image.float() / 255), expected)
    by_channel = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(grey_images(by_channel), expected)


def test_a_resized_image_keeps_its_channels_last():
    """Otherwise torch resizes it in twice the time, and luma has to copy it."""
    image_hw3 = torch.randint(0, 256, (48, 72, 3), dtype=torch.uint8)
    for size in ((36, 24), (72, 48)):
        image = resize_image(image_hw3, *size)
        assert image.is_contiguous(memory_format=torch.channels_last), size
