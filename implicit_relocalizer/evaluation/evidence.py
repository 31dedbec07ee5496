# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Which of several explanations of the same matched images holds, pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from implicit_relocalizer.data.frames import Float64Array
from implicit_relocalizer.evaluation.epipolar import (
    MatchedPair,
    epipolar_error_px,
    rotation_error_px,
    share_in_front,
)

# A pair speaks for one of two explanations if the errors differ by this factor (on top of what
# matching cannot do better), or else if matches lie before the cameras in one of them only.
_CLEAR_RATIO = 1.5
_CLEAR_SHARE = 0.4
_SMALLEST_NOISE_PX = 0.1
# One explanation beats another by so many pairs, of all and against those that disagree.
_MIN_WINS, _MIN_WIN_SHARE, _WINS_PER_LOSS = 3, 0.25, 3


@dataclass(frozen=True)
class Evidence:
    """What p pairs say about one explanation.

    Attributes:
        errors_px_p: Median epipolar error of each pair; of a pair without parallax, the median
            distance from where the rotation takes the points.
        in_front_p: Share of matches that lie before both cameras; NaN where parallax is missing.
        noise_px_p: The error that no pose can be much better than.
    """

    errors_px_p: Float64Array
    in_front_p: Float64Array
    noise_px_p: Float64Array

    @property
    def median_px(self) -> float:
        """Median over the pairs of their median errors."""
        return float(np.median(self.errors_px_p)) if len(self.errors_px_p) else float('nan')

    @property
    def median_in_front(self) -> float:
        """Median over the pairs that show it."""
        seen = self.in_front_p[np.isfinite(self.in_front_p)]
        return float(np.median(seen)) if len(seen) else float('nan')

    def wins_over(self, other: Evidence) -> int:
        """Number of pairs that clearly speak for this and against the other explanation."""
        noise_p = np.maximum(self.noise_px_p, _SMALLEST_NOISE_PX)
        ratio_p = (other.errors_px_p + noise_p) / (self.errors_px_p + noise_p)
        with np.errstate(invalid='ignore'):
            before_p = self.in_front_p - other.in_front_p > _CLEAR_SHARE  # false where NaN
        alike_p = (ratio_p < _CLEAR_RATIO) & (ratio_p > 1.0 / _CLEAR_RATIO)
        return int(np.sum((ratio_p >= _CLEAR_RATIO) | (alike_p & before_p)))

    def beats(self, other: Evidence) -> bool:
        """Whether enough pairs speak for this explanation and few for the other."""
        wins, losses = self.wins_over(other), other.wins_over(self)
        needed = max(_MIN_WINS, _MIN_WIN_SHARE * len(self.errors_px_p))
        return wins >= needed and wins >= _WINS_PER_LOSS * losses


def gather_evidence(pairs: Sequence[MatchedPair], K_of: Callable[[int], Float64Array],
                    T_world_camera_n44: Float64Array,
                    without_parallax_p: np.ndarray | None = None,
                    with_depths: bool = True) -> Evidence:
    """Hold the pairs against intrinsics and poses.

    Args:
        pairs: Of frames by index.
        K_of: Intrinsics of the frame at an index.
        T_world_camera_n44: Poses of all frames, camera-to-world with OpenCV axes.
        without_parallax_p: Pairs to hold against the rotation alone.
        with_depths: Whether to count the matches before both cameras, too.
    """
    errors, in_front = [], []
    for number, pair in enumerate(pairs):
        camera = (K_of(pair.first), K_of(pair.second),
                  np.linalg.inv(T_world_camera_n44[pair.second]) @ T_world_camera_n44[pair.first])
        if without_parallax_p is not None and without_parallax_p[number]:
            errors.append(rotation_error_px(pair, *camera))
            in_front.append(float('nan'))
        else:
            errors.append(epipolar_error_px(pair, *camera))
            in_front.append(share_in_front(pair, *camera) if with_depths else float('nan'))
    return Evidence(np.array(errors), np.array(in_front),
                    np.array([pair.free_error_px for pair in pairs]))


def unbeaten(evidence: Sequence[Evidence]) -> list[int]:
    """Indices of the explanations that the best one does not beat, the best one first.

    The best one is beaten by none and beats most; the smallest median error decides among equals.
    """
    count = len(evidence)
    beats = np.array([[i != j and evidence[i].beats(evidence[j]) for j in range(count)]
                      for i in range(count)])
    order = sorted(range(count), key=lambda i: (int(beats[:, i].sum()), -int(beats[i].sum()),
                                                evidence[i].median_px))
    return [i for i in order if i == order[0] or not beats[order[0], i]]
