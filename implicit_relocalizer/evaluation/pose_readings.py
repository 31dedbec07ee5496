# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The ways in which files write down a camera pose, and how to convert each into ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import Float64Array

# Right-multiplied to camera-to-world: from other camera axes to x right, y down, z forward.
_FROM_OPENGL_44 = np.diag([1.0, -1.0, -1.0, 1.0])
_FROM_ROS_BODY_44 = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_MIRROR_Y_44 = np.diag([1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class PoseReading:
    """A way of reading a 4x4 matrix as a camera pose.

    Attributes:
        key: Name in results.
        title: Name for a person.
        formula: What turns a matrix written this way into T_world_camera with OpenCV axes.
        numpy_line: The same as one line of numpy over `T`.
        convert: The same for n of them, (n, 4, 4) -> (n, 4, 4).
        is_common: One of the four that files use most: direction x camera axes.
    """

    key: str
    title: str
    formula: str
    numpy_line: str
    convert: Callable[[Float64Array], Float64Array]
    is_common: bool = False


def _identity(T_n44: Float64Array) -> Float64Array:
    return T_n44


def _inverse(T_n44: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.inv(T_n44), np.float64)


def _transpose_rotation(T_n44: Float64Array) -> Float64Array:
    """Rotation world-to-camera beside the camera's position (NVM, VisualSFM)."""
    out_n44 = T_n44.copy()
    out_n44[:, :3, :3] = T_n44[:, :3, :3].transpose(0, 2, 1)
    return out_n44


def _roll_quaternion(steps: int) -> Callable[[Float64Array], Float64Array]:
    def convert(T_n44: Float64Array) -> Float64Array:
        out_n44 = T_n44.copy()
        quaternions_n4 = Rotation.from_matrix(T_n44[:, :3, :3]).as_quat()
        out_n44[:, :3, :3] = Rotation.from_quat(np.roll(quaternions_n4, steps, axis=1)).as_matrix()
        return out_n44
    return convert


def _of_inverse(convert: Callable[[Float64Array], Float64Array],
                ) -> Callable[[Float64Array], Float64Array]:
    """The conversion applied to the file's own world-to-camera matrix."""
    return lambda T_n44: _inverse(convert(_inverse(T_n44)))


_GL = 'np.diag([1, -1, -1, 1])'
_BODY = 'np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])'
_QUATERNION = ('T[:3, :3] = Rotation.from_quat('
               'np.roll(Rotation.from_matrix(T[:3, :3]).as_quat(), {0})).as_matrix()')
_QUATERNION_OF_INVERSE = ('T = np.linalg.inv(T); ' + _QUATERNION
                          + '; T_world_camera = np.linalg.inv(T)')

GIVEN = PoseReading(
    'camera_to_world_opencv', 'camera-to-world, OpenCV axes', 'T_world_camera = T',
    'T_world_camera = T', _identity, True)

READINGS = (
    GIVEN,
    PoseReading(
        'world_to_camera_opencv', 'world-to-camera, OpenCV axes', 'T_world_camera = T^-1',
        'T_world_camera = np.linalg.inv(T)', _inverse, True),
    PoseReading(
        'camera_to_world_opengl', 'camera-to-world, OpenGL axes',
        'T_world_camera = T diag(1, -1, -1, 1)', f'T_world_camera = T @ {_GL}',
        lambda T: T @ _FROM_OPENGL_44, True),
    PoseReading(
        'world_to_camera_opengl', 'world-to-camera, OpenGL axes',
        'T_world_camera = T^-1 diag(1, -1, -1, 1)',
        f'T_world_camera = np.linalg.inv(T) @ {_GL}',
        lambda T: _inverse(T) @ _FROM_OPENGL_44, True),
    PoseReading(
        'camera_to_world_ros_body', 'camera-to-world, ROS body axes (x forward, z up)',
        'T_world_camera = T_world_body T_body_optical',
        f'T_world_camera = T @ {_BODY}', lambda T: T @ _FROM_ROS_BODY_44),
    PoseReading(
        'world_to_camera_ros_body', 'world-to-camera, ROS body axes (x forward, z up)',
        'T_world_camera = T^-1 T_body_optical',
        f'T_world_camera = np.linalg.inv(T) @ {_BODY}',
        lambda T: _inverse(T) @ _FROM_ROS_BODY_44),
    PoseReading(
        'camera_to_world_left_handed', 'camera-to-world, left-handed (Unity: y up, z forward)',
        'T_world_camera = M T M, M = diag(1, -1, 1, 1)',
        'M = np.diag([1, -1, 1, 1]); T_world_camera = M @ T @ M',
        lambda T: _MIRROR_Y_44 @ T @ _MIRROR_Y_44),
    PoseReading(
        'world_to_camera_left_handed', 'world-to-camera, left-handed (Unity: y up, z forward)',
        'T_world_camera = M T^-1 M, M = diag(1, -1, 1, 1)',
        'M = np.diag([1, -1, 1, 1]); T_world_camera = M @ np.linalg.inv(T) @ M',
        lambda T: _MIRROR_Y_44 @ _inverse(T) @ _MIRROR_Y_44),
    PoseReading(
        'rotation_transposed_opencv', 'rotation world-to-camera beside the camera\'s position',
        'R_world_camera = R^T, t unchanged', 'T[:3, :3] = T[:3, :3].T', _transpose_rotation),
    PoseReading(
        'rotation_transposed_opengl',
        'rotation world-to-camera (OpenGL axes) beside the camera\'s position',
        'R_world_camera = R^T diag(1, -1, -1), t unchanged',
        'T[:3, :3] = T[:3, :3].T @ np.diag([1, -1, -1])',
        lambda T: _transpose_rotation(T) @ _FROM_OPENGL_44),
    PoseReading(
        'translation_world_to_camera', 'rotation camera-to-world beside the translation '
        'world-to-camera', 't_world_camera = -R t, R unchanged',
        'T[:3, 3] = -T[:3, :3] @ T[:3, 3]',
        lambda T: _inverse(_transpose_rotation(T))),
    PoseReading(
        'quaternion_wxyz', 'quaternion w x y z that was read as x y z w',
        'q = (y, z, w, x) of the quaternion as read', _QUATERNION.format(-1),
        _roll_quaternion(-1)),
    PoseReading(
        'quaternion_xyzw', 'quaternion x y z w that was read as w x y z',
        'q = (w, x, y, z) of the quaternion as read', _QUATERNION.format(1),
        _roll_quaternion(1)),
    PoseReading(
        'quaternion_wxyz_of_inverse',
        'world-to-camera quaternion w x y z that was read as x y z w',
        'q = (y, z, w, x) of the inverse pose', _QUATERNION_OF_INVERSE.format(-1),
        _of_inverse(_roll_quaternion(-1))),
    PoseReading(
        'quaternion_xyzw_of_inverse',
        'world-to-camera quaternion x y z w that was read as w x y z',
        'q = (w, x, y, z) of the inverse pose', _QUATERNION_OF_INVERSE.format(1),
        _of_inverse(_roll_quaternion(1))),
)
