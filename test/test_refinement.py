# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Refinement against independent optimisers; its information against noise it has not seen."""

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch.autograd.functional import hessian

from implicit_relocalizer.geometry.camera import project, unproject
from implicit_relocalizer.geometry.refinement import refine_pose
from implicit_relocalizer.geometry.rigid import (
    geodesic_angle,
    invert,
    so3_exp,
    so3_log,
    transform_points,
    vee,
)

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
DTYPES = [torch.float32, torch.float64]
NO_ROBUST = {'delta_px': 1e5, 'start_delta_px': 1e5}


def scene(device='cpu', dtype=torch.float64, batch=3, count=300, outliers=0.3, noise_px=0.5,
          offset_m=0.0, skew=0.0):
    """Noisy pixels of world points of which a share is wrong, and a start 10 cm / 5 deg away."""
    generator = torch.Generator().manual_seed(21)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    K_b33 = torch.tensor([[280.0, skew, 160.0], [0.0, 300.0, 118.0], [0.0, 0.0, 1.0]],
                         dtype=torch.float64).expand(batch, 3, 3)
    R_b33, t_b3 = so3_exp(4 * rand(batch, 3) - 2), offset_m + 5 * rand(batch, 3)
    exact_bn2 = rand(batch, count, 2) * torch.tensor([320, 240])
    camera_bn3 = unproject(exact_bn2, K_b33) * (1 + 4 * rand(batch, count, 1))
    world_bn3 = transform_points(R_b33, t_b3, camera_bn3)
    inlier_bn = rand(batch, count) >= outliers
    world_bn3 = torch.where(inlier_bn.unsqueeze(-1), world_bn3, world_bn3 + randn(batch, count, 3))
    pixels_bn2 = exact_bn2 + noise_px * randn(batch, count, 2)
    axis_b3, direction_b3 = (x / x.norm(dim=-1, keepdim=True) for x in randn(2, batch, 3))
    start_R_b33 = so3_exp(np.radians(5) * axis_b3) @ R_b33
    start_t_b3 = t_b3 + 0.1 * direction_b3
    tensors = (R_b33, t_b3, start_R_b33, start_t_b3, world_bn3, pixels_bn2, K_b33)
    return [x.to(device, dtype) for x in tensors], inlier_bn.to(device)


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


def hopeless(name, device, dtype):
    """Inputs from which no pose can be had, and whether the start must come back unchanged."""
    (_, _, R, t, world, pixels, K), _ = scene(device, dtype, batch=2, outliers=0.0)
    weights = torch.ones_like(world[..., 0])
    if name == 'all behind':
        world = t.unsqueeze(1) - (world - t.unsqueeze(1))
    if name == 'two in front':
        world[:, 2:] = t.unsqueeze(1) - (world[:, 2:] - t.unsqueeze(1))
    if name == 'two weights':
        weights[:, 2:] = 0
    if name == 'no weight':
        weights = weights * 0
    if name == 'negative weights':
        weights = -weights
    if name == 'no numbers':
        world = world * float('nan')
    if name == 'one place':
        world = world[:, :1].expand_as(world)
    if name == 'a line':
        world = world[:, :1] + (world[:, 1:2] - world[:, :1]) * torch.linspace(
            0, 1, 300, device=device, dtype=dtype)[:, None]
    if name == 'at the camera':
        world = t.unsqueeze(1).expand_as(world)
    return (R, t, world, pixels, K, weights), name not in ('one place', 'a line')


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', [
    'all behind', 'two in front', 'two weights', 'no weight', 'negative weights', 'no numbers',
    'one place', 'a line', 'at the camera'])
def test_hopeless_inputs_give_finite_poses_and_gradients(device, dtype, name):
    inputs, unchanged = hopeless(name, device, dtype)
    inputs = [x.clone().requires_grad_() for x in inputs]
    outputs = refine_pose(*inputs)
    for x in outputs:
        assert torch.isfinite(x).all()
    if unchanged:
        torch.testing.assert_close(outputs[0], inputs[0], atol=1e-6, rtol=0)
        assert torch.equal(outputs[1], inputs[1])
    if name == 'all behind':
        assert (outputs[3] == 1e6).all() and outputs[2].abs().max() < 1e-30
    gradients = torch.autograd.grad(sum(x.sum() for x in outputs), inputs)
    for gradient in gradients:
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_points_behind_or_no_numbers_have_no_say(dtype):
    (_, _, start_R, start_t, world, pixels, K), _ = scene(dtype=dtype)
    weights = torch.ones_like(world[..., 0])
    expected = refine_pose(*(start_R, start_t, world[:, 30:], pixels[:, 30:], K, weights[:, 30:]))
    world[:, :10] = start_t.unsqueeze(1) - 3 * start_R[:, None, :, 2]
    world[:, 10:20, 1] = float('nan')
    world[:, 20:25] = float('inf')
    weights[:, 25:30] = float('nan')
    spoilt = refine_pose(start_R, start_t, world, pixels, K, weights)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(spoilt[0], expected[0], atol=tolerance, rtol=0)
    torch.testing.assert_close(spoilt[1], expected[1], atol=10 * tolerance, rtol=0)
    assert torch.isfinite(spoilt[2]).all() and torch.isfinite(spoilt[3]).all()


