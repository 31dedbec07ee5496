# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""One answer beside the truth, as JSON values that every kind of result lists alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from implicit_relocalizer.evaluation.coverage import measure_coverage, rotation_errors
from implicit_relocalizer.evaluation.metrics import Float64Array, pose_errors

_ERROR_KEYS = ('translation_m', 'rotation_deg', 'position_error_m', 'rotation_error_rad',
               'normalised_position_error', 'normalised_orientation_error')


def describe_pose(T_map_camera: Float64Array, T_true: Float64Array | None,
                  covariance_66: Float64Array | None) -> dict[str, Any]:
    """Pose, covariance, reference, sigmas and errors of one answer.

    Poses are `x y z qx qy qz qw`. Without a reference its pose and the errors are None; the
    normalised errors are None where the covariance cannot be used. `position_sigma_m` and
    `rotation_sigma_deg` are the roots of the traces of the covariance's halves: the root mean
    square errors that it announces.

    Args:
        T_map_camera: 4x4, the estimate.
        T_true: 4x4, the reference.
        covariance_66: As the estimate states it.
    """
    return {'estimate': seven_numbers(T_map_camera),
            'covariance': None if covariance_66 is None else [
                finite_or_none(value) for value in covariance_66.ravel()],
            'position_sigma_m': _sigma(covariance_66, slice(0, 3)),
            'rotation_sigma_deg': _degrees(_sigma(covariance_66, slice(3, 6))),
            'reference': None if T_true is None else seven_numbers(T_true),
            **describe_errors(T_map_camera, T_true, covariance_66)}


def describe_silence(T_true: Float64Array) -> dict[str, Any]:
    """The same keys for an image that got no answer: the reference alone."""
    keys = ('estimate', 'covariance', 'position_sigma_m', 'rotation_sigma_deg', 'reference',
            *_ERROR_KEYS)
    return {**dict.fromkeys(keys), 'reference': seven_numbers(T_true)}


def describe_errors(T_44: Float64Array, T_true: Float64Array | None,
                    C_66: Float64Array | None) -> dict[str, Any]:
    """The errors of one answer; all None where there is no truth."""
    if T_true is None:
        return dict.fromkeys(_ERROR_KEYS)
    errors = pose_errors(T_true[None], T_44[None])
    position_13 = (T_44[:3, 3] - T_true[:3, 3])[None]
    rotation_13 = rotation_errors(T_true[:3, :3], T_44[:3, :3])
    normalised = (None, None) if C_66 is None else (
        finite_or_none(measure_coverage(position_13, C_66[None, :3, :3]).normalised_n[0]),
        finite_or_none(measure_coverage(rotation_13, C_66[None, 3:, 3:]).normalised_n[0]))
    return dict(zip(_ERROR_KEYS, (
        float(errors.translation_m[0]), float(errors.rotation_deg[0]), position_13[0].tolist(),
        rotation_13[0].tolist(), *normalised), strict=True))


def seven_numbers(T_44: Float64Array) -> list[float]:
    """`x y z qx qy qz qw` of a 4x4 pose."""
    quaternion_xyzw = Rotation.from_matrix(T_44[:3, :3]).as_quat(canonical=True)
    return [*T_44[:3, 3].tolist(), *quaternion_xyzw.tolist()]


def finite_or_none(value: float | None) -> float | None:
    """A number that JSON can hold."""
    return None if value is None or not np.isfinite(value) else float(value)


def _sigma(covariance_66: Float64Array | None, part: slice) -> float | None:
    if covariance_66 is None:
        return None
    variance = float(np.trace(covariance_66[part, part]))
    return float(np.sqrt(variance)) if np.isfinite(variance) and variance >= 0.0 else None


def _degrees(value_rad: float | None) -> float | None:
    return None if value_rad is None else float(np.degrees(value_rad))
