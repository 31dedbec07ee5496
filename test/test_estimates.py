# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What is made of an answer: transforms, covariances, bounds, the confidence it needs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from supervised_run import fix, transform

from implicit_relocalizer.localization.agreement import (
    invert,
)
from implicit_relocalizer.localization.estimate import (
    MappedBounds,
    PoseEstimate,
    check_inside_map,
    least_confidence,
)
from implicit_relocalizer.localization.frames import (
    map_from_odometry,
    move_covariance,
    widen_covariance,
)
from implicit_relocalizer.localization.rejection import NoPoseError, Reason


def test_a_rotation_of_single_precision_becomes_exact():
    R = Rotation.from_euler('xyz', [0.3, -1.1, 2.0]).as_matrix().astype(np.float32)
    T = PoseEstimate(R.astype(np.float64), np.zeros(3), np.eye(6), 1.0, 1.0).T_map_camera
    assert np.abs(R.astype(np.float64) @ R.T - np.eye(3)).max() > 1e-9
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(T[:3, :3], R, atol=2e-7)


def test_map_to_odom_closes_the_chain():
    rng = np.random.default_rng(0)
    def any_transform() -> np.ndarray:
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
        return T
    T_map_camera, T_odom_camera = any_transform(), any_transform()
    T_map_odom = map_from_odometry(T_map_camera, T_odom_camera)
    np.testing.assert_allclose(T_map_odom @ T_odom_camera, T_map_camera, atol=1e-12)
    np.testing.assert_allclose(invert(T_map_odom) @ T_map_odom, np.eye(4), atol=1e-12)


def test_the_covariance_of_the_base_is_that_of_moved_samples():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(6, 6)) * 1e-3
    covariance = A @ A.T
    T_map_camera = transform(3.0, 40.0, -2.0)
    T_camera_base = transform(-0.4, 15.0, 0.7)
    T_camera_base[2, 3] = -1.2
    base = []
    for error in rng.multivariate_normal(np.zeros(6), covariance, size=40000):
        T = T_map_camera.copy()
        T[:3, :3] = Rotation.from_rotvec(error[3:]).as_matrix() @ T[:3, :3]
        T[:3, 3] += error[:3]
        base.append((T @ T_camera_base)[:3, 3])
    moved = move_covariance(covariance, T_map_camera, T_camera_base)
    np.testing.assert_allclose(np.cov(np.transpose(base)), moved[:3, :3],
                               atol=0.03 * moved[:3, :3].max())
    np.testing.assert_allclose(moved[3:, 3:], covariance[3:, 3:], atol=1e-15)


def test_widening_leaves_no_variance_too_small_and_stays_positive_definite():
    covariance = np.diag([0.04, 1e-6, 1e-6, 1e-8, 1e-8, 0.1])
    covariance[0, 1] = covariance[1, 0] = 1e-4
    wide = widen_covariance(covariance, 0.1, 0.05)
    np.testing.assert_allclose(np.diag(wide), [0.04, 0.01, 0.01, 0.0025, 0.0025, 0.1])
    assert np.linalg.eigvalsh(wide).min() > 0.0 and wide[0, 1] == 1e-4


def test_an_answer_outside_of_the_mapped_volume_is_refused_with_the_distance():
    bounds = MappedBounds((0.0, 0.0, 1.0), (10.0, 5.0, 1.2))
    estimate = fix(0.0, transform(12.0, y_m=2.0)).estimate
    assert bounds.distance_m(np.array([5.0, 2.0, 1.1])) == 0.0
    check_inside_map(estimate, bounds, margin_m=2.5)
    with pytest.raises(NoPoseError, match=r'2\.24 m outside .* map_margin_m 2\.00') as caught:
        check_inside_map(estimate, bounds, margin_m=2.0)
    assert caught.value.reason is Reason.OUTSIDE


def test_the_confidence_needed_is_the_parameter_or_the_models():
    assert least_confidence(0.6, {'min_confidence': 0.4}) == 0.6
    assert least_confidence(0.0, {'min_confidence': 0.4}) == 0.0
    assert least_confidence(-1.0, {'min_confidence': 0.4}) == 0.4
    assert 0.0 < least_confidence(-1.0, {}) < 1.0
