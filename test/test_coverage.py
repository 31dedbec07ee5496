# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Covariances beside the errors they were stated for."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from implicit_relocalizer.evaluation.coverage import (
    SIGMAS,
    classify_covariances,
    count_kinds,
    limit_of,
    measure_coverage,
    rotation_errors,
    share_of,
)


def random_covariances(generator, count):
    factors = generator.normal(size=(count, 3, 3))
    return 1e-4 * (factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(3))


@pytest.fixture(scope='module')
def drawn():
    """Errors drawn from the covariances that go with them, each another one."""
    generator = np.random.default_rng(3)
    covariance_n33 = random_covariances(generator, 4000)
    unit = generator.normal(size=(4000, 3, 1))
    return (np.linalg.cholesky(covariance_n33) @ unit)[..., 0], covariance_n33


def test_the_limits_are_those_of_three_degrees_of_freedom():
    # Tables of the chi-square distribution.
    assert [share_of(s) for s in SIGMAS] == pytest.approx([0.6827, 0.9545, 0.9973], abs=5e-5)
    assert [limit_of(s, 3) ** 2 for s in SIGMAS] == pytest.approx([3.527, 8.025, 14.156], abs=1e-3)


def test_true_covariances_cover_what_they_should(drawn):
    coverage = measure_coverage(*drawn)
    assert [coverage.within(s) for s in SIGMAS] == pytest.approx(
        [0.683, 0.954, 0.997], abs=0.02)
    values = coverage.to_dict()
    histogram = values['histogram']
    assert sum(histogram['counts']) + histogram['beyond'] == values['compared'] == 4000
    np.testing.assert_allclose(np.array(histogram['counts']) / 4000,
                               histogram['expected_shares'], atol=0.02)
    assert values['median_normalised_error'] == pytest.approx(
        values['expected_median_normalised_error'], rel=0.03)
    json.dumps(values, allow_nan=False)


@pytest.mark.parametrize(('scale', 'low', 'high'), [(0.25, 0.15, 0.35), (4.0, 0.97, 1.0)])
def test_wrong_covariances_do_not(drawn, scale, low, high):
    errors_n3, covariance_n33 = drawn
    assert low < measure_coverage(errors_n3, scale * covariance_n33).within(1) < high


def test_a_sign_or_a_turn_of_the_frame_changes_nothing(drawn):
    errors_n3, covariance_n33 = drawn
    R = Rotation.from_rotvec([0.3, -1.0, 2.0]).as_matrix()
    turned = measure_coverage(-errors_n3 @ R.T, R @ covariance_n33 @ R.T)
    np.testing.assert_allclose(turned.normalised_n,
                               measure_coverage(errors_n3, covariance_n33).normalised_n, rtol=1e-6)


def test_each_kind_of_covariance_is_told(drawn):
    valid = np.diag([1e-4, 4e-4, 9e-4])
    one_sided, negative, nan = valid.copy(), valid.copy(), valid.copy()
    one_sided[0, 1] = 1e-5
    negative[2, 2] = -1.0
    nan[1, 1] = np.nan
    over_correlated = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    matrices = np.array([valid, np.zeros((3, 3)), one_sided, negative, over_correlated, nan])
    expected = ['valid', 'zero', 'not_symmetric', 'not_positive_definite',
                'not_positive_definite', 'not_finite']
    assert classify_covariances(matrices).tolist() == expected
    coverage = measure_coverage(np.tile([0.01, 0.02, 0.03], (6, 1)), matrices)
    assert coverage.normalised_n[0] == pytest.approx(np.sqrt(3.0))
    assert np.isnan(coverage.normalised_n[1:]).all()
    assert count_kinds(coverage.kinds) == {
        'valid': 1, 'zero': 1, 'not_symmetric': 1, 'not_positive_definite': 2, 'not_finite': 1}


def test_metres_and_radians_of_any_size_mix():
    mixed = np.diag([1e6, 1e6, 1e6, 1e-12, 1e-12, 1e-12])
    assert classify_covariances(mixed[None]).tolist() == ['valid']


def test_nothing_usable_is_none_and_not_a_share():
    coverage = measure_coverage(np.ones((2, 3)), np.zeros((2, 3, 3)))
    assert coverage.within(1) is None
    values = json.loads(json.dumps(coverage.to_dict(), allow_nan=False))
    assert values['compared'] == 0 and values['median_normalised_error'] is None
    assert measure_coverage(np.empty((0, 3)), np.empty((0, 3, 3))).within(2) is None


def test_rotation_errors_are_about_the_axes_of_the_map():
    R_true = Rotation.random(5, rng=1)
    turn = np.array([0.0, 0.0, 0.1])
    R_estimate = Rotation.from_rotvec(turn) * R_true
    np.testing.assert_allclose(rotation_errors(R_true.as_matrix(), R_estimate.as_matrix()),
                               np.tile(turn, (5, 1)), atol=1e-12)
    assert rotation_errors(np.empty((0, 3, 3)), np.empty((0, 3, 3))).shape == (0, 3)


@pytest.mark.parametrize(('errors', 'covariance', 'message'), [
    (np.ones((2, 3)), np.ones((2, 3)), r'expected \(n, k\) and \(n, k, k\)'),
    (np.ones((2, 3)), np.ones((3, 3, 3)), r'expected \(n, k\) and \(n, k, k\)'),
    (np.full((2, 3), np.nan), np.ones((2, 3, 3)), 'NaN or infinity'),
])
def test_mistakes_are_named(errors, covariance, message):
    with pytest.raises(ValueError, match=message):
        measure_coverage(errors, covariance)
