# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What the labels of a scene say about it before anything is learned; images are not opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Frame, Scene, SkippedFrame

# A turn of one radian changes a view as much as a step of this length does.
VIEW_DEPTH_M = 2.5
# A step is a jump if it is so many times the usual one, and a turn at least this large.
_JUMP_RATIO, _JUMP_DEG = 10.0, 20.0
# There and back again: two steps so many times the usual one, and what both amount to.
_SPIKE_RATIO = 3.0
_GAP_RATIO = 5.0  # of two time stamps
_SAME_PLACE_M, _SAME_VIEW_DEG = 1e-6, 1e-4


@dataclass(frozen=True)
class NearestViews:
    """From every test frame to the training frame with the most similar view.

    The training frame is the one with the smallest distance + VIEW_DEPTH_M * angle [rad].

    Attributes:
        distances_m: (n,) between the camera positions.
        angles_deg: (n,) between the attitudes.
    """

    distances_m: Float64Array
    angles_deg: Float64Array

    @property
    def identical(self) -> int:
        """Test frames whose pose is also trained on: they make held-out figures too good."""
        return int(np.sum((self.distances_m < _SAME_PLACE_M) & (self.angles_deg < _SAME_VIEW_DEG)))


@dataclass(frozen=True)
class Jump:
    """A step between neighbouring frames that is far larger than the usual one."""

    first: int
    second: int
    distance_m: float
    angle_deg: float


@dataclass(frozen=True)
class TimeStatistics:
    """Time stamps: how long, how dense, in order or not; of neighbours in a sequence."""

    stamped: int
    duration_s: float
    rate_hz: float
    backwards: int
    repeated: int
    gaps: int
    longest_gap_s: float


@dataclass(frozen=True)
class SceneStatistics:
    """Figures of a scene.

    Attributes:
        train: Number of training frames.
        test: Number of held-out frames.
        sequences: Frames by sequence.
        image_size: Width and height in pixels.
        K_33: Intrinsics, median over the frames.
        K_spread: Largest relative difference of a focal length from the median.
        field_of_view_deg: Horizontal and vertical.
        extent_m: Size of the box of camera positions along x, y, z of the world.
        path_length_m: Sum of the steps within the sequences, in frame order.
        step_m: Median step.
        step_deg: Median turn between neighbours.
        nearest: Of the test frames; None where one of the splits is empty.
        jumps: Steps far larger than usual.
        frozen: Neighbours with exactly the same pose: tracking stood still, or labels repeat.
        time: None where no frame has a stamp.
        skipped: What the reader left out, by reason.
    """

    train: int
    test: int
    sequences: dict[str, int]
    image_size: tuple[int, int]
    K_33: Float64Array
    K_spread: float
    field_of_view_deg: tuple[float, float]
    extent_m: tuple[float, float, float]
    path_length_m: float
    step_m: float
    step_deg: float
    nearest: NearestViews | None
    jumps: tuple[Jump, ...]
    frozen: int
    time: TimeStatistics | None
    skipped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        nearest = self.nearest
        return {
            'frames': {'train': self.train, 'test': self.test}, 'sequences': self.sequences,
            'image_size': list(self.image_size), 'K': self.K_33.tolist(),
            'K_spread': self.K_spread, 'field_of_view_deg': list(self.field_of_view_deg),
            'extent_m': list(self.extent_m), 'path_length_m': self.path_length_m,
            'median_step_m': self.step_m, 'median_step_deg': self.step_deg,
            'nearest_train': None if nearest is None else {
                'median_m': float(np.median(nearest.distances_m)),
                'p90_m': float(np.percentile(nearest.distances_m, 90)),
                'max_m': float(nearest.distances_m.max()),
                'median_deg': float(np.median(nearest.angles_deg)),
                'p90_deg': float(np.percentile(nearest.angles_deg, 90)),
                'max_deg': float(nearest.angles_deg.max()),
                'identical': nearest.identical},
            'jumps': [dict(vars(jump)) for jump in self.jumps], 'frozen_poses': self.frozen,
            'time': None if self.time is None else dict(vars(self.time)),
            'skipped': self.skipped}


def describe_scene(scene: Scene, T_world_camera_n44: Float64Array) -> SceneStatistics:
    """Count and measure.

    Args:
        scene: At least one frame.
        T_world_camera_n44: Poses of its frames, which need not be the given ones.
    """
    frames = scene.frames
    train_n = np.array([frame.split == 'train' for frame in frames])
    K_n33 = np.stack([frame.K_33 for frame in frames])
    K_33 = np.median(K_n33, axis=0)
    focal_n2 = K_n33[:, [0, 1], [0, 1]]
    positions_n3 = T_world_camera_n44[:, :3, 3]
    extent = positions_n3.max(axis=0) - positions_n3.min(axis=0)
    neighbours_s2 = _neighbours(frames)
    steps_m, steps_deg = view_differences(T_world_camera_n44, neighbours_s2)
    return SceneStatistics(
        int(train_n.sum()), int((~train_n).sum()),
        dict(Counter(frame.sequence for frame in frames)), scene.image_size, K_33,
        float(np.abs(focal_n2 / K_33[[0, 1], [0, 1]] - 1).max()),
        _field_of_view_deg(K_33, scene.image_size),
        (float(extent[0]), float(extent[1]), float(extent[2])), float(steps_m.sum()),
        float(np.median(steps_m)) if len(steps_m) else 0.0,
        float(np.median(steps_deg)) if len(steps_deg) else 0.0,
        nearest_training_views(T_world_camera_n44[train_n], T_world_camera_n44[~train_n]),
        _find_jumps(T_world_camera_n44, neighbours_s2, steps_m, steps_deg),
        int(np.sum((steps_m < _SAME_PLACE_M) & (steps_deg < _SAME_VIEW_DEG))),
        _time_statistics(frames, neighbours_s2), group_reasons(scene.skipped))


