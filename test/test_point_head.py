# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The point head: shapes, bounds, where it starts, and its scripted twin."""

import math

import pytest
import torch

from implicit_relocalizer.network.heads import (
    LOG_DEPTH_SPAN,
    LOG_ERROR_MAX,
    LOG_ERROR_MIN,
    PointHead,
)

CHANNELS = 24


@pytest.fixture
def head() -> PointHead:
    torch.manual_seed(0)
    anchors = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 5.0, 2.0]])
    return PointHead(CHANNELS, anchors, nominal_depth_m=3.0, width=32, blocks=2)


@pytest.mark.parametrize('leading', [(7,), (2, 5), (2, 3, 4), (0,)])
def test_any_leading_shape_goes_through(head, leading):
    points, log_depth, log_error = head(torch.randn(*leading, CHANNELS))
    assert points.shape == (*leading, 3)
    assert log_depth.shape == log_error.shape == leading
    assert points.dtype == log_depth.dtype == log_error.dtype == torch.float32


def test_cells_do_not_see_each_other(head):
    features = torch.randn(6, CHANNELS)
    for whole, single in zip(head(features), head(features[2:3]), strict=True):
        torch.testing.assert_close(whole[2:3], single)


def test_points_start_near_the_mean_anchor_and_depths_near_the_nominal_one(head):
    points, log_depth, log_error = head(torch.randn(200, CHANNELS))
    mean = head.anchors_a3.mean(dim=0)
    assert (points - mean).norm(dim=1).max() < 0.5
    assert (log_depth - math.log(3.0)).abs().max() < 0.3
    assert (log_error - 1.0).abs().max() < 0.3


def test_outputs_stay_finite_and_within_bounds_for_huge_features(head):
    torch.nn.init.normal_(head.last.weight)
    for scale in (1e3, 1e6, 1e12):
        points, log_depth, log_error = head(scale * torch.randn(500, CHANNELS))
        assert points.isfinite().all()
        assert (log_depth - math.log(3.0)).abs().max() <= LOG_DEPTH_SPAN + 1e-5
        assert log_error.min() == LOG_ERROR_MIN and log_error.max() == LOG_ERROR_MAX


def test_a_cell_can_reach_any_anchor(head):
    with torch.no_grad():
        head.last.weight.zero_()
        for k in range(3):
            head.last.bias.zero_()
            head.last.bias[k] = 50.0
            points, _, _ = head(torch.randn(4, CHANNELS))
            torch.testing.assert_close(points, head.anchors_a3[k].expand(4, 3))


def test_the_inverse_scale_stretches_the_offset(head):
    with torch.no_grad():
        head.last.weight.zero_()
        head.last.bias[3:6] = torch.tensor([1.0, -2.0, 0.5])
        mean = head.anchors_a3.mean(dim=0)
        near, _, _ = head(torch.zeros(1, CHANNELS))
        torch.testing.assert_close(near[0] - mean, torch.tensor([1.0, -2.0, 0.5]) / 1.05,
                                   rtol=1e-3, atol=1e-4)
        head.last.bias[6] = -20.0
        far, _, _ = head(torch.zeros(1, CHANNELS))
        torch.testing.assert_close(far[0] - mean, torch.tensor([20.0, -40.0, 10.0]),
                                   rtol=1e-3, atol=1e-3)


def test_feature_statistics_standardise_the_input(head):
    features = torch.randn(9, CHANNELS)
    expected = head(features)
    mean, scale = torch.randn(CHANNELS), torch.rand(CHANNELS) + 0.5
    head.set_feature_statistics(mean, scale)
    for actual, before in zip(head(features / scale + mean), expected, strict=True):
        torch.testing.assert_close(actual, before, rtol=1e-4, atol=1e-4)
    assert {'feature_mean_c', 'feature_scale_c', 'anchors_a3'} <= set(head.state_dict())


def test_anchors_are_a_copy(head):
    anchors = torch.ones(2, 3)
    other = PointHead(CHANNELS, anchors)
    anchors.zero_()
    assert other.anchors_a3.eq(1).all()


def test_scripted_equals_eager_and_gradients_reach_every_weight(head):
    features = torch.randn(5, CHANNELS)
    for compiled, eager in zip(torch.jit.script(head)(features), head(features), strict=True):
        torch.testing.assert_close(compiled, eager)
    points, log_depth, log_error = head(features)
    (points.square().sum() + log_depth.sum() + log_error.sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
