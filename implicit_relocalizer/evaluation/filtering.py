# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""A plain Kalman filter over odometry and poses: what the poses' covariances are worth to it.

The state is the pose T_map_camera; its error, as REP-103 covariances have it, the position's in
the map (metres) and a rotation vector about the map's fixed axes (radians), log(R R_true^T).
Solà, Deray and Atchuthan, "A micro Lie theory for state estimation in robotics", 2018, section V,
but for the order of translation and rotation, which are kept apart here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from implicit_relocalizer.evaluation.metrics import Float64Array


@dataclass(frozen=True)
class OdometryNoise:
    """Standard deviations of the drift, that of a random walk, about every axis alike.

    Attributes:
        position_m: After one metre.
        rotation_deg: After one metre.
        turning_deg: After turning by one radian.
    """

    position_m: float = 0.02
    rotation_deg: float = 0.5
    turning_deg: float = 1.0

    def variances(self, motion_n44: Float64Array) -> Float64Array:
        """Of position and rotation (n, 6), in the camera's axes, for motions (n, 4, 4)."""
        distance_n = np.linalg.norm(motion_n44[:, :3, 3], axis=1)
        turned_n = Rotation.from_matrix(motion_n44[:, :3, :3]).magnitude()
        position_n = self.position_m ** 2 * distance_n
        rotation_n = (np.radians(self.rotation_deg) ** 2 * distance_n
                      + np.radians(self.turning_deg) ** 2 * turned_n)
        return np.repeat(np.stack([position_n, rotation_n], axis=1), 3, axis=1)


def drift(T_map_camera_n44: Float64Array, noise: OdometryNoise, seeds: Sequence[int],
          ) -> tuple[Float64Array, Float64Array]:
    """Odometry of a drive, once for each of b seeds.

    Returns:
        motion_bn44: From each camera to the next, with noise; the first one is identity.
        variances_n6: Of that noise, in the axes of the camera that is reached.
    """
    before_n44 = np.concatenate([T_map_camera_n44[:1], T_map_camera_n44[:-1]])
    motion_n44 = np.linalg.inv(before_n44) @ T_map_camera_n44
    variances_n6 = noise.variances(motion_n44)
    motions = []
    for seed in seeds:
        drawn_n6 = np.random.default_rng(seed).normal(size=variances_n6.shape) * np.sqrt(
            variances_n6)
        motions.append(motion_n44 @ _transforms(drawn_n6))
    return np.array(motions), variances_n6


def run_filter(motion_bn44: Float64Array, motion_variances_n6: Float64Array,
               measured_n44: Float64Array, is_measured_n: np.ndarray,
               covariance_bn66: Float64Array) -> Float64Array:
    """Filter b drives over the same n images side by side.

    A filter begins with its first pose and that pose's covariance.

    Args:
        motion_bn44: Odometry, from each camera to the next; the first is not looked at.
        motion_variances_n6: Of its noise, in the axes of the camera that is reached.
        measured_n44: Poses T_map_camera.
        is_measured_n: Which of them there are.
        covariance_bn66: What each filter is told about each of them.

    Returns:
        T_map_camera (b, n, 4, 4) after each image; NaN before the first pose.
    """
    count_b, count_n = motion_bn44.shape[:2]
    filtered_bn44 = np.full((count_b, count_n, 4, 4), np.nan)
    first = int(np.argmax(is_measured_n))
    T_b44 = np.repeat(measured_n44[first][None], count_b, axis=0)
    P_b66 = covariance_bn66[:, first].copy()
    filtered_bn44[:, first] = T_b44
    for i in range(first + 1, count_n):
        T_b44, P_b66 = _predict(T_b44, P_b66, motion_bn44[:, i], motion_variances_n6[i])
        if is_measured_n[i]:
            T_b44, P_b66 = _update(T_b44, P_b66, measured_n44[i], covariance_bn66[:, i])
        filtered_bn44[:, i] = T_b44
    return filtered_bn44


def _predict(T_b44: Float64Array, P_b66: Float64Array, motion_b44: Float64Array,
             variances_6: Float64Array) -> tuple[Float64Array, Float64Array]:
    """A turned camera goes astray: the position's error grows by rotation error x path."""
    path_b3 = (T_b44[:, :3, :3] @ motion_b44[:, :3, 3:])[..., 0]
    F_b66 = np.repeat(np.eye(6)[None], len(T_b44), axis=0)
    F_b66[:, :3, 3:] = -_cross(path_b3)
    reached_b44 = T_b44 @ motion_b44
    G_b66 = np.zeros_like(P_b66)
    G_b66[:, :3, :3] = G_b66[:, 3:, 3:] = reached_b44[:, :3, :3]
    return reached_b44, (F_b66 @ P_b66 @ F_b66.swapaxes(1, 2)
                         + (G_b66 * variances_6) @ G_b66.swapaxes(1, 2))


def _update(T_b44: Float64Array, P_b66: Float64Array, measured_44: Float64Array,
            covariance_b66: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The pose's own error coordinates are the state's: the measurement matrix is identity."""
    R_b33 = T_b44[:, :3, :3]
    innovation_b6 = np.concatenate([
        measured_44[:3, 3] - T_b44[:, :3, 3],
        Rotation.from_matrix(measured_44[:3, :3] @ R_b33.swapaxes(1, 2)).as_rotvec()], axis=1)
    gain_b66 = np.linalg.solve(P_b66 + covariance_b66, P_b66).swapaxes(1, 2)
    correction_b6 = (gain_b66 @ innovation_b6[..., None])[..., 0]
    updated_b44 = T_b44.copy()
    updated_b44[:, :3, 3] += correction_b6[:, :3]
    updated_b44[:, :3, :3] = (Rotation.from_rotvec(correction_b6[:, 3:])
                              * Rotation.from_matrix(R_b33)).as_matrix()
    kept_b66 = np.eye(6) - gain_b66
    # Joseph's form stays symmetric and positive.
    return updated_b44, (kept_b66 @ P_b66 @ kept_b66.swapaxes(1, 2)
                         + gain_b66 @ covariance_b66 @ gain_b66.swapaxes(1, 2))


def _transforms(error_n6: Float64Array) -> Float64Array:
    T_n44 = np.repeat(np.eye(4)[None], len(error_n6), axis=0)
    T_n44[:, :3, 3] = error_n6[:, :3]
    T_n44[:, :3, :3] = Rotation.from_rotvec(error_n6[:, 3:]).as_matrix()
    return T_n44


def _cross(vector_b3: Float64Array) -> Float64Array:
    """The matrix of the cross product with each vector."""
    return np.cross(vector_b3[:, None, :], np.eye(3)[None]).swapaxes(1, 2)
