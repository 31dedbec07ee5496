# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Quaternion and matrix conventions against values known from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip(
    'tf_transformations', reason='tf_transformations is not installed: see pip_overlay/README.md'
)

import tf_transformations as tft

HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ('angles', 'xyzw'),
    [
        ((math.pi / 2, 0.0, 0.0), (HALF, 0.0, 0.0, HALF)),
        ((0.0, math.pi / 2, 0.0), (0.0, HALF, 0.0, HALF)),
        ((0.0, 0.0, math.pi / 2), (0.0, 0.0, HALF, HALF)),
        # The optical frame of a camera that looks along its body's x.
        ((-math.pi / 2, 0.0, -math.pi / 2), (-0.5, 0.5, -0.5, 0.5)),
    ],
)
def test_roll_pitch_yaw_to_xyzw(
    angles: tuple[float, float, float], xyzw: tuple[float, float, float, float]
) -> None:
    assert tft.quaternion_from_euler(*angles) == pytest.approx(xyzw)
    assert tft.euler_from_quaternion(xyzw) == pytest.approx(angles)


def test_quaternion_from_euler_of_the_published_example() -> None:
    # From the documentation of transformations.py.
    expected = [0.310622, -0.718287, 0.444435, 0.435953]
    assert tft.quaternion_from_euler(1, 2, 3, 'ryxz') == pytest.approx(expected, abs=1e-6)


def test_quaternion_multiply_of_the_published_example() -> None:
    # From the documentation of transformations.py; the product of unnormalized quaternions.
    product = tft.quaternion_multiply([1, -2, 3, 4], [-5, 6, 7, 8])
    assert product == pytest.approx([-44, -14, 48, 28])


def test_static_and_rotating_axes_are_mirrored() -> None:
    fixed = tft.euler_matrix(0.1, 0.2, 0.3, 'sxyz')
    turning = tft.euler_matrix(0.3, 0.2, 0.1, 'rzyx')
    np.testing.assert_allclose(fixed, turning, atol=1e-12)
    x, y, z = (
        tft.quaternion_matrix(tft.quaternion_about_axis(angle, axis))
        for angle, axis in ((0.1, [1, 0, 0]), (0.2, [0, 1, 0]), (0.3, [0, 0, 1]))
    )
    np.testing.assert_allclose(fixed, z @ y @ x, atol=1e-12)


def test_unknown_axes_are_refused() -> None:
    with pytest.raises(KeyError):
        tft.euler_matrix(0.1, 0.2, 0.3, 'xyz')


def test_matrix_maps_column_vectors_and_has_room_for_a_translation() -> None:
    matrix = tft.quaternion_matrix((0.0, 0.0, HALF, HALF))
    assert matrix.shape == (4, 4)
    np.testing.assert_allclose(matrix @ [1, 0, 0, 1], [0, 1, 0, 1], atol=1e-12)
    T = tft.concatenate_matrices(tft.translation_matrix((1, 2, 3)), matrix)
    np.testing.assert_allclose(T @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    np.testing.assert_allclose(tft.translation_from_matrix(T), [1, 2, 3])
    np.testing.assert_allclose(T @ tft.inverse_matrix(T), np.eye(4), atol=1e-12)
    assert tft.quaternion_from_matrix(T) == pytest.approx((0.0, 0.0, HALF, HALF))


def test_quaternion_of_any_length_gives_a_rotation_and_length_zero_the_identity() -> None:
    np.testing.assert_allclose(
        tft.quaternion_matrix((0.0, 0.0, 3.0, 3.0)), tft.quaternion_matrix((0, 0, HALF, HALF))
    )
    np.testing.assert_array_equal(tft.quaternion_matrix((0.0, 0.0, 0.0, 0.0)), np.eye(4))


def test_inverse_undoes_a_rotation() -> None:
    quaternion = tft.quaternion_from_euler(0.3, -0.4, 2.0)
    product = tft.quaternion_multiply(quaternion, tft.quaternion_inverse(quaternion))
    assert product == pytest.approx((0.0, 0.0, 0.0, 1.0))


def test_slerp_takes_the_shorter_arc_unless_told() -> None:
    start = tft.quaternion_about_axis(0.0, (0, 0, 1))
    end = tft.quaternion_about_axis(math.radians(90), (0, 0, 1))
    opposite = -np.array(end)  # the same rotation
    expected = tft.quaternion_about_axis(math.radians(30), (0, 0, 1))
    assert tft.quaternion_slerp(start, end, 1 / 3) == pytest.approx(expected)
    assert tft.quaternion_slerp(start, opposite, 1 / 3) == pytest.approx(expected)
    longer = tft.quaternion_slerp(start, opposite, 1 / 3, shortestpath=False)
    assert longer == pytest.approx(tft.quaternion_about_axis(math.radians(-90), (0, 0, 1)))
    assert tft.quaternion_slerp(end, end, 0.4) == pytest.approx(end)
