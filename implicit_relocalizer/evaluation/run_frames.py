# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Every estimate of a recorded run: for the JSON result, and as trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from implicit_relocalizer.data.recorded_run import RecordedEstimate, RecordedRun
from implicit_relocalizer.evaluation.frame_rows import describe_pose
from implicit_relocalizer.evaluation.metrics import Float64Array
from implicit_relocalizer.evaluation.trajectory_files import tum_text


def list_estimates(run: RecordedRun, answers: Sequence[RecordedEstimate],
                   latencies_ms: Float64Array,
                   reference_of: Mapping[int, Float64Array]) -> list[dict[str, Any]]:
    """Stamp, latency, pose, covariance, reference and errors of every answer, as JSON values.

    Poses and errors are those of `describe_pose`.
    """
    stamps_ns = {image.stamp_ns: image.bag_time_ns for image in run.images}
    rows = []
    for estimate, latency_ms in zip(answers, latencies_ms.tolist(), strict=True):
        T_true = reference_of.get(estimate.stamp_ns)
        rows.append({
            'stamp_ns': estimate.stamp_ns, 'image_bag_time_ns': stamps_ns[estimate.stamp_ns],
            'bag_time_ns': estimate.bag_time_ns, 'latency_ms': latency_ms,
            **describe_pose(estimate.T_map_camera, T_true, estimate.covariance_66)})
    return rows


def trajectory_texts(run: RecordedRun, answers: Sequence[RecordedEstimate],
                     reference_of: Mapping[int, Float64Array]) -> tuple[str, str]:
    """The estimates, and the reference at every image that has one, both as TUM text."""
    stamps_ns = sorted(reference_of)
    return (tum_text([e.stamp_ns for e in answers], [e.T_map_camera for e in answers]),
            tum_text(stamps_ns, [reference_of[stamp_ns] for stamp_ns in stamps_ns]))
