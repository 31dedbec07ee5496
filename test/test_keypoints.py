# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints: where blobs are, on the same spots from view to view, and what is said of them."""

import math

import pytest
import torch
from box_room import smooth_noise
from torch import Tensor

from implicit_relocalizer.data.augmentation import warp_to_view
from implicit_relocalizer.network.descriptor import GradientDescriptor
from implicit_relocalizer.network.encoders import Encoder, build_encoder, cell_centres
from implicit_relocalizer.network.filters import grey_images
from implicit_relocalizer.network.keypoints import (
    KeypointDescriptor,
    KeypointSampler,
    at_keypoints,
    hessian_response,
    strongest_in_cells,
    strongest_keypoints,
)

HEIGHT, WIDTH = 160, 240
NUMBERS_PER_SPACING = 128


def texture(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Tensor:
    return smooth_noise((height, width), torch.Generator().manual_seed(seed))[None]


def blob(x: float, y: float, sigma_px: float, size: int = 64) -> Tensor:
    row = torch.arange(size, dtype=torch.float32)
    return torch.exp(-((row - x) ** 2 + (row[:, None] - y) ** 2) / (2.0 * sigma_px ** 2))[None]


@pytest.fixture(scope='module')
def grid_descriptor() -> GradientDescriptor:
    encoder = build_encoder('gradient_descriptor')
    assert isinstance(encoder, GradientDescriptor)
    return encoder


@pytest.fixture(scope='module')
def keypoint_descriptor(grid_descriptor) -> KeypointDescriptor:
    encoder = at_keypoints(grid_descriptor)
    assert isinstance(encoder, KeypointDescriptor)
    return encoder


@pytest.fixture(scope='module', params=['gradient_descriptor', 'resnet18'])
def encoder(request) -> Encoder:
    torch.manual_seed(0)
    return at_keypoints(build_encoder(request.param)).eval()


@pytest.mark.parametrize('sigma_px', [2.0, 3.0, 4.0])
def test_a_blob_is_found_to_a_tenth_of_a_pixel(sigma_px):
    generator = torch.Generator().manual_seed(int(sigma_px))
    expected = 28.0 + 8.0 * torch.rand(40, 2, generator=generator)
    images = torch.cat([blob(x, y, sigma_px) for x, y in expected.tolist()])
    pixels, response = strongest_in_cells(hessian_response(images, 2.0), 8)
    found = pixels[torch.arange(40), response.argmax(dim=1)]
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.1)


def test_dark_blobs_count_like_bright_ones():
    bright = blob(30.3, 33.6, 3.0)
    torch.testing.assert_close(hessian_response(1.0 - bright, 2.0), hessian_response(bright, 2.0),
                               rtol=1e-3, atol=1e-6)


def test_cells_without_a_maximum_of_their_own_have_no_response():
    """One blob: the strongest pixel of each cell around it leans against the blob's cell."""
    response_bhw = torch.exp(-0.5 * (torch.arange(24.0) - 12.2) ** 2 / 16.0)
    response_bhw = (response_bhw * response_bhw[:, None])[None]
    pixels, response = strongest_in_cells(response_bhw, 8)
    assert pixels.shape == (1, 9, 2) and response.shape == (1, 9)
    assert torch.nonzero(response[0]).flatten().tolist() == [4]
    assert response[0, 4] == response_bhw.max()


