# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The covariance of a refined pose, held against what noise really does to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from implicit_relocalizer.geometry.pose_covariance import pose_covariance
from implicit_relocalizer.geometry.refinement import refine_pose

DELTA_PX = 80.0  # so wide that all points count fully: what is compared is the first order
K_33 = torch.tensor([[300.0, 0.0, 160.0], [0.0, 310.0, 120.0], [0.0, 0.0, 1.0]])
R_TRUE = torch.from_numpy(Rotation.from_rotvec([0.3, -0.5, 1.1]).as_matrix()).float()
T_TRUE = torch.tensor([2.0, -1.0, 0.5])


def scene(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in the world, metres, and where a camera at the true pose sees them."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1.5, 6.0, count)
    pixels = rng.uniform([0.0, 0.0], [320.0, 240.0], (count, 2))
    rays = np.c_[(pixels - [160.0, 120.0]) / [300.0, 310.0], np.ones(count)]
    points = (depth[:, None] * rays) @ R_TRUE.numpy().T + T_TRUE.numpy()
    return torch.from_numpy(points).float(), torch.from_numpy(pixels).float()


def noise_of(points_n3: torch.Tensor, kind: str) -> np.ndarray:
    """Standard deviations of pixels, of which the covariance is told nothing."""
    if kind == 'equal':
        return np.full(len(points_n3), 4.0)
    # A third of the points, all on one side, are ten times worse than the others.
    side = ((points_n3 - T_TRUE) @ R_TRUE)[:, 0].numpy()
    return np.where(side > np.quantile(side, 2.0 / 3.0), 12.0, 1.2)


def solve(points_n3, pixels_bn2, weights_n):
    batch = len(pixels_bn2)
    R_b33, t_b3, _, _ = refine_pose(
        R_TRUE.expand(batch, 3, 3), T_TRUE.expand(batch, 3), points_n3.expand(batch, -1, 3),
        pixels_bn2, K_33.expand(batch, 3, 3), weights_n.expand(batch, -1), 8, DELTA_PX, DELTA_PX)
    return R_b33, t_b3


@pytest.mark.parametrize('kind', ['equal', 'one side is worse'])
@pytest.mark.parametrize('weight', [1.0, 1e-4])
def test_errors_are_normalised_by_it_whatever_the_noise(kind, weight):
    points, pixels = scene(120)
    sigma = noise_of(points, kind)
    weights = torch.full((120,), weight)
    drawn = np.random.default_rng(1).normal(size=(300, 120, 2))
    noisy = pixels + torch.from_numpy(sigma[:, None] * drawn).float()
    R_b33, t_b3 = solve(points, noisy, weights)
    squared, variances, errors = [], [], []
    for R, t, seen in zip(R_b33, t_b3, noisy, strict=True):
        covariance = pose_covariance(R, t, points, seen, K_33, weights, DELTA_PX).numpy()
        error = np.r_[(t - T_TRUE).numpy(),
                      Rotation.from_matrix((R @ R_TRUE.T).numpy()).as_rotvec()]
        squared.append(error @ np.linalg.solve(covariance, error))
        variances.append(np.diag(covariance))
        errors.append(error)
    ratio = np.mean(variances, axis=0) / np.mean(np.square(errors), axis=0)
    assert (ratio > 0.7).all() and (ratio < 1.4).all(), ratio
    # A chi-square of six degrees of freedom has the mean 6; residuals of 120 points estimate it.
    assert 4.5 < np.mean(squared) < 7.5


def test_it_is_symmetric_and_the_same_scripted_and_of_a_shifted_world():
    points, pixels = scene(60)
    noisy = pixels + torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(60, generator=torch.Generator().manual_seed(1))
    R_133, t_13 = solve(points, noisy[None], weights)
    R, t = R_133[0], t_13[0]
    arguments = R, t, points, noisy, K_33, weights, DELTA_PX
    covariance = pose_covariance(*arguments)
    assert torch.equal(covariance, covariance.T) and covariance.dtype == torch.float64
    torch.testing.assert_close(torch.jit.script(pose_covariance)(*arguments), covariance)
    shift = torch.tensor([64.0, -32.0, 8.0])  # exact in float32
    moved = pose_covariance(R, t + shift, points + shift, noisy, K_33, weights, DELTA_PX)
    torch.testing.assert_close(moved, covariance, rtol=1e-2, atol=1e-9)


def test_the_derivatives_are_those_of_projection():
    points, pixels = scene(6)
    # With one point of all the weight the covariance is widest where that point says nothing:
    # along its ray. Positions across the ray are known, rotations compensate.
    weights = torch.full((6,), 1e-9)
    weights[0] = 1.0
    covariance = pose_covariance(R_TRUE, T_TRUE, points, pixels + 0.5, K_33, weights, DELTA_PX)
    ray = torch.nn.functional.normalize((points[0] - T_TRUE).double(), dim=0)
    values, vectors = torch.linalg.eigh(covariance[:3, :3])
    assert abs(float(vectors[:, -1] @ ray)) > 0.99
    assert values[-1] > 10.0 * values[1]


@pytest.mark.parametrize('broken', ['no weights', 'behind', 'one point', 'NaN', 'infinite',
                                    'all the same', 'two points'])
def test_what_says_little_or_nothing_is_uncertain_and_finite(broken):
    points, pixels = scene(40)
    weights = torch.ones(40)
    if broken == 'no weights':
        weights = torch.zeros(40)
    elif broken == 'behind':
        points = 2.0 * T_TRUE - points
    elif broken in ('one point', 'two points'):
        count = 1 if broken == 'one point' else 2
        points, pixels, weights = points[:count], pixels[:count], weights[:count]
    elif broken == 'NaN':
        points = torch.full_like(points, torch.nan)
    elif broken == 'infinite':
        points = torch.full_like(points, torch.inf)
    else:
        points, pixels = points[:1].expand(40, -1), pixels[:1].expand(40, -1)
    covariance = pose_covariance(R_TRUE, T_TRUE, points, pixels, K_33, weights, DELTA_PX)
    assert covariance.isfinite().all()
    assert torch.linalg.eigvalsh(covariance).min() > 0.0
    assert covariance.diagonal()[:3].max() > 10.0, 'metres squared: nobody knows where it is'
