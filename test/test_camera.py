# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pinhole projection, its inverse, and intrinsics under resizing and cropping."""

import cv2
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from implicit_relocalizer.geometry.camera import (
    crop_intrinsics,
    project,
    resize_intrinsics,
    unproject,
)

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
DTYPES = [torch.float32, torch.float64]


def random_camera(device='cpu', dtype=torch.float64, batch=3, count=50):
    """Intrinsics (with skew, so that no entry is left untested) and points before the camera."""
    generator = torch.Generator().manual_seed(1)
    K_b33 = torch.tensor([[310.0, 1.5, 158.0], [0.0, 295.0, 121.0], [0.0, 0.0, 1.0]])
    K_b33 = K_b33 * torch.tensor([[[1.0], [1.1], [1.0]]]).expand(batch, 3, 1)
    points_bn3 = torch.rand(batch, count, 3, generator=generator) * 2 + torch.tensor([-1, -1, 1])
    return K_b33.to(device, dtype), points_bn3.to(device, dtype)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
def test_unprojected_pixels_times_depth_are_the_points(device, dtype):
    K_b33, points_bn3 = random_camera(device, dtype)
    pixels_bn2, depth_bn = project(points_bn3, K_b33)
    rays_bn3 = unproject(pixels_bn2, K_b33)
    assert pixels_bn2.shape == (3, 50, 2) and depth_bn.shape == (3, 50)
    assert pixels_bn2.dtype == rays_bn3.dtype == dtype
    torch.testing.assert_close(rays_bn3[..., 2], torch.ones_like(depth_bn))
    torch.testing.assert_close(rays_bn3 * depth_bn.unsqueeze(-1), points_bn3)


def test_projection_agrees_with_opencv():
    K_b33, points_bn3 = random_camera()
    K_b33[:, 0, 1] = 0  # OpenCV has no skew
    pixels_bn2, _ = project(points_bn3, K_b33)
    expected, _ = cv2.projectPoints(points_bn3[1].numpy(), np.zeros(3), np.zeros(3),
                                    K_b33[1].numpy(), None)
    np.testing.assert_allclose(pixels_bn2[1].numpy(), expected.squeeze(1), atol=1e-9)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('z', [0.0, 1e-30, -1e-30, -3.0, 0.1])
def test_points_at_and_behind_the_camera_stay_finite(device, z):
    K_b33, _ = random_camera(device, torch.float32, batch=1)
    point = torch.tensor([[[0.5, -0.2, z]]], device=device, requires_grad=True)
    pixels_bn2, depth_bn = project(point, K_b33, 0.1)
    assert depth_bn.item() == pytest.approx(z)
    torch.testing.assert_close(pixels_bn2, project(torch.tensor(
        [[[0.5, -0.2, max(z, 0.1)]]], device=device), K_b33)[0])
    pixels_bn2.sum().backward()
    assert torch.isfinite(pixels_bn2).all() and torch.isfinite(point.grad).all()


def blob(size, centre):
    """A smooth bright spot in a (height, width) image."""
    y, x = np.mgrid[:size[0], :size[1]]
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 6.0 ** 2))


def centroid(image):
    y, x = np.mgrid[:image.shape[0], :image.shape[1]]
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()


@pytest.mark.parametrize('size', [(60, 80), (240, 320), (180, 200)])
def test_resized_intrinsics_follow_a_resized_image(size):
    """The same point lands where OpenCV's own resize moves its image."""
    K_b33 = torch.tensor([[[100.0, 0.0, 70.3], [0.0, 110.0, 61.2], [0.0, 0.0, 1.0]]],
                         dtype=torch.float64)
    point = torch.tensor([[[0.1, -0.05, 1.0]]], dtype=torch.float64)
    image = blob((120, 160), project(point, K_b33)[0][0, 0].numpy())
    height, width = size
    interpolation = cv2.INTER_AREA if width < 160 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    pixel = project(point, resize_intrinsics(K_b33, width / 160, height / 120))[0][0, 0]
    np.testing.assert_allclose(centroid(resized), pixel.numpy(), atol=1e-3)


def test_cropped_intrinsics_follow_a_cropped_image():
    K_b33, points_bn3 = random_camera()
    pixels_bn2, depth_bn = project(points_bn3, K_b33)
    cropped_bn2, cropped_depth_bn = project(points_bn3, crop_intrinsics(K_b33, 17.0, 4.5))
    torch.testing.assert_close(cropped_bn2, pixels_bn2 - torch.tensor([17.0, 4.5]).double())
    torch.testing.assert_close(cropped_depth_bn, depth_bn)


def test_resizing_by_parts_equals_resizing_at_once_and_inputs_stay():
    K_b33, _ = random_camera()
    before = K_b33.clone()
    twice = resize_intrinsics(resize_intrinsics(K_b33, 0.5, 2.0), 3.0, 0.25)
    torch.testing.assert_close(twice, resize_intrinsics(K_b33, 1.5, 0.5))
    torch.testing.assert_close(resize_intrinsics(K_b33, 1.0, 1.0), K_b33)
    torch.testing.assert_close(crop_intrinsics(K_b33, 0.0, 0.0), K_b33)
    assert torch.equal(K_b33, before)


def test_derivatives():
    K_b33, points_bn3 = random_camera(count=4)
    K_b33, points_bn3 = K_b33.requires_grad_(), points_bn3.requires_grad_()
    assert gradcheck(project, (points_bn3, K_b33))
    assert gradcheck(unproject, (points_bn3[..., :2] * 100, K_b33))


@pytest.mark.parametrize('device', DEVICES)
def test_scripted_functions_agree(device):
    K_b33, points_bn3 = random_camera(device, torch.float32)
    pixels_bn2, _ = project(points_bn3, K_b33)
    cases = ((project, (points_bn3, K_b33, 0.2)), (unproject, (pixels_bn2, K_b33)),
             (resize_intrinsics, (K_b33, 0.5, 0.7)), (crop_intrinsics, (K_b33, 3.0, 4.0)))
    for function, arguments in cases:
        scripted = torch.jit.script(function)
        for _ in range(3):  # the profiling executor optimises from the third call on
            torch.testing.assert_close(scripted(*arguments), function(*arguments))