def test_a_cell_has_one_keypoint_and_it_lies_in_the_cell():
    grey_bhw = grey_images(torch.cat([texture(), texture(seed=1)]))
    pixels, _ = strongest_in_cells(hessian_response(grey_bhw, 2.0), 8)
    away = (pixels - cell_centres(HEIGHT, WIDTH, 8)).abs()
    assert pixels.shape == (2, HEIGHT // 8 * WIDTH // 8, 2)
    assert away.max() <= 4.0  # half a pixel beyond the centre of the cell's last one
    assert away.max(dim=1).values.min() > 3.0  # and they are not all near the middle


def test_the_strongest_come_first():
    grey_bhw = grey_images(texture())
    every, response = strongest_in_cells(hessian_response(grey_bhw, 2.0), 8)
    chosen = strongest_keypoints(grey_bhw, 50, 8)[0]
    order = response[0].sort(descending=True)[1][:50]
    torch.testing.assert_close(chosen, every[0, order])


def turned(degrees: float) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(('zoom', 'roll_deg', 'shift_px', 'share', 'median_px'), [
    (1.0, 0.0, (8.0, -16.0), 0.95, 0.02), (1.0, 0.0, (5.3, 2.7), 0.7, 0.3),
    (1.0, 20.0, (0.0, 0.0), 0.7, 0.35), (1.2, 0.0, (0.0, 0.0), 0.6, 0.5),
    (0.85, -10.0, (3.0, 4.0), 0.55, 0.55)])
def test_keypoints_stay_on_their_spots(zoom, roll_deg, shift_px, share, median_px):
    """Chance: 250 of them in 160 x 240 pixels come within 1.5 px of a spot one time in 20."""
    K = torch.tensor([[200.0, 0.0, 119.5], [0.0, 200.0, 79.5], [0.0, 0.0, 1.0]])
    K_view = K.clone()
    K_view[0, 0] *= zoom
    K_view[1, 1] *= zoom
    K_view[:2, 2] += torch.tensor(shift_px)
    R_camera_view = turned(roll_deg)
    image = texture()
    view, _ = warp_to_view(image, K[None], K_view[None], R_camera_view[None], (WIDTH, HEIGHT))
    first = strongest_keypoints(grey_images(image), 250, 8)[0]
    second = strongest_keypoints(grey_images(view), 250, 8)[0]
    H_view_camera = K_view @ R_camera_view.T @ torch.linalg.inv(K)
    expected = torch.cat([first, torch.ones(250, 1)], dim=1) @ H_view_camera.T
    expected = expected[:, :2] / expected[:, 2:]
    size = torch.tensor([WIDTH, HEIGHT])
    inside = ((expected > 12) & (expected < size - 12)).all(dim=1)
    away = torch.cdist(expected[inside], second).amin(dim=1)
    assert inside.sum() > 100
    assert (away < 1.5).float().mean() > share
    assert away.median() < median_px


def described_at(encoder, grey_bhw, pixels_bn2, spacing_px):
    """(B, N, numbers): one spacing's part of the descriptors."""
    described = encoder.describe_at(grey_bhw, pixels_bn2).unflatten(2, [-1, NUMBERS_PER_SPACING])
    return described[:, :, encoder.spacings_px.index(spacing_px)]


@pytest.mark.parametrize(('index', 'tolerance'), [(0, 0.012), (1, 0.006), (2, 0.028)])
def test_a_keypoint_at_a_cell_centre_has_the_descriptor_of_the_cell(
        grid_descriptor, keypoint_descriptor, index, tolerance):
    """They pool in another order, and the border is renormalised here but not on the grid."""
    spacing_px = grid_descriptor.spacings_px[index]
    images, centres = texture(240, 320), cell_centres(240, 320, 8)
    numbers = slice(index * NUMBERS_PER_SPACING, (index + 1) * NUMBERS_PER_SPACING)
    expected = grid_descriptor(images)[:, numbers].flatten(2).transpose(1, 2)[0]
    actual = described_at(keypoint_descriptor, grey_images(images), centres[None], spacing_px)[0]
    reach = 2.0 * spacing_px + 8.0
    inner = ((centres > reach) & (centres < torch.tensor([320, 240]) - reach)).all(dim=1)
    assert inner.sum() > 100
    torch.testing.assert_close(actual[inner], expected[inner], rtol=0.0, atol=tolerance)
    cosine = torch.nn.functional.cosine_similarity(actual, expected)
    assert cosine[inner].min() > 0.998 and cosine.min() > 0.8
    # the tolerance means something: the neighbouring cell's descriptor is far outside of it
    assert (actual[1:] - expected[:-1]).abs().amax(dim=1).median() > 3.0 * tolerance


def test_descriptors_follow_the_keypoint_to_fractions_of_a_pixel(keypoint_descriptor):
    """Moving the image by 2 px and the point with it changes nothing; the point alone a lot."""
    image = texture()
    moved = grey_images(image.roll(shifts=2, dims=3))
    pixels = torch.tensor([[[100.25, 80.5], [120.75, 70.0]]])
    for spacing_px, tolerance in ((4.0, 1e-3), (12.0, 2e-3)):
        at = described_at(keypoint_descriptor, grey_images(image), pixels, spacing_px)
        same = described_at(keypoint_descriptor, moved, pixels + torch.tensor([2.0, 0.0]),
                            spacing_px)
        beside = described_at(keypoint_descriptor, moved, pixels, spacing_px)
        assert (same - at).abs().max() < tolerance
        assert (beside - at).abs().max() > 10.0 * (same - at).abs().max().clamp(min=1e-3)


def test_sampled_features_at_the_centre_of_a_cell_are_those_of_the_cell():
    torch.manual_seed(0)
    encoder = build_encoder('resnet18').eval()
    images = torch.cat([texture(64, 96), texture(64, 96, seed=1)])
    centres = cell_centres(64, 96, encoder.stride)
    with torch.no_grad():
        grid = encoder(images).flatten(2).transpose(1, 2)
        sampler = KeypointSampler(encoder)
        at_centres = sampler.features_at(images, centres.expand(2, -1, -1))
        half_a_cell_on = centres[:1] + torch.tensor([0.5 * encoder.stride, 0.0])
        between = sampler.features_at(images, half_a_cell_on.expand(2, -1, -1))
    torch.testing.assert_close(at_centres, grid, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(between[0, 0], 0.5 * (grid[0, 0] + grid[0, 1]),
                               rtol=1e-4, atol=1e-4)


class Sampling(torch.nn.Module):
    """The way the localizer calls an encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images_b3hw: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder.sample(images_b3hw)


def test_scripted_equals_eager(encoder):
    scripted = torch.jit.script(Sampling(encoder))
    for images in (torch.cat([texture(), texture(seed=1)]), texture(64, 96)):
        with torch.no_grad():
            features, pixels = encoder.sample(images)
            scripted_features, scripted_pixels = scripted(images)
        assert features.shape == (*pixels.shape[:2], encoder.channels)
        assert pixels.shape == (len(images), min(500, images[0, 0].numel() // 64), 2)
        torch.testing.assert_close(scripted_pixels, pixels)
        torch.testing.assert_close(scripted_features, features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('height', 'width'), [(HEIGHT, WIDTH), (64, 96), (8, 8)])
@pytest.mark.parametrize('value', [0.0, 0.7, 1.0])
def test_blank_images_give_as_many_points_as_others_and_no_nan(
        keypoint_descriptor, height, width, value):
    images = torch.cat([torch.full((1, 3, height, width), value), texture(height, width)])
    features, pixels = keypoint_descriptor.sample(images)
    count = min(500, height // 8 * width // 8)
    assert pixels.shape == (2, count, 2) and features.shape == (2, count, 384)
    assert pixels.isfinite().all() and features.isfinite().all()
    assert (pixels >= 0).all() and (pixels <= torch.tensor([width - 1, height - 1])).all()
    assert features[0].norm(dim=1).max() < 0.02  # nothing is blown up to a unit vector


def test_each_image_of_a_batch_is_looked_at_alone(keypoint_descriptor):
    images = torch.cat([texture(), torch.zeros(1, 3, HEIGHT, WIDTH)])
    both, alone = keypoint_descriptor.sample(images), keypoint_descriptor.sample(images[:1])
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one[:1], other)


def test_keypoints_and_descriptors_are_the_same_under_autocast(encoder):
    """Training in bfloat16 has to see the points that the robot will see."""
    with torch.no_grad():
        features, pixels = encoder.sample(texture())
        with torch.autocast('cpu', dtype=torch.bfloat16):
            mixed_features, mixed_pixels = encoder.sample(texture())
    torch.testing.assert_close(mixed_pixels, pixels)
    difference = (mixed_features.float() - features).norm() / features.norm()
    assert difference < 0.02
