# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""How well matched points of two images agree with the relative pose of their cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from implicit_relocalizer.data.frames import Float64Array

# Rays that meet at less than this angle say nothing about which side of the camera they meet on.
_SMALLEST_PARALLAX_RAD = np.radians(0.3)


@dataclass(frozen=True)
class MatchedPair:
    """Two frames and n matched points in them.

    Attributes:
        first: Index of a frame in its scene.
        second: Index of the other frame.
        points_first_n2: Pixels of the frame's own image, pixel centres at integers.
        points_second_n2: The same points in the other image.
        displacement_px: Median distance that the points move from image to image.
        free_error_px: Median Sampson error under the fundamental matrix fitted to the matches
            alone, which no pose can be much better than.
    """

    first: int
    second: int
    points_first_n2: Float64Array
    points_second_n2: Float64Array
    displacement_px: float
    free_error_px: float

    def __len__(self) -> int:
        return len(self.points_first_n2)


def sampson_errors_px(F_33: Float64Array, points_first_n2: Float64Array,
                      points_second_n2: Float64Array) -> Float64Array:
    """First-order distance (n,) in pixels of matches from x_second^T F x_first = 0.

    Hartley & Zisserman, Multiple View Geometry, 2nd edition, eq. 11.9 (its square root). It is
    symmetric in the two images.
    """
    first_n3, second_n3 = _homogeneous(points_first_n2), _homogeneous(points_second_n2)
    lines_second_n3 = first_n3 @ F_33.T
    lines_first_n3 = second_n3 @ F_33
    residuals_n = np.abs(np.sum(second_n3 * lines_second_n3, axis=1))
    gradients_n = np.sqrt(np.sum(lines_second_n3[:, :2] ** 2, axis=1)
                          + np.sum(lines_first_n3[:, :2] ** 2, axis=1))
    return residuals_n / np.maximum(gradients_n, 1e-300)


def fundamental_matrix(K_first_33: Float64Array, K_second_33: Float64Array,
                       T_second_first: Float64Array) -> Float64Array:
    """F = K_second^-T [t]x R K_first^-1 of the relative pose, scaled to |t| = 1.

    Args:
        K_first_33: Intrinsics of the first image.
        K_second_33: Intrinsics of the second image.
        T_second_first: 4x4, maps points of the first camera frame into the second.
    """
    t_3 = T_second_first[:3, 3] / np.linalg.norm(T_second_first[:3, 3])
    return (np.linalg.inv(K_second_33).T @ _cross_matrix(t_3) @ T_second_first[:3, :3]
            @ np.linalg.inv(K_first_33))


def epipolar_error_px(pair: MatchedPair, K_first_33: Float64Array, K_second_33: Float64Array,
                      T_second_first: Float64Array) -> float:
    """Median Sampson error of a pair; of the rotation alone where nothing is translated."""
    if np.linalg.norm(T_second_first[:3, 3]) < 1e-9:
        return rotation_error_px(pair, K_first_33, K_second_33, T_second_first)
    F_33 = fundamental_matrix(K_first_33, K_second_33, T_second_first)
    return float(np.median(
        sampson_errors_px(F_33, pair.points_first_n2, pair.points_second_n2)))


def rotation_error_px(pair: MatchedPair, K_first_33: Float64Array, K_second_33: Float64Array,
                      T_second_first: Float64Array) -> float:
    """Median distance of the matches from K R K^-1 x, where only a rotation would take them."""
    H_33 = K_second_33 @ T_second_first[:3, :3] @ np.linalg.inv(K_first_33)
    moved_n3 = _homogeneous(pair.points_first_n2) @ H_33.T
    in_front_n = moved_n3[:, 2] > 1e-9
    moved_n2 = moved_n3[:, :2] / np.where(in_front_n, moved_n3[:, 2], 1.0)[:, None]
    distances_n = np.linalg.norm(moved_n2 - pair.points_second_n2, axis=1)
    # Turned out of the picture: farther away than any distance in it.
    return float(np.median(np.where(in_front_n, distances_n, 1e6)))


def triangulate_depths(pair: MatchedPair, K_first_33: Float64Array, K_second_33: Float64Array,
                       T_second_first: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Depths (n,) of the matches in both cameras, negative behind them, NaN without parallax.

    With rays a (of the first camera, rotated into the second) and b, `z_b b = z_a a + t` is
    crossed with b, and with a, and solved by least squares.
    """
    R_33, t_3 = T_second_first[:3, :3], T_second_first[:3, 3]
    a_n3 = _homogeneous(pair.points_first_n2) @ (R_33 @ np.linalg.inv(K_first_33)).T
    b_n3 = _homogeneous(pair.points_second_n2) @ np.linalg.inv(K_second_33).T
    normal_n3 = np.cross(b_n3, a_n3)
    cross_t_33 = _cross_matrix(t_3)  # x @ [t]x is x cross t
    square_n = np.sum(normal_n3 ** 2, axis=1)
    sine_n = np.sqrt(square_n) / (np.linalg.norm(a_n3, axis=1) * np.linalg.norm(b_n3, axis=1))
    with np.errstate(divide='ignore', invalid='ignore'):
        z_a_n = -np.sum((b_n3 @ cross_t_33) * normal_n3, axis=1) / square_n
        z_b_n = -np.sum((a_n3 @ cross_t_33) * normal_n3, axis=1) / square_n
    seen_n = sine_n > np.sin(_SMALLEST_PARALLAX_RAD)
    return np.where(seen_n, z_a_n, np.nan), np.where(seen_n, z_b_n, np.nan)


def share_in_front(pair: MatchedPair, K_first_33: Float64Array, K_second_33: Float64Array,
                   T_second_first: Float64Array) -> float:
    """Share of the matches with parallax that lie before both cameras; NaN if none has any."""
    z_a_n, z_b_n = triangulate_depths(pair, K_first_33, K_second_33, T_second_first)
    seen_n = np.isfinite(z_a_n) & np.isfinite(z_b_n)
    if not seen_n.any():
        return float('nan')
    return float(np.mean((z_a_n[seen_n] > 0) & (z_b_n[seen_n] > 0)))


def _cross_matrix(t_3: Float64Array) -> Float64Array:
    return np.array([[0, -t_3[2], t_3[1]], [t_3[2], 0, -t_3[0]], [-t_3[1], t_3[0], 0]])


def _homogeneous(points_n2: Float64Array) -> Float64Array:
    return np.column_stack([points_n2, np.ones(len(points_n2))])
