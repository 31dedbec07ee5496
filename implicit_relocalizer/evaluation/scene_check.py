# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""All that matched images say about the labels of a scene: poses, intrinsics, stamps, units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Scene
from implicit_relocalizer.evaluation.calibration_check import (
    Alternative,
    CameraCandidate,
    FocalFit,
    alternative_dict,
    camera_candidates,
    check_camera,
    check_time_shift,
    fit_focal_length,
    measure_unit,
    unit_is_off,
)
from implicit_relocalizer.evaluation.epipolar import MatchedPair
from implicit_relocalizer.evaluation.evidence import gather_evidence
from implicit_relocalizer.evaluation.feature_pairs import PairFinder, PairSearch
from implicit_relocalizer.evaluation.pose_convention import (
    ConventionCheck,
    Verdict,
    check_convention,
)
from implicit_relocalizer.evaluation.pose_readings import READINGS

Intrinsics = Callable[[int], Float64Array]

# A pose is bad where most neighbours of its frame contradict it by more than this.
_BAD_RATIO, _BAD_SHARE = 8.0, 0.003
_MAX_SUSPECTS = 12
_NEIGHBOURS = (-1, 1, -2, 2)
_MIN_NEIGHBOURS = 2


@dataclass(frozen=True)
class BadPose:
    """A frame whose pose contradicts the images of its neighbours, by this median error."""

    index: int
    name: str
    error_px: float


@dataclass(frozen=True)
class SceneCheck:
    """The findings.

    Attributes:
        search: The matched pairs and why other tries failed.
        convention: Of the poses.
        camera: What fits better than the given K, if something does.
        focal: The best focal length; None where the poses cannot be trusted.
        time_shift: What fits better than the given order, if something does.
        unit_ratio: Measured over triangulated depth, None without depth images.
        bad_poses: Among those that looked suspicious.
        T_world_camera_n44: The poses as they should be read.
    """

    search: PairSearch
    convention: ConventionCheck
    camera: Alternative | None
    focal: FocalFit | None
    time_shift: Alternative | None
    unit_ratio: float | None
    bad_poses: tuple[BadPose, ...]
    T_world_camera_n44: Float64Array

    @property
    def is_contradicted(self) -> bool:
        """Whether images say that the labels are not what they are taken for."""
        return (self.convention.verdict in ('other_fits', 'none_fits') or self.camera is not None
                or self.time_shift is not None or unit_is_off(self.unit_ratio))

    @property
    def verdict(self) -> Verdict | str:
        """That of the poses' convention, or what else is wrong where that fits."""
        if self.convention.verdict != 'fits':
            return self.convention.verdict
        if self.camera is not None:
            return 'wrong_intrinsics'
        if self.time_shift is not None:
            return 'wrong_time'
        return 'wrong_unit' if unit_is_off(self.unit_ratio) else 'fits'

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON values."""
        return {
            'verdict': self.verdict, 'failed_pairs': dict(self.search.failures),
            'pose_convention': self.convention.to_dict(),
            'intrinsics': alternative_dict(self.camera),
            'focal_length': None if self.focal is None else dict(vars(self.focal)),
            'time_shift': alternative_dict(self.time_shift),
            'measured_over_triangulated_depth': self.unit_ratio,
            'bad_poses': [dict(vars(bad)) for bad in self.bad_poses]}


def check_scene(scene: Scene, pair_count: int,
                find_suspects: Callable[[Float64Array], Sequence[int]] = lambda _: (),
                progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> SceneCheck:
    """Match images of a scene and hold its labels against them.

    Args:
        scene: At least two frames.
        pair_count: Pairs of images to look for, over the whole scene.
        find_suspects: Given the poses as they should be read (n, 4, 4): frames to look at.
        progress: Wraps the frames at which pairs are looked for.

    Raises:
        SceneError: a depth image cannot be read.
    """
    frames, size = scene.frames, scene.image_size
    finder = PairFinder(frames, progress)
    search = finder.spread(pair_count)
    pairs = search.pairs

    def K_of(index: int) -> Float64Array:
        return frames[index].K_33

    convention = check_convention(frames, pairs, size, K_of)
    used_K: Intrinsics = K_of
    if convention.verdict == 'none_fits':
        convention, used_K = _with_another_camera(scene, pairs, convention, K_of)
    T_n44 = convention.best.convert(np.stack([frame.T_world_camera for frame in frames]))
    if not convention.fitting:
        shift = check_time_shift(pairs, frames, K_of, T_n44) if pairs else None
        return SceneCheck(search, convention, None, None, shift, None, (), T_n44)
    focal = fit_focal_length(pairs, K_of, T_n44)
    given = gather_evidence(pairs, K_of, T_n44, with_depths=False)
    camera = check_camera(pairs, K_of, T_n44, size, given, focal)
    shift = check_time_shift(pairs, frames, used_K, T_n44)
    unit = None if camera or shift else measure_unit(pairs, frames, used_K, T_n44, size)
    errors_px = gather_evidence(pairs, used_K, T_n44).errors_px_p
    limit_px = max(_BAD_RATIO * float(np.median(errors_px)), _BAD_SHARE * max(size))
    suspects = list(find_suspects(T_n44))
    for pair, error_px in zip(pairs, errors_px, strict=True):
        suspects += [pair.first, pair.second] if error_px > limit_px else []
    bad = _bad_poses(finder, scene, suspects, used_K, T_n44, limit_px)
    return SceneCheck(search, convention, camera, focal, shift, unit, bad, T_n44)


def _with_another_camera(scene: Scene, pairs: Sequence[MatchedPair], convention: ConventionCheck,
                         K_of: Intrinsics) -> tuple[ConventionCheck, Intrinsics]:
    """The check under the frequent mistake in K that lets a convention fit, if one does."""
    given_n44 = np.stack([frame.T_world_camera for frame in scene.frames])
    poses = [reading.convert(given_n44) for reading in READINGS if reading.is_common]

    def corrected(candidate: CameraCandidate) -> Intrinsics:
        return lambda index: candidate.transform(K_of(index))

    def lowest_error_px(K: Intrinsics) -> float:
        return min(gather_evidence(pairs, K, T_n44, with_depths=False).median_px
                   for T_n44 in poses)

    K = min((corrected(candidate) for candidate in camera_candidates(K_of(0), scene.image_size)),
            key=lowest_error_px)
    check = check_convention(scene.frames, pairs, scene.image_size, K)
    return (check, K) if check.fitting else (convention, K_of)


def _bad_poses(finder: PairFinder, scene: Scene, suspects: Iterable[int], K_of: Intrinsics,
               T_world_camera_n44: Float64Array, limit_px: float) -> tuple[BadPose, ...]:
    """Suspects whose neighbours in time, most of them, contradict their pose."""
    bad = []
    for index in list(dict.fromkeys(suspects))[:_MAX_SUSPECTS]:
        sequence = scene.frames[index].sequence
        matched = [pair for pair in (
            finder.match(index, index + step) for step in _NEIGHBOURS
            if 0 <= index + step < len(scene.frames)
            and scene.frames[index + step].sequence == sequence) if pair is not None]
        if len(matched) < _MIN_NEIGHBOURS:
            continue
        error_px = float(np.median(gather_evidence(matched, K_of, T_world_camera_n44).errors_px_p))
        if error_px > limit_px:
            bad.append(BadPose(index, scene.frames[index].name, error_px))
    return tuple(bad)
