# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Every estimate of a recorded run: for the JSON result, and as trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.recorded_run import RecordedEstimate, RecordedRun
from implicit_relocalizer.evaluation.coverage import measure_coverage, rotation_errors
from implicit_relocalizer.evaluation.metrics import Float64Array, pose_errors
from implicit_relocalizer.evaluation.trajectory_files import tum_text


def list_estimates(run: RecordedRun, answers: Sequence[RecordedEstimate],
                   latencies_ms: Float64Array,
                   reference_of: Mapping[int, Float64Array]) -> list[dict[str, Any]]:
    """Stamp, latency, pose, covariance, reference and errors of every answer, as JSON values.

    Poses are `x y z qx qy qz qw`. Without a reference its pose and the errors are None; the
    normalised errors are None where the covariance cannot be used.
    """
    stamps_ns = {image.stamp_ns: image.bag_time_ns for image in run.images}
    rows = []
    for estimate, latency_ms in zip(answers, latencies_ms.tolist(), strict=True):
        T_true = reference_of.get(estimate.stamp_ns)
        rows.append({
            'stamp_ns': estimate.stamp_ns, 'image_bag_time_ns': stamps_ns[estimate.stamp_ns],
            'bag_time_ns': estimate.bag_time_ns, 'latency_ms': latency_ms,
            'estimate': _seven_numbers(estimate.T_map_camera),
            'covariance': _covariance_numbers(estimate),
            'reference': None if T_true is None else _seven_numbers(T_true),
            **_errors(estimate, T_true)})
    return rows


def trajectory_texts(run: RecordedRun, answers: Sequence[RecordedEstimate],
                     reference_of: Mapping[int, Float64Array]) -> tuple[str, str]:
    """The estimates, and the reference at every image that has one, both as TUM text."""
    stamps_ns = sorted(reference_of)
    return (tum_text([e.stamp_ns for e in answers], [e.T_map_camera for e in answers]),
            tum_text(stamps_ns, [reference_of[stamp_ns] for stamp_ns in stamps_ns]))


def _errors(estimate: RecordedEstimate, T_true: Float64Array | None) -> dict[str, Any]:
    keys = ('translation_m', 'rotation_deg', 'position_error_m', 'rotation_error_rad',
            'normalised_position_error', 'normalised_orientation_error')
    if T_true is None:
        return dict.fromkeys(keys)
    T_44, C_66 = estimate.T_map_camera, estimate.covariance_66
    errors = pose_errors(T_true[None], T_44[None])
    position_13 = (T_44[:3, 3] - T_true[:3, 3])[None]
    rotation_13 = rotation_errors(T_true[:3, :3], T_44[:3, :3])
    normalised = (None, None) if C_66 is None else (
        _number(measure_coverage(position_13, C_66[None, :3, :3]).normalised_n[0]),
        _number(measure_coverage(rotation_13, C_66[None, 3:, 3:]).normalised_n[0]))
    return dict(zip(keys, (float(errors.translation_m[0]), float(errors.rotation_deg[0]),
                           position_13[0].tolist(), rotation_13[0].tolist(), *normalised),
                    strict=True))


def _covariance_numbers(estimate: RecordedEstimate) -> list[float | None] | None:
    if estimate.covariance_66 is None:
        return None
    return [_number(value) for value in estimate.covariance_66.ravel()]


def _seven_numbers(T_44: Float64Array) -> list[float]:
    quaternion_xyzw = Rotation.from_matrix(T_44[:3, :3]).as_quat(canonical=True)
    return [*T_44[:3, 3].tolist(), *quaternion_xyzw.tolist()]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