def test_from_a_hopeless_start_the_cost_never_rises():
    (R_true, t_true, _, _, world, pixels, K), _ = scene(batch=16, outliers=0.5)
    generator = torch.Generator().manual_seed(5)
    R = so3_exp(torch.randn(16, 3, generator=generator).double()) @ R_true
    t = t_true + torch.randn(16, 3, generator=generator).double()
    weights = torch.ones_like(world[..., 0])
    fixed = {'delta_px': 20.0, 'start_delta_px': 20.0}
    last = None
    for iterations in (0, 1, 2, 4, 8, 16):
        _, _, _, errors = refine_pose(R, t, world, pixels, K, weights, iterations, **fixed)
        e2 = errors.square()
        cost = (400 * e2 / (400 + e2)).sum(-1)
        assert last is None or (cost <= last * (1 + 1e-3)).all()
        last = cost


@pytest.mark.parametrize('outliers', [0.0, 0.3])
def test_derivative_through_the_iterations(outliers):
    (_, _, start_R, start_t, world, pixels, K), _ = scene(batch=2, count=8, outliers=outliers)
    weights = torch.rand(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 1
    inputs = [x.clone().requires_grad_() for x in (world, pixels, K, weights)]
    assert torch.autograd.gradcheck(
        lambda *x: refine_pose(start_R, start_t, *x, 3, 20.0, 40.0)[:2], inputs, atol=1e-4,
        fast_mode=True)


def test_derivative_at_the_optimum_is_that_of_the_optimum():
    """Moving one pixel and refining anew moves the pose by the gradient; the start has no say."""
    (_, _, start_R, start_t, world, pixels, K), _ = scene(batch=1, count=50, outliers=0.0)
    weights = torch.ones_like(world[..., 0])
    inputs = [x.clone().requires_grad_() for x in (start_R, start_t, pixels)]
    _, t, _, _ = refine_pose(inputs[0], inputs[1], world, inputs[2], K, weights, 16)
    from_R, from_t, from_pixels = torch.autograd.grad(t[0, 0], inputs)
    from_rotation = vee(start_R.mT @ from_R)  # along the rotations; across them is no meaning
    assert from_rotation.abs().max() < 1e-6 and from_t.abs().max() < 1e-6
    step = torch.zeros_like(pixels)
    step[0, 7, 1] = 1e-3
    ends = [refine_pose(start_R, start_t, world, pixels + sign * step, K, weights, 16)[1][0, 0]
            for sign in (1, -1)]
    assert ((ends[0] - ends[1]) / 2e-3).item() == pytest.approx(from_pixels[0, 7, 1].item(),
                                                                rel=1e-4)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('grad', [False, True])
def test_scripted_agrees(device, grad):
    (_, _, start_R, start_t, world, pixels, K), _ = scene(device, torch.float32)
    scripted = torch.jit.script(refine_pose)
    inputs = [x.clone().requires_grad_(grad) for x in (
        start_R, start_t, world, pixels, K, torch.ones_like(world[..., 0]))]
    for _ in range(4):  # the profiling executor optimises from the third call on
        results = [f(*inputs) for f in (scripted, refine_pose)]
        torch.testing.assert_close(*[x[:2] for x in results], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(*[x[2:] for x in results], atol=1e-2, rtol=1e-2)
        if grad:
            gradients = [torch.autograd.grad(x[1].sum(), inputs[2:4]) for x in results]
            torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize('device', DEVICES)
def test_autocast_does_not_coarsen_the_result(device):
    (_, _, start_R, start_t, world, pixels, K), _ = scene(device, torch.float32)
    inputs = (start_R, start_t, world, pixels, K, torch.ones_like(world[..., 0]))
    plain = refine_pose(*inputs)
    with torch.autocast(device, torch.bfloat16):
        mixed = refine_pose(*inputs)
    torch.testing.assert_close(mixed, plain)
