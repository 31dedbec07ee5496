# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Refinement against independent optimisers; its information against noise it has not seen."""

import cv2
import numpy as np
import pytest
import torch
from noisy_pixels import DEVICES, DTYPES, scene
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch.autograd.functional import hessian

from implicit_relocalizer.geometry.camera import project
from implicit_relocalizer.geometry.refinement import refine_pose
from implicit_relocalizer.geometry.rigid import (
    geodesic_angle,
    invert,
    so3_exp,
    so3_log,
    transform_points,
)

NO_ROBUST = {'delta_px': 1e5, 'start_delta_px': 1e5}


def opencv_optimum(R_33, t_3, world_n3, pixels_n2, K_33):
    """The least-squares pose by OpenCV, from and in camera-to-world form."""
    R_camera_world = R_33.T
    rvec, tvec = cv2.solvePnPRefineLM(
        np.ascontiguousarray(world_n3), np.ascontiguousarray(pixels_n2), K_33, None,
        cv2.Rodrigues(R_camera_world)[0], -R_camera_world @ t_3[:, None],
        (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 200, 1e-14))
    R_camera_world = cv2.Rodrigues(rvec)[0]
    return R_camera_world.T, (-R_camera_world.T @ tvec)[:, 0]


def moved(R_33, t_3, xi_6):
    """The perturbation that the information matrix is about: world axes, camera centre."""
    return so3_exp(xi_6[3:]) @ R_33, t_3 + xi_6[:3]


def squared_errors(R_33, t_3, world_n3, pixels_n2, K_33):
    camera_n3 = transform_points(*invert(R_33, t_3), world_n3)
    return (project(camera_n3, K_33)[0] - pixels_n2).square().sum(-1)


@pytest.mark.parametrize('device', DEVICES)
def test_without_outliers_it_is_the_least_squares_optimum_of_opencv(device):
    (R_true, t_true, start_R, start_t, world, pixels, K), _ = scene(device, outliers=0.0)
    R, t, _, _ = refine_pose(start_R, start_t, world, pixels, K,
                             torch.ones_like(world[..., 0]), **NO_ROBUST)
    for b in range(3):
        R_cv, t_cv = opencv_optimum(*(x[b].cpu().numpy() for x in (
            R_true, t_true, world, pixels, K)))
        np.testing.assert_allclose(R[b].cpu().numpy(), R_cv, atol=1e-7)
        np.testing.assert_allclose(t[b].cpu().numpy(), t_cv, atol=1e-6)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('skew', [0.0, 4.0])
def test_no_small_motion_lowers_the_cost(device, skew):
    (_, _, start_R, start_t, world, pixels, K), _ = scene(device, outliers=0.0, skew=skew)
    R, t, _, errors = refine_pose(start_R, start_t, world, pixels, K,
                                  torch.ones_like(world[..., 0]), **NO_ROBUST)
    expected = torch.stack([squared_errors(*x).sqrt() for x in
                            zip(R, t, world, pixels, K, strict=True)])
    torch.testing.assert_close(errors, expected, atol=1e-6, rtol=0)
    for b in range(3):
        for k in range(6):
            for size in (1e-4, -1e-4):
                xi = torch.zeros(6, dtype=R.dtype, device=device)
                xi[k] = size
                nearby = squared_errors(*moved(R[b], t[b], xi), world[b], pixels[b], K[b])
                assert nearby.sum() > errors[b].square().sum()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('offset_m', [0.0, 500.0])
def test_with_outliers_it_is_the_optimum_of_the_inliers(device, dtype, offset_m):
    (R_true, t_true, start_R, start_t, world, pixels, K), inlier = scene(
        device, dtype, offset_m=offset_m)
    R, t, _, errors = refine_pose(start_R, start_t, world, pixels, K,
                                  torch.ones_like(world[..., 0]))
    assert R.dtype == t.dtype == dtype
    for b in range(3):
        of_inliers = [x[b].cpu().double()[inlier[b].cpu()].numpy() for x in (world, pixels)]
        R_cv, t_cv = opencv_optimum(R_true[b].cpu().double().numpy(),
                                    t_true[b].cpu().double().numpy(), *of_inliers,
                                    K[b].cpu().double().numpy())
        np.testing.assert_allclose(t[b].cpu().numpy(), t_cv, atol=1e-3)
        assert geodesic_angle(R[b].cpu().double(), torch.from_numpy(R_cv)) < 3e-4
    assert errors[inlier].median() < 1.0 and errors[~inlier].median() > 10
    eye = torch.eye(3, device=device, dtype=dtype).expand(3, 3, 3)
    torch.testing.assert_close(R @ R.mT, eye, atol=4 * torch.finfo(dtype).eps, rtol=0)


