# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The losses: zero at the truth, formulas, and finite gradients wherever points may fly."""

import math

import pytest
import torch

from implicit_relocalizer.geometry.camera import unproject
from implicit_relocalizer.geometry.rigid import so3_exp
from implicit_relocalizer.training.losses import (
    MAX_ERROR_PX,
    CloudLossWeights,
    cloud_loss,
    laplace_negative_log_likelihood,
    log_clamp,
    point_errors,
    pose_loss,
    soft_clamp,
)

COUNT = 50
K = torch.tensor([[130.0, 0.0, 80.0], [0.0, 125.0, 60.0], [0.0, 0.0, 1.0]])
NOMINAL_DEPTH_M = 2.5
WEIGHTS = CloudLossWeights(reprojection=1.0, consistency=0.2, likelihood=0.1)


def random_cameras(seed=0):
    """Pixels, depths and cameras of single points, and where the points really are."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(COUNT, 2, generator=generator) * torch.tensor([160.0, 120.0])
    depth = 1.0 + 3.0 * torch.rand(COUNT, generator=generator)
    R = so3_exp(torch.randn(COUNT, 3, generator=generator))
    t = 3.0 * torch.randn(COUNT, 3, generator=generator)
    camera = unproject(pixels, K) * depth[:, None]
    points = (R @ camera.unsqueeze(-1)).squeeze(-1) + t
    return points, depth, pixels, K.expand(COUNT, 3, 3), R, t


def seen_from_camera(offset_camera):
    """The true points, moved by an offset in camera axes."""
    points, depth, pixels, K_n33, R, t = random_cameras()
    offset = torch.as_tensor(offset_camera, dtype=torch.float32).expand(COUNT, 3)
    return points + (R @ offset.unsqueeze(-1)).squeeze(-1), depth, pixels, K_n33, R, t


def test_errors_at_the_truth_are_zero():
    points, depth, *camera = random_cameras()
    errors = point_errors(points, depth, *camera, NOMINAL_DEPTH_M)
    assert errors.reprojection_px.max() < 1e-2
    assert errors.consistency.max() < 1e-5
    assert errors.usable.all()
    torch.testing.assert_close(errors.depth_m, depth, rtol=1e-4, atol=1e-4)


def test_a_point_moved_sideways_errs_by_focal_length_over_depth():
    points, depth, *camera = seen_from_camera([0.02, 0.0, 0.0])
    errors = point_errors(points, depth, *camera, NOMINAL_DEPTH_M)
    torch.testing.assert_close(errors.reprojection_px, 130.0 * 0.02 / depth, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(errors.consistency, 0.02 / depth, rtol=1e-2, atol=1e-4)


def test_the_stand_in_lies_on_the_ray_at_the_nominal_depth():
    _, depth, pixels, K_n33, R, t = random_cameras()
    on_ray = unproject(pixels, K) * NOMINAL_DEPTH_M
    points = (R @ on_ray.unsqueeze(-1)).squeeze(-1) + t
    errors = point_errors(points, depth, pixels, K_n33, R, t, NOMINAL_DEPTH_M)
    assert errors.ray_m.max() < 1e-4


@pytest.mark.parametrize('z', [0.0, 0.05, -0.05, -4.0])
def test_points_at_and_behind_the_camera_are_pulled_in_front(z):
    """Following the gradient makes them usable."""
    _, depth, pixels, K_n33, R, t = random_cameras()
    start = t + R[..., 2] * z
    points = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.1)
    assert not point_errors(points, depth, pixels, K_n33, R, t, NOMINAL_DEPTH_M).usable.any()
    for _ in range(150):
        loss_n, errors, _ = cloud_loss(points, depth, torch.zeros(COUNT), pixels, K_n33, R, t,
                                    NOMINAL_DEPTH_M, 10.0, WEIGHTS)
        optimizer.zero_grad()
        loss_n.sum().backward()
        assert points.grad.isfinite().all()
        optimizer.step()
    assert errors.usable.all() and errors.reprojection_px.median() < 5.0


@pytest.mark.parametrize('offset', [
    [0.0, 0.0, 0.0], [0.0, 0.0, -1e3], [1e3, 0.0, 0.0], [1e6, -1e6, 1e6], [-1e8, 1e8, -1e8]])
def test_gradients_are_finite_and_pull_everywhere(offset):
    points, depth, pixels, K_n33, R, t = seen_from_camera(offset)
    inputs = [value.clone().requires_grad_() for value in (points, depth, torch.zeros(COUNT))]
    loss_n, errors, _ = cloud_loss(*inputs, pixels, K_n33, R, t, NOMINAL_DEPTH_M, 10.0, WEIGHTS)
    assert loss_n.shape == (COUNT,) and loss_n.isfinite().all()
    loss_n.sum().backward()
    assert all(value.grad.isfinite().all() for value in inputs)
    if offset != [0.0, 0.0, 0.0]:
        assert (inputs[0].grad.abs().amax(dim=-1) > 0).all(), 'no point is given up'
        assert errors.reprojection_px.min() > 50.0


def test_points_exactly_on_the_camera_centre_have_finite_gradients():
    _, depth, pixels, K_n33, R, t = random_cameras()
    points = t.clone().requires_grad_()
    loss_n, *_ = cloud_loss(points, depth, torch.zeros(COUNT), pixels, K_n33, R, t,
                           NOMINAL_DEPTH_M, 10.0, WEIGHTS)
    loss_n.sum().backward()
    assert points.grad.isfinite().all() and points.grad.abs().sum() > 0


def test_the_cloud_loss_is_nothing_at_the_truth_and_grows_away_from_it():
    no_likelihood = CloudLossWeights(1.0, 0.2, 0.0)
    losses = []
    for metres in (0.0, 0.01, 0.1, 1.0, 10.0, -100.0):
        points, depth, *camera = seen_from_camera([metres, 0.0, 0.0])
        loss_n, *_ = cloud_loss(points, depth, torch.zeros(COUNT), *camera, NOMINAL_DEPTH_M, 10.0,
                               no_likelihood)
        losses.append(loss_n.mean().item())
    assert losses[0] < 1e-3 and losses == sorted(losses)


def test_the_cloud_loss_is_the_weighted_sum_of_its_parts():
    points, depth, *camera = seen_from_camera([0.1, 0.0, 0.0])
    loss_n, errors, parts = cloud_loss(points, depth, torch.ones(COUNT), *camera, NOMINAL_DEPTH_M,
                                       10.0, WEIGHTS)
    torch.testing.assert_close(parts['reprojection'], log_clamp(errors.reprojection_px, 10.0))
    torch.testing.assert_close(parts['consistency'], soft_clamp(errors.consistency, 1.0))
    assert set(parts) == {'reprojection', 'consistency', 'likelihood'}
    torch.testing.assert_close(loss_n, sum(
        getattr(WEIGHTS, name) * part for name, part in parts.items()))


def test_an_unusable_point_never_costs_less_than_a_usable_one():
    points, depth, *camera = seen_from_camera([0.0, 0.0, -10.0])
    loss_n, errors, _ = cloud_loss(points, depth, torch.zeros(COUNT), *camera, NOMINAL_DEPTH_M,
                                   10.0, CloudLossWeights(1.0, 0.0, 0.0))
    assert not errors.usable.any()
    assert loss_n.min() > log_clamp(torch.tensor(MAX_ERROR_PX), 10.0)


def test_extra_dimensions_broadcast_one_camera_over_its_points():
    points, depth, pixels, _, R, t = random_cameras()
    R, t = R[:2], t[:2]
    many = points.expand(2, COUNT, 3)
    loss_bn, *_ = cloud_loss(many, depth.expand(2, COUNT), torch.zeros(2, COUNT), pixels,
                            K.expand(2, 1, 3, 3), R.unsqueeze(1), t.unsqueeze(1),
                            NOMINAL_DEPTH_M, 10.0, WEIGHTS)
    single, *_ = cloud_loss(points, depth, torch.zeros(COUNT), pixels, K.expand(COUNT, 3, 3),
                           R[1].expand(COUNT, 3, 3), t[1].expand(COUNT, 3), NOMINAL_DEPTH_M, 10.0,
                           WEIGHTS)
    torch.testing.assert_close(loss_bn[1], single, rtol=1e-4, atol=1e-4)


def test_clamps_follow_their_formulas():
    error = torch.tensor([0.0, 0.01, 10.0, 1e4])
    torch.testing.assert_close(soft_clamp(error, 10.0), torch.tensor(
        [0.0, 0.01, 10.0 * math.tanh(1.0), 10.0]))
    torch.testing.assert_close(log_clamp(error, 10.0), torch.tensor(
        [0.0, math.log1p(0.001), math.log(2.0), math.log1p(1e3)]))


def test_the_likelihood_is_least_where_the_predicted_error_is_the_true_one():
    error = torch.tensor([0.3, 2.0, 50.0])
    best = error.log().requires_grad_()
    laplace_negative_log_likelihood(error, best).sum().backward()
    assert best.grad.abs().max() < 1e-5
    least = laplace_negative_log_likelihood(error, best)
    torch.testing.assert_close(least, 1.0 + error.log())
    for away in (-0.2, 0.2):
        assert (laplace_negative_log_likelihood(error, best + away) > least).all()


def test_the_likelihood_teaches_the_scale_and_not_the_points():
    error = torch.tensor([3.0], requires_grad=True)
    log_scale = torch.zeros(1, requires_grad=True)
    laplace_negative_log_likelihood(error, log_scale).sum().backward()
    assert error.grad is None and log_scale.grad.item() == pytest.approx(1.0 - 3.0)


def test_the_pose_loss_adds_metres_and_weighted_radians():
    _, _, _, _, R, t = random_cameras()
    # equal poses: the root's 1e-6 and rounding in the angle remain
    assert pose_loss(R, t, R, t, 1.0).max() < 1e-3
    turn = so3_exp(torch.tensor([0.0, 0.2, 0.0]))
    loss = pose_loss(R @ turn, t + torch.tensor([0.3, 0.0, -0.4]), R, t, 2.0)
    torch.testing.assert_close(loss, torch.full((COUNT,), 0.5 + 2.0 * 0.2), rtol=1e-3, atol=1e-3)


def test_the_pose_loss_has_finite_gradients_at_the_truth_and_at_half_a_turn():
    _, _, _, _, R, t = random_cameras()
    half_turn = so3_exp(torch.tensor([0.0, 0.0, math.pi]))
    for R_start in (R, R @ half_turn):
        inputs = [R_start.clone().requires_grad_(), t.clone().requires_grad_()]
        pose_loss(*inputs, R, t, 1.0).sum().backward()
        assert all(value.grad.isfinite().all() for value in inputs)
