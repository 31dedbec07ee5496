# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pose errors, their summary, and recall over the frames that were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class PoseErrors:
    """Errors of n answered frames: position in metres (n,), orientation in degrees (n,)."""

    translation_m: Float64Array
    rotation_deg: Float64Array

    def within(self, limit: RecallLimit) -> NDArray[np.bool_]:
        """Which answers (n,) hold both bounds of a limit."""
        return ((self.translation_m <= limit.translation_m)
                & (self.rotation_deg <= limit.rotation_deg))


@dataclass(frozen=True)
class RecallLimit:
    """A frame counts as found if both errors are at most this large."""

    translation_m: float
    rotation_deg: float

    @property
    def key(self) -> str:
        """Name in results, such as `5cm_5deg` or `5m_10deg`."""
        return f'{self._distance("")}_{self.rotation_deg:g}deg'

    @property
    def label(self) -> str:
        """Name for a person, such as `5 cm / 5°`."""
        return f'{self._distance(" ")} / {self.rotation_deg:g}°'

    def _distance(self, space: str) -> str:
        if self.translation_m < 1.0:
            return f'{self.translation_m * 100:g}{space}cm'
        return f'{self.translation_m:g}{space}m'


RECALL_LIMITS = (RecallLimit(0.05, 5.0), RecallLimit(0.10, 5.0), RecallLimit(0.25, 2.0),
                 RecallLimit(0.25, 5.0), RecallLimit(0.50, 5.0))
# Of evaluations: the last one tells an answer that a filter can still be started with.
ALL_LIMITS = (*RECALL_LIMITS, RecallLimit(5.0, 10.0))


@dataclass(frozen=True)
class ErrorSummary:
    """What is reported about a set of frames.

    Attributes:
        frames_asked: Frames that should have been answered.
        frames_answered: Frames with an answer; medians and percentiles are over these, and NaN
            if there are none.
        recall: Share of the frames *asked* within each limit, by `RecallLimit.key`. A frame
            without an answer is a failure.
    """

    frames_asked: int
    frames_answered: int
    median_translation_m: float
    median_rotation_deg: float
    p90_translation_m: float
    p90_rotation_deg: float
    p99_translation_m: float
    p99_rotation_deg: float
    recall: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON values; NaN becomes None."""
        return {key: None if isinstance(value, float) and np.isnan(value) else value
                for key, value in asdict(self).items()}


def pose_errors(T_world_camera_true: ArrayLike, T_world_camera: ArrayLike) -> PoseErrors:
    """Compare estimated with true camera poses.

    Translation error is the distance of the camera centres, rotation error the geodesic angle
    arccos((trace(R_true^T R) - 1) / 2), computed through a quaternion so that small angles keep
    their digits.

    Args:
        T_world_camera_true: (n, 4, 4) camera-to-world transforms in metres.
        T_world_camera: (n, 4, 4), in the same order.

    Raises:
        ValueError: the shapes differ or are not (n, 4, 4), a value is not finite, or a rotation
            has no positive determinant.
    """
    true_n44 = np.asarray(T_world_camera_true, dtype=np.float64)
    estimate_n44 = np.asarray(T_world_camera, dtype=np.float64)
    if true_n44.shape != estimate_n44.shape or true_n44.shape[1:] != (4, 4):
        raise ValueError(f'poses of shape {true_n44.shape} and {estimate_n44.shape}; '
                         f'expected the same (n, 4, 4)')
    if not (np.isfinite(true_n44).all() and np.isfinite(estimate_n44).all()):
        raise ValueError('a pose holds NaN or infinity; leave unanswered frames out')
    translation_m = np.linalg.norm(true_n44[:, :3, 3] - estimate_n44[:, :3, 3], axis=1)
    if not len(true_n44):
        return PoseErrors(translation_m, translation_m.copy())
    difference = (Rotation.from_matrix(true_n44[:, :3, :3]).inv()
                  * Rotation.from_matrix(estimate_n44[:, :3, :3]))
    return PoseErrors(translation_m, np.degrees(difference.magnitude()))


def summarize(errors: PoseErrors, frames_asked: int | None = None,
              limits: Sequence[RecallLimit] = RECALL_LIMITS) -> ErrorSummary:
    """Medians, percentiles and recall.

    Args:
        errors: Of the answered frames.
        frames_asked: Frames that should have been answered; by default those that were.
        limits: Of the recall table.

    Raises:
        ValueError: fewer frames asked than answered.
    """
    answered = len(errors.translation_m)
    asked = answered if frames_asked is None else frames_asked
    if asked < answered:
        raise ValueError(f'{answered} answers to {asked} frames; count each frame once')
    return ErrorSummary(
        asked, answered,
        median_translation_m=_percentile(errors.translation_m, 50),
        median_rotation_deg=_percentile(errors.rotation_deg, 50),
        p90_translation_m=_percentile(errors.translation_m, 90),
        p90_rotation_deg=_percentile(errors.rotation_deg, 90),
        p99_translation_m=_percentile(errors.translation_m, 99),
        p99_rotation_deg=_percentile(errors.rotation_deg, 99),
        recall={limit.key: float(errors.within(limit).sum()) / asked if asked else 0.0
                for limit in limits})


def _percentile(values: Float64Array, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float('nan')