def test_it_minimises_the_robust_cost_that_it_says():
    (_, _, start_R, start_t, world, pixels, K), _ = scene(batch=1)
    weights = torch.rand(1, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    R, t, _, _ = refine_pose(start_R, start_t, world, pixels, K, weights, iterations=40)

    def cost(xi):
        e2 = squared_errors(*moved(R[0], t[0], torch.from_numpy(xi)), world[0], pixels[0], K[0])
        return (weights[0] * 9 * e2 / (9 + e2)).sum().item()

    found = minimize(lambda x: cost(1e-3 * x), np.full(6, 0.2), method='Nelder-Mead',
                     options={'xatol': 1e-4, 'fatol': 1e-10, 'maxiter': 4000, 'maxfev': 4000})
    assert cost(np.zeros(6)) <= found.fun + 1e-9
    np.testing.assert_allclose(1e-3 * found.x, 0, atol=1e-5)


def test_weights_are_the_counts_of_repeated_points():
    (_, _, start_R, start_t, world, pixels, K), _ = scene(batch=1, count=60)
    counts = torch.arange(60) % 4
    repeated = [x[0].repeat_interleave(counts, 0)[None] for x in (world, pixels)]
    a = refine_pose(start_R, start_t, world, pixels, K, counts[None].double(), 20)
    b = refine_pose(start_R, start_t, *repeated, K, torch.ones_like(repeated[0][..., 0]), 20)
    for x, y in zip(a[:3], b[:3], strict=True):
        torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-6)
    c = refine_pose(start_R, start_t, world, pixels, K, 1e6 * counts[None].double(), 20)
    torch.testing.assert_close(c[0], a[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(c[2], 1e6 * a[2])


@pytest.mark.parametrize('skew', [0.0, 4.0])
def test_information_is_the_hessian_of_the_cost(skew):
    """Exactly so at zero residuals, where Gauss-Newton is Newton."""
    (R_true, t_true, _, _, world, pixels, K), _ = scene(
        batch=2, outliers=0.0, noise_px=0.0, offset_m=50.0, skew=skew)
    weights = torch.rand(2, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    _, _, information, _ = refine_pose(R_true, t_true, world, pixels, K, weights)
    for b in range(2):
        H = hessian(lambda xi, b=b: 0.5 * (weights[b] * squared_errors(
            *moved(R_true[b], t_true[b], xi), world[b], pixels[b], K[b])).sum(),
            torch.zeros(6, dtype=torch.float64))
        torch.testing.assert_close(information[b], H, atol=1e-4 * H.abs().max().item(), rtol=1e-5)
    assert torch.equal(information, information.mT)


def test_inverse_information_is_the_covariance_of_the_error():
    """600 noisy views of one scene: errors whitened by the information are standard normal."""
    sigma_px, trials = 0.7, 600
    (R_true, t_true, start_R, start_t, world, pixels, K), _ = scene(
        batch=1, count=100, outliers=0.0, noise_px=0.0)
    generator = torch.Generator().manual_seed(3)
    noisy = pixels + sigma_px * torch.randn(trials, 100, 2, generator=generator).double()
    many = [x.expand(trials, *x.shape[1:]) for x in (start_R, start_t, world, K)]
    R, t, information, _ = refine_pose(many[0], many[1], many[2], noisy, many[3],
                                       torch.full((trials, 100), sigma_px ** -2).double(),
                                       6, **NO_ROBUST)
    xi = torch.cat([t - t_true, so3_log(R @ R_true[0].mT)], dim=-1)
    whitened = (torch.linalg.cholesky(information).mT @ xi.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(6).double(), atol=0.2, rtol=0)
    assert whitened.mean(0).abs().max() < 0.15
    assert whitened.square().sum(-1).mean().item() == pytest.approx(6, rel=0.08)


def test_every_pose_of_a_batch_is_refined_as_if_alone():
    (_, _, start_R, start_t, world, pixels, K), _ = scene(batch=3)
    weights = torch.ones_like(world[..., 0])
    together = refine_pose(start_R, start_t, world, pixels, K, weights)
    for b in range(3):
        alone = refine_pose(*(x[b:b + 1] for x in (start_R, start_t, world, pixels, K, weights)))
        for x, y in zip(together, alone, strict=True):
            torch.testing.assert_close(x[b:b + 1], y, atol=1e-7, rtol=1e-7)


def test_moving_the_world_moves_the_pose():
    (_, _, start_R, start_t, world, pixels, K), _ = scene()
    weights = torch.ones_like(world[..., 0])
    Q = torch.from_numpy(Rotation.from_rotvec([1.0, 2.0, -0.5]).as_matrix())
    s = torch.tensor([10.0, -20.0, 30.0]).double()
    R, t, information, errors = refine_pose(start_R, start_t, world, pixels, K, weights)
    R_moved, t_moved, information_moved, errors_moved = refine_pose(
        Q @ start_R, start_t @ Q.mT + s, world @ Q.mT + s, pixels, K, weights)
    torch.testing.assert_close(R_moved, Q @ R, atol=1e-9, rtol=0)
    torch.testing.assert_close(t_moved, t @ Q.mT + s, atol=1e-9, rtol=0)
    torch.testing.assert_close(errors_moved, errors, atol=1e-5, rtol=1e-5)
    QQ = torch.block_diag(Q, Q)
    torch.testing.assert_close(information_moved, QQ @ information @ QQ.mT, rtol=1e-5, atol=1e-3)
