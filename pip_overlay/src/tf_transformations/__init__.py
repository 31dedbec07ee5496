# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Homogeneous matrices, quaternions and Euler angles, as in ROS 2's tf_transformations.

Quaternions are x, y, z, w. Matrices are 4x4 and map column vectors. Euler axes are named as
there: 's' for turns about fixed axes or 'r' for turns about the turned axes, then the three axes
in the order of the angles; by default 'sxyz', roll, pitch and yaw. Everything over scipy.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Union

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import geometric_slerp
from scipy.spatial.transform import Rotation

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Quaternion = tuple[float, float, float, float]
QuaternionLike = Union[Sequence[float], Vector]

__all__ = [
    'concatenate_matrices',
    'euler_from_matrix',
    'euler_from_quaternion',
    'euler_matrix',
    'identity_matrix',
    'inverse_matrix',
    'quaternion_about_axis',
    'quaternion_conjugate',
    'quaternion_from_euler',
    'quaternion_from_matrix',
    'quaternion_inverse',
    'quaternion_matrix',
    'quaternion_multiply',
    'quaternion_slerp',
    'translation_from_matrix',
    'translation_matrix',
]


def identity_matrix() -> Matrix:
    """The 4x4 identity."""
    return np.identity(4)


def translation_matrix(direction: ArrayLike) -> Matrix:
    """The 4x4 matrix that moves by a vector."""
    matrix = np.identity(4)
    matrix[:3, 3] = direction
    return matrix


def translation_from_matrix(matrix: ArrayLike) -> Vector:
    """The vector that a 4x4 matrix moves by."""
    return np.array(matrix, dtype=np.float64)[:3, 3]


def concatenate_matrices(*matrices: ArrayLike) -> Matrix:
    """The product of 4x4 matrices, first times second times third ..."""
    product = np.identity(4)
    for matrix in matrices:
        product = product @ np.asarray(matrix)
    return product


def inverse_matrix(matrix: ArrayLike) -> Matrix:
    """The inverse of a square matrix."""
    return np.linalg.inv(np.asarray(matrix))


def quaternion_matrix(quaternion: QuaternionLike) -> Matrix:
    """The 4x4 rotation of a quaternion, which need not have length 1; identity for length 0."""
    if not np.any(quaternion):
        return np.identity(4)
    return _rotation_matrix(Rotation.from_quat(quaternion))


def quaternion_from_matrix(matrix: ArrayLike) -> Quaternion:
    """The quaternion with w >= 0 of the rotation in a 4x4 matrix."""
    rotation = Rotation.from_matrix(np.asarray(matrix)[:3, :3])
    return tuple(rotation.as_quat(canonical=True).tolist())


def euler_matrix(ai: float, aj: float, ak: float, axes: str = 'sxyz') -> Matrix:
    """The 4x4 rotation of three angles in radians."""
    return _rotation_matrix(Rotation.from_euler(_scipy_axes(axes), [ai, aj, ak]))


def euler_from_matrix(matrix: ArrayLike, axes: str = 'sxyz') -> tuple[float, float, float]:
    """Three angles in radians of the rotation in a matrix of 3x3 or 4x4; one triple of many."""
    rotation = Rotation.from_matrix(np.asarray(matrix)[:3, :3])
    with warnings.catch_warnings():
        # At gimbal lock one angle is free; callers of the real package are not warned of it.
        warnings.filterwarnings('ignore', 'Gimbal lock detected', UserWarning)
        return tuple(rotation.as_euler(_scipy_axes(axes)).tolist())


def quaternion_from_euler(ai: float, aj: float, ak: float, axes: str = 'sxyz') -> Quaternion:
    """The quaternion of three angles in radians."""
    return tuple(Rotation.from_euler(_scipy_axes(axes), [ai, aj, ak]).as_quat().tolist())


def euler_from_quaternion(
    quaternion: QuaternionLike, axes: str = 'sxyz'
) -> tuple[float, float, float]:
    """Three angles in radians of a quaternion."""
    return euler_from_matrix(quaternion_matrix(quaternion), axes)


def quaternion_about_axis(angle: float, axis: ArrayLike) -> Quaternion:
    """The quaternion of a turn by an angle in radians about an axis of any length."""
    direction = np.asarray(axis, dtype=np.float64)
    rotation = Rotation.from_rotvec(angle * direction / np.linalg.norm(direction))
    return tuple(rotation.as_quat().tolist())


def quaternion_multiply(quaternion1: QuaternionLike, quaternion0: QuaternionLike) -> Quaternion:
    """The Hamilton product: turn by quaternion0, then by quaternion1. Lengths multiply."""
    v1, w1 = np.asarray(quaternion1[:3], dtype=np.float64), float(quaternion1[3])
    v0, w0 = np.asarray(quaternion0[:3], dtype=np.float64), float(quaternion0[3])
    vector = w1 * v0 + w0 * v1 + np.cross(v1, v0)
    return (*vector.tolist(), w1 * w0 - float(v1 @ v0))


def quaternion_conjugate(quaternion: QuaternionLike) -> Vector:
    """The quaternion with its vector part negated."""
    return np.asarray(quaternion, dtype=np.float64) * [-1.0, -1.0, -1.0, 1.0]


def quaternion_inverse(quaternion: QuaternionLike) -> Vector:
    """The quaternion whose product with the given one is (0, 0, 0, 1)."""
    return quaternion_conjugate(quaternion) / np.dot(quaternion, quaternion)


def quaternion_slerp(
    quat0: QuaternionLike, quat1: QuaternionLike, fraction: float, shortestpath: bool = True
) -> Vector:
    """Between quat0 (fraction 0) and quat1 (1) along the great circle.

    Args:
        shortestpath: Take the shorter of the two ways between the rotations.
    """
    q0, q1 = (np.array(q, dtype=np.float64) / np.linalg.norm(q) for q in (quat0, quat1))
    if shortestpath and 0.0 < fraction < 1.0 and q0 @ q1 < 0.0:
        q1 = -q1
    return geometric_slerp(q0, q1, fraction).reshape(4)


def _scipy_axes(axes: str) -> str:
    """scipy writes turns about fixed axes in lower case, about turned axes in upper case."""
    if len(axes) != 4 or axes[0] not in 'sr' or not set(axes[1:]) <= set('xyz'):
        raise KeyError(f'{axes!r} names no Euler axes; it has to be like sxyz or rzyx')
    return axes[1:] if axes[0] == 's' else axes[1:].upper()


def _rotation_matrix(rotation: Rotation) -> Matrix:
    matrix = np.identity(4)
    matrix[:3, :3] = rotation.as_matrix()
    return matrix
