# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Intrinsics, time stamps and units, held against the same matched images as the poses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from implicit_relocalizer.data.frames import Float64Array, Frame
from implicit_relocalizer.evaluation.depth import read_depth
from implicit_relocalizer.evaluation.epipolar import MatchedPair, triangulate_depths
from implicit_relocalizer.evaluation.evidence import Evidence, gather_evidence

_RESOLUTIONS = (0.25, 0.5, 2.0, 4.0)
_FOCAL_RANGE = (0.4, 2.5)
# Between these the best focal length is no news: poses have errors, too.
_FOCAL_TOLERANCE = 0.03
_SHIFTS = (-3, -2, -1, 1, 2, 3)
_MIN_DEPTHS = 100
_UNIT_TOLERANCE = 0.1


@dataclass(frozen=True)
class Alternative:
    """Another explanation that fits better than the given one, and how to adopt it.

    Attributes:
        key: Name in results.
        title: Name for a person, a remedy.
        median_px: Median error with it.
        given_px: Median error without.
        numpy_line: What turns the given into the right, over `K`; empty where that is not it.
    """

    key: str
    title: str
    median_px: float
    given_px: float
    numpy_line: str = ''


@dataclass(frozen=True)
class CameraCandidate:
    """A mistake that people make with K, undone: `transform(K)` would be right."""

    key: str
    title: str
    numpy_line: str
    transform: Callable[[Float64Array], Float64Array]


def camera_candidates(K_33: Float64Array, image_size: tuple[int, int]) -> list[CameraCandidate]:
    """Frequent mistakes that would change this K noticeably."""
    width, height = image_size
    candidates = []
    # The principal point is near the middle: where it is not, it hints at another resolution.
    hinted = width / (2 * K_33[0, 2]) if K_33[0, 2] > 0 else 1.0
    near = any(abs(hinted / s - 1) < 0.08 for s in (1.0, *_RESOLUTIONS))
    for s in (*_RESOLUTIONS, *([] if near else [hinted])):
        candidates.append(CameraCandidate(
            f'resized_{s:.3g}', f'K is of images of {round(width / s)}x{round(height / s)}, '
            f'these are {width}x{height}',
            f'K = np.array([[{s:.6g}, 0, {(s - 1) / 2:.6g}], [0, {s:.6g}, {(s - 1) / 2:.6g}], '
            f'[0, 0, 1]]) @ K', partial(resized, s=s)))
    fx, fy, cx, cy = K_33[0, 0], K_33[1, 1], K_33[0, 2], K_33[1, 2]
    if abs(fx / fy - 1) > 0.02:
        candidates.append(CameraCandidate(
            'focal_lengths_swapped', 'fx and fy are swapped',
            'K[0, 0], K[1, 1] = K[1, 1], K[0, 0]', lambda K: _swapped(K, focal=True)))
    if abs(cx - cy) > 0.02 * width:
        candidates.append(CameraCandidate(
            'centre_swapped', 'cx and cy are swapped',
            'K[0, 2], K[1, 2] = K[1, 2], K[0, 2]', lambda K: _swapped(K, centre=True)))
    if max(abs(cx - (width - 1) / 2) / width, abs(cy - (height - 1) / 2) / height) > 0.05:
        candidates.append(CameraCandidate(
            'centre_in_the_middle', 'the principal point is the middle of the image',
            f'K[0, 2], K[1, 2] = {(width - 1) / 2:g}, {(height - 1) / 2:g}',
            lambda K: _with_centre(K, (width - 1) / 2, (height - 1) / 2)))
    return candidates


def resized(K_33: Float64Array, s: float) -> Float64Array:
    """K of the image resized by s: f' = f s, c' = (c + 0.5) s - 0.5."""
    return np.array([[s, 0, (s - 1) / 2], [0, s, (s - 1) / 2], [0, 0, 1]]) @ K_33


def scaled_focal(K_33: Float64Array, s: float) -> Float64Array:
    """K with both focal lengths scaled, the principal point kept."""
    out_33 = K_33.copy()
    out_33[0, 0] *= s
    out_33[1, 1] *= s
    return out_33


@dataclass(frozen=True)
class FocalFit:
    """The common factor on fx and fy that the images like best.

    Attributes:
        factor: 1 where K is right.
        median_px: Error with it.
        median_px_10_percent_off: Smaller one of the errors with a factor 10 % smaller or larger;
            little more than `median_px` where the images do not tell the focal length.
    """

    factor: float
    median_px: float
    median_px_10_percent_off: float

    @property
    def is_sharp(self) -> bool:
        """Whether the images tell the focal length at all."""
        return self.median_px_10_percent_off > 1.3 * self.median_px


def fit_focal_length(pairs: Sequence[MatchedPair], K_of: Callable[[int], Float64Array],
                     T_world_camera_n44: Float64Array) -> FocalFit:
    """Find the factor on fx and fy with the lowest errors, the poses being right."""
    def evidence(factor: float) -> Evidence:
        return gather_evidence(pairs, lambda index: scaled_focal(K_of(index), factor),
                               T_world_camera_n44, with_depths=False)

    def cost(log_factor: float) -> float:
        found = evidence(float(np.exp(log_factor)))
        return float(np.mean(np.log(found.errors_px_p + np.maximum(found.noise_px_p, 0.1))))

    grid = np.linspace(np.log(_FOCAL_RANGE[0]), np.log(_FOCAL_RANGE[1]), 21)
    step = grid[1] - grid[0]
    start = grid[int(np.argmin([cost(value) for value in grid]))]
    found = minimize_scalar(cost, bounds=(start - step, start + step), method='bounded',
                            options={'xatol': 1e-3})
    factor = float(np.exp(found.x))
    return FocalFit(factor, evidence(factor).median_px,
                    min(evidence(factor * f).median_px for f in (0.9, 1.1)))


