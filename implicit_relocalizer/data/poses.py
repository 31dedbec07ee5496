# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Poses as they come from files: checked, and rotations made exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import Float64Array, SceneError

# Poses printed with four digits pass; scaled, mirrored or transposed-away ones do not.
ROTATION_TOLERANCE = 1e-2
# Below this a rotation is as good as float64 text gives it and stays as it was read.
_EXACT = 1e-9


def checked_pose(T_world_camera: Float64Array, source: object) -> Float64Array:
    """A 4x4 rigid transform as read from a file, its rotation made exact.

    Small deviations, as rounding to a few digits leaves them, are projected to the nearest
    rotation (in the Frobenius norm, by singular value decomposition).

    Args:
        T_world_camera: 4x4 (or 3x4, the last row of a rigid transform is added).
        source: What to name in an error, usually the file.

    Raises:
        SceneError: NaN or infinity, a wrong shape, no rotation, or another last row.
    """
    T_44 = np.array(T_world_camera, dtype=np.float64)
    if T_44.shape == (3, 4):
        T_44 = np.vstack([T_44, [0.0, 0.0, 0.0, 1.0]])
    if T_44.shape != (4, 4):
        raise SceneError(f'{source}: shape {T_44.shape}, expected (4, 4)')
    if not np.isfinite(T_44).all():
        value = T_44[~np.isfinite(T_44)][0]
        raise SceneError(f'{source}: holds NaN or infinity ({value} in the pose: tracking was '
                         f'lost?); drop the frame or repair the pose')
    R_33 = T_44[:3, :3]
    error = float(np.abs(R_33 @ R_33.T - np.eye(3)).max())
    determinant = float(np.linalg.det(R_33))
    if error > ROTATION_TOLERANCE or determinant < 0:
        raise SceneError(
            f'{source}: the upper left 3x3 is no rotation (R R^T differs from identity by '
            f'{error:.2g}, determinant {determinant:.3f}); poses are rigid transforms in metres')
    if not np.allclose(T_44[3], [0.0, 0.0, 0.0, 1.0]):
        raise SceneError(f'{source}: last row is {T_44[3].tolist()}, expected 0 0 0 1')
    if error > _EXACT:
        U, _, V_T = np.linalg.svd(R_33)
        T_44[:3, :3] = U @ V_T
    return T_44


def pose_from_quaternion(quaternion_xyzw: Sequence[float], translation: Sequence[float],
                         source: object) -> Float64Array:
    """The 4x4 transform of a quaternion (x, y, z, w) and a translation.

    Raises:
        SceneError: NaN, infinity, or a quaternion whose norm is not 1 (to 1 %).
    """
    values = np.array([*quaternion_xyzw, *translation], dtype=np.float64)
    if not np.isfinite(values).all():
        raise SceneError(f'{source}: holds NaN or infinity ({values.tolist()})')
    norm = float(np.linalg.norm(values[:4]))
    if abs(norm - 1.0) > ROTATION_TOLERANCE:
        raise SceneError(f'{source}: the quaternion {values[:4].tolist()} (x, y, z, w) has the '
                         f'norm {norm:.4g}, expected 1')
    T_44 = np.eye(4)
    T_44[:3, :3] = Rotation.from_quat(values[:4]).as_matrix()
    T_44[:3, 3] = values[4:]
    return T_44