def nearest_training_views(T_world_train_n44: Float64Array, T_world_test_n44: Float64Array,
                           ) -> NearestViews | None:
    """Distances and angles from test frames to their most similar training frame."""
    if not len(T_world_train_n44) or not len(T_world_test_n44):
        return None
    distances, angles = [], []
    for T_world_test in T_world_test_n44:
        distances_n = np.linalg.norm(T_world_train_n44[:, :3, 3] - T_world_test[:3, 3], axis=1)
        angles_n = _angles(T_world_train_n44[:, :3, :3], T_world_test[:3, :3])
        nearest = int((distances_n + VIEW_DEPTH_M * angles_n).argmin())
        distances.append(distances_n[nearest])
        angles.append(np.degrees(angles_n[nearest]))
    return NearestViews(np.array(distances), np.array(angles))


def view_differences(T_world_camera_n44: Float64Array, pairs_s2: np.ndarray,
                     ) -> tuple[Float64Array, Float64Array]:
    """Distances in metres and angles in degrees (s,) between the poses of pairs of frames."""
    first, second = T_world_camera_n44[pairs_s2[:, 0]], T_world_camera_n44[pairs_s2[:, 1]]
    return (np.linalg.norm(first[:, :3, 3] - second[:, :3, 3], axis=1),
            np.degrees(_angles(first[:, :3, :3], second[:, :3, :3])))


def group_reasons(skipped: Sequence[SkippedFrame]) -> dict[str, int]:
    """Counts by reason, most frequent first; reasons that differ in names and numbers are one.

    The first reason of a group stands for it.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for frame in skipped:
        group = re.sub(r'[-+\d.]+', '#', frame.reason.replace(frame.name, '#'))
        counts[first.setdefault(group, frame.reason)] += 1
    return dict(counts.most_common())


def _angles(first_n33: Float64Array, second_n33: Float64Array) -> Float64Array:
    # Chord length: an angle from the trace would lose half the digits of a small one.
    chords = np.linalg.norm(first_n33 - second_n33, axis=(-2, -1))
    return 2.0 * np.arcsin(np.clip(chords / np.sqrt(8.0), 0.0, 1.0))


def _neighbours(frames: Sequence[Frame]) -> np.ndarray:
    """Indices (s, 2) of frames that follow each other in a sequence."""
    pairs = [(i, i + 1) for i in range(len(frames) - 1)
             if frames[i].sequence == frames[i + 1].sequence]
    return np.array(pairs, dtype=int).reshape(-1, 2)


def _find_jumps(T_world_camera_n44: Float64Array, neighbours_s2: np.ndarray,
                steps_m: Float64Array, steps_deg: Float64Array) -> tuple[Jump, ...]:
    if len(steps_m) < 3:
        return ()
    # Of the upper half: a camera that mostly stands still has a median step of nothing.
    usual_m = max(float(np.percentile(steps_m, 75)), _SAME_PLACE_M)
    usual_deg = max(float(np.percentile(steps_deg, 75)), _JUMP_DEG / _JUMP_RATIO)
    sizes_s = np.maximum(steps_m / usual_m, steps_deg / usual_deg)
    large_s = sizes_s > _JUMP_RATIO
    # Steps i and i + 1 share a frame where the sequence goes on.
    shared = np.flatnonzero(neighbours_s2[:-1, 1] == neighbours_s2[1:, 0])
    around_m, around_deg = view_differences(
        T_world_camera_n44,
        np.column_stack([neighbours_s2[shared, 0], neighbours_s2[shared + 1, 1]]))
    around = np.maximum(around_m / usual_m, around_deg / usual_deg)
    out_and_back = (np.minimum(sizes_s[shared], sizes_s[shared + 1])
                    > _SPIKE_RATIO * np.maximum(around, 1.0))
    large_s[shared[out_and_back]] = True
    large_s[shared[out_and_back] + 1] = True
    return tuple(Jump(int(a), int(b), float(steps_m[i]), float(steps_deg[i]))
                 for i, (a, b) in enumerate(neighbours_s2) if large_s[i])


def _field_of_view_deg(K_33: Float64Array, image_size: tuple[int, int]) -> tuple[float, float]:
    """Between the outer edges of the image, whose pixel centres are at integers."""
    def angle(focal: float, centre: float, size: int) -> float:
        return float(np.degrees(np.arctan((centre + 0.5) / focal)
                                + np.arctan((size - 0.5 - centre) / focal)))

    return (angle(K_33[0, 0], K_33[0, 2], image_size[0]),
            angle(K_33[1, 1], K_33[1, 2], image_size[1]))


def _time_statistics(frames: Sequence[Frame], neighbours_s2: np.ndarray) -> TimeStatistics | None:
    stamps = np.array([np.nan if f.stamp_s is None else f.stamp_s for f in frames])
    if not np.isfinite(stamps).any():
        return None
    steps = stamps[neighbours_s2[:, 1]] - stamps[neighbours_s2[:, 0]]
    steps = steps[np.isfinite(steps)]
    forward = steps[steps > 0]
    usual_s = float(np.median(forward)) if len(forward) else float('nan')
    return TimeStatistics(
        int(np.isfinite(stamps).sum()), float(forward.sum()),
        1.0 / usual_s if len(forward) else 0.0, int(np.sum(steps < 0)), int(np.sum(steps == 0)),
        int(np.sum(forward > _GAP_RATIO * usual_s)), float(forward.max()) if len(forward) else 0.0)