def check_camera(pairs: Sequence[MatchedPair], K_of: Callable[[int], Float64Array],
                 T_world_camera_n44: Float64Array, image_size: tuple[int, int],
                 given: Evidence, focal: FocalFit) -> Alternative | None:
    """The frequent mistake in K, or else the focal length, that clearly fits better than K."""
    K_33 = K_of(pairs[0].first)
    found: list[tuple[Evidence, CameraCandidate]] = []
    for candidate in camera_candidates(K_33, image_size):
        evidence = gather_evidence(
            pairs, lambda index, c=candidate: c.transform(K_of(index)),  # type: ignore[misc]
            T_world_camera_n44, with_depths=False)
        found.append((evidence, candidate))
    if focal.is_sharp and abs(focal.factor - 1) > _FOCAL_TOLERANCE:
        f = focal.factor
        found.append((
            gather_evidence(pairs, lambda index: scaled_focal(K_of(index), f),
                            T_world_camera_n44, with_depths=False),
            CameraCandidate('focal_length', f'fx and fy are {f:.3g} times the given ones',
                            f'K[0, 0] *= {f:.4g}; K[1, 1] *= {f:.4g}',
                            lambda K: scaled_focal(K, f))))
    better = [(evidence, candidate) for evidence, candidate in found if evidence.beats(given)]
    if not better:
        return None
    best = min((evidence for evidence, _ in better), key=lambda evidence: evidence.median_px)
    # The more particular mistakes are listed first: they win where others fit as well.
    evidence, candidate = next(item for item in better if not best.beats(item[0])
                               and item[0].median_px < 1.5 * best.median_px)
    return Alternative(candidate.key, candidate.title, evidence.median_px, given.median_px,
                       candidate.numpy_line)


def check_time_shift(pairs: Sequence[MatchedPair], frames: Sequence[Frame],
                     K_of: Callable[[int], Float64Array], T_world_camera_n44: Float64Array,
                     ) -> Alternative | None:
    """Whether the poses of earlier or later frames clearly fit the images better."""
    indices = np.arange(len(frames))
    shifts: list[Alternative] = []
    for shift in _SHIFTS:
        inside = [pair for pair in pairs if all(
            0 <= i + shift < len(frames) and frames[i + shift].sequence == frames[i].sequence
            for i in (pair.first, pair.second))]
        given = gather_evidence(inside, K_of, T_world_camera_n44)
        other = gather_evidence(
            inside, K_of, T_world_camera_n44[np.clip(indices + shift, 0, len(frames) - 1)])
        if inside and other.beats(given):
            when = 'later' if shift > 0 else 'earlier'
            shifts.append(Alternative(
                f'shifted_{shift:+d}', f'each image has the pose of {abs(shift)} frame(s) {when}: '
                f'the clocks of images and poses differ', other.median_px, given.median_px))
    return min(shifts, key=lambda one: one.median_px, default=None)


def measure_unit(pairs: Sequence[MatchedPair], frames: Sequence[Frame],
                 K_of: Callable[[int], Float64Array], T_world_camera_n44: Float64Array,
                 image_size: tuple[int, int]) -> float | None:
    """Median of measured over triangulated depth: 1 where translations are in metres.

    None where the scene has too little depth. 0.001 tells of poses in millimetres.
    """
    ratios: list[Float64Array] = []
    for pair in pairs:
        depth = read_depth(frames[pair.first], image_size)
        if depth is None:
            continue
        T_second_first = (np.linalg.inv(T_world_camera_n44[pair.second])
                          @ T_world_camera_n44[pair.first])
        z_n, other_n = triangulate_depths(pair, K_of(pair.first), K_of(pair.second),
                                          T_second_first)
        measured_n = depth.at(pair.points_first_n2)
        with np.errstate(invalid='ignore', divide='ignore'):
            usable_n = np.isfinite(measured_n) & (z_n > 0) & (other_n > 0)
            ratios.append(measured_n[usable_n] / z_n[usable_n])
    all_ratios = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.median(all_ratios)) if len(all_ratios) >= _MIN_DEPTHS else None


def unit_is_off(ratio: float | None) -> bool:
    """Whether depth images contradict metres."""
    return ratio is not None and abs(ratio - 1) > _UNIT_TOLERANCE


def alternative_dict(alternative: Alternative | None) -> dict[str, Any] | None:
    """An alternative as JSON values."""
    return None if alternative is None else dict(vars(alternative))


def _swapped(K_33: Float64Array, focal: bool = False, centre: bool = False) -> Float64Array:
    out_33 = K_33.copy()
    if focal:
        out_33[0, 0], out_33[1, 1] = K_33[1, 1], K_33[0, 0]
    if centre:
        out_33[0, 2], out_33[1, 2] = K_33[1, 2], K_33[0, 2]
    return out_33


def _with_centre(K_33: Float64Array, cx: float, cy: float) -> Float64Array:
    out_33 = K_33.copy()
    out_33[0, 2], out_33[1, 2] = cx, cy
    return out_33
