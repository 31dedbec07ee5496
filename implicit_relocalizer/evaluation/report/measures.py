# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of the frames of a report, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from implicit_relocalizer.evaluation.coverage import limit_of, measure_coverage, rotation_errors
from implicit_relocalizer.evaluation.metrics import Float64Array, RecallLimit, pose_errors
from implicit_relocalizer.evaluation.report.contents import ReportFrame

_DEGREES_OF_FREEDOM = 3
# So far off counts as much as so much turned when frames are ranked.
_RANKING_BOUND = RecallLimit(0.25, 5.0)


@dataclass(frozen=True, eq=False)
class FrameMeasures:
    """Of n frames; NaN where there is no answer, no reference or no usable covariance.

    Attributes:
        position_m: Distance of the camera centres (n,).
        rotation_deg: Geodesic angle (n,).
        normalised_position: sqrt(e^T C^-1 e) of the position error (n,).
        normalised_rotation: As above, of the rotation error.
        is_answered: (n,), whether or not there is a reference.
    """

    position_m: Float64Array
    rotation_deg: Float64Array
    normalised_position: Float64Array
    normalised_rotation: Float64Array
    is_answered: NDArray[np.bool_]

    @property
    def position_sigma_m(self) -> Float64Array:
        """How far the 1-sigma ellipsoid of the position reaches in the direction of the error.

        The error is within k sigma where it is at most `limit_of(k) / limit_of(1)` of this.
        """
        return _reach(self.position_m, self.normalised_position)

    @property
    def rotation_sigma_deg(self) -> Float64Array:
        """As above, of the rotation."""
        return _reach(self.rotation_deg, self.normalised_rotation)

    @property
    def badness(self) -> Float64Array:
        """(n,), larger is worse, NaN where nothing was judged."""
        return np.maximum(self.position_m / _RANKING_BOUND.translation_m,
                          self.rotation_deg / _RANKING_BOUND.rotation_deg)

    def is_wrong(self, limit: RecallLimit) -> NDArray[np.bool_]:
        """Which answers are farther off than a limit; NaN are not."""
        return ((self.position_m > limit.translation_m)
                | (self.rotation_deg > limit.rotation_deg))

    def worst(self, indices: NDArray[np.int64], count: int) -> list[int]:
        """At most `count` of some frames with the worst answers, the worst first."""
        badness = self.badness[indices]
        order = np.argsort(-badness, kind='stable')
        return [int(indices[i]) for i in order if np.isfinite(badness[i])][:count]


def measure_frames(frames: Sequence[ReportFrame]) -> FrameMeasures:
    """Errors of all frames that have an answer and a reference."""
    unknown = [np.full(len(frames), np.nan) for _ in range(4)]
    measures = FrameMeasures(unknown[0], unknown[1], unknown[2], unknown[3], np.array(
        [frame.T_estimate is not None for frame in frames], bool))
    judged = [i for i, frame in enumerate(frames)
              if frame.T_estimate is not None and frame.T_true is not None]
    if not judged:
        return measures
    true_n44 = np.array([frames[i].T_true for i in judged], np.float64)
    estimate_n44 = np.array([frames[i].T_estimate for i in judged], np.float64)
    errors = pose_errors(true_n44, estimate_n44)
    measures.position_m[judged] = errors.translation_m
    measures.rotation_deg[judged] = errors.rotation_deg
    has_covariance = [i for i, index in enumerate(judged)
                      if frames[index].covariance_66 is not None]
    if has_covariance:
        true_n44, estimate_n44 = true_n44[has_covariance], estimate_n44[has_covariance]
        indices = np.array(judged)[has_covariance]
        covariance_n66 = np.array([frames[i].covariance_66 for i in indices], np.float64)
        measures.normalised_position[indices] = measure_coverage(
            estimate_n44[:, :3, 3] - true_n44[:, :3, 3], covariance_n66[:, :3, :3]).normalised_n
        measures.normalised_rotation[indices] = measure_coverage(
            rotation_errors(true_n44[:, :3, :3], estimate_n44[:, :3, :3]),
            covariance_n66[:, 3:, 3:]).normalised_n
    return measures


def _reach(error_n: Float64Array, normalised_n: Float64Array) -> Float64Array:
    with np.errstate(divide='ignore', invalid='ignore'):
        reach = error_n * limit_of(1, _DEGREES_OF_FREEDOM) / normalised_n
    return np.where(np.isfinite(reach) & (reach > 0.0), reach, np.nan)
