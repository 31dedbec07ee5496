# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Orientation at a known position, against scipy and against the truth."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from implicit_relocalizer.geometry.camera import project
from implicit_relocalizer.geometry.orientation import (
    orientation_at_position,
    rotation_between_directions,
)
from implicit_relocalizer.geometry.rigid import geodesic_angle

K_33 = torch.tensor([[280.0, 0.0, 179.5], [0.0, 280.0, 119.5], [0.0, 0.0, 1.0]])
UNIFORMS = torch.rand(64, 2, generator=torch.Generator().manual_seed(1))


def scenes(count: int, noise_px: float, outlier_share: float, seed: int = 0):
    """World points, pixels, R and t of cameras that see 300 points each."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    R = torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix()).float()
    t = 4.0 * uniform(count, 3) - 2.0
    depth = 1.0 + 4.0 * uniform(count, 300, 1)
    rays = torch.cat([2.4 * uniform(count, 300, 2) - 1.2, torch.ones(count, 300, 1)], dim=-1)
    rays[..., :2] *= torch.tensor([0.5, 0.35])
    points_camera = rays * depth
    pixels, _ = project(points_camera, K_33.expand(count, 3, 3))
    pixels += noise_px * torch.randn(pixels.shape, generator=generator)
    points = points_camera @ R.transpose(1, 2) + t.unsqueeze(1)
    wrong = uniform(count, 300) < outlier_share
    points[wrong] = 8.0 * uniform(int(wrong.sum()), 3) - 4.0
    return points, pixels, R, t


@pytest.mark.parametrize(('noise_px', 'outlier_share', 'limit_deg'),
                         [(0.0, 0.0, 1e-2), (2.0, 0.0, 0.1), (2.0, 0.6, 0.4)])
def test_it_finds_the_true_orientation(noise_px, outlier_share, limit_deg):
    points, pixels, R, t = scenes(20, noise_px, outlier_share)
    found, score = orientation_at_position(points, pixels, K_33.expand(20, 3, 3), t,
                                           torch.ones(20, 300), UNIFORMS)
    error_deg = geodesic_angle(found, R).rad2deg()
    assert error_deg.max() < limit_deg
    assert (score > 0.8 * (1.0 - outlier_share)).all()
    torch.testing.assert_close(found @ found.transpose(1, 2), torch.eye(3).expand(20, 3, 3))


def test_points_without_weight_have_no_say():
    points, pixels, R, t = scenes(5, 0.0, 0.0)
    weights = torch.zeros(5, 300)
    weights[:, :40] = 1.0
    points[:, 40:] += 3.0
    found, _ = orientation_at_position(points, pixels, K_33.expand(5, 3, 3), t, weights, UNIFORMS)
    assert geodesic_angle(found, R).max() < 1e-3


def test_nonsense_scores_low():
    points, pixels, _, t = scenes(20, 0.0, 1.0)
    _, score = orientation_at_position(points, pixels, K_33.expand(20, 3, 3), t,
                                       torch.ones(20, 300), UNIFORMS)
    assert score.max() < 0.15


def test_points_that_are_no_numbers_do_no_harm():
    points, pixels, R, t = scenes(3, 0.0, 0.0)
    points[:, ::7] = math.nan
    found, _ = orientation_at_position(points, pixels, K_33.expand(3, 3, 3), t,
                                       torch.ones(3, 300), UNIFORMS)
    assert geodesic_angle(found, R).max() < 1e-3


def test_wahbas_problem_is_scipys():
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    weights = torch.rand(12, generator=generator, dtype=torch.float64)
    R, degenerate = rotation_between_directions(source, target, weights)
    expected, _ = Rotation.align_vectors(target.numpy(), source.numpy(), weights.numpy())
    torch.testing.assert_close(R, torch.from_numpy(expected.as_matrix()))
    assert not degenerate
    assert rotation_between_directions(source[:1], target[:1], weights[:1])[1]
