# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of frames that see the same things, and where they see them: from images, not poses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from implicit_relocalizer.data.frames import Float64Array, Frame, SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.evaluation.epipolar import MatchedPair, sampson_errors_px

_LONGEST_SIDE_PX = 640  # larger images are matched at this size, for time
_MAX_FEATURES = 1200
_MIN_FEATURES = 50  # an image with fewer shows too little
_NEAREST_RATIO = 0.8  # Lowe's ratio test
_MIN_MATCHES = 40
_MAX_FIT_ERROR = 2e-3  # of the longest side: a match counts as one if epipolar lines fit it
# Median displacement, as a share of the longest side, that tells poses apart from noise.
_LEAST_DISPLACEMENT, _WANTED_DISPLACEMENT = 0.015, 0.04
_GAPS = (1, 2, 4, 8, 16, 32)
_ATTEMPTS = 4
_LARGEST_TURN_DEG = 25.0

TOO_FEW_FEATURES = 'the image shows too few features (blank, dark or blurred)'
TOO_FEW_MATCHES = 'its neighbours show too little of the same'
TOO_LITTLE_MOTION = 'the camera hardly moves'


@dataclass
class PairSearch:
    """What was found.

    Attributes:
        pairs: With enough matches and motion.
        failures: Why the other tries led to no pair, with counts.
    """

    pairs: list[MatchedPair] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Features:
    points_n2: Float64Array
    descriptors_nd: np.ndarray
    longest_side_px: float


class PairFinder:
    """Matches SIFT features of the frames of one scene; every image is decoded once.

    Images that cannot be read count among the failures: one does not stop a thousand.

    Args:
        frames: All of a scene, in its order, in which neighbours see much of the same.
        progress: Wraps the frames to start from, such as tqdm.
    """

    def __init__(self, frames: Sequence[Frame],
                 progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> None:
        self._frames = frames
        self._progress = progress
        self._sift = cv2.SIFT_create(nfeatures=_MAX_FEATURES)  # type: ignore[attr-defined]
        self._features: dict[int, _Features] = {}
        self._unreadable: dict[int, str] = {}
        self._gap = 1

    def spread(self, count: int) -> PairSearch:
        """Look for one pair at each of `count` frames spread over the scene."""
        found = PairSearch()
        anchors = np.unique(np.linspace(0, len(self._frames) - 1, min(count, len(self._frames)))
                            .round().astype(int))
        known: set[frozenset[int]] = set()
        for anchor in self._progress(anchors.tolist()):
            pair = self._pair_of(anchor, found.failures, known)
            if pair is not None:
                found.pairs.append(pair)
                known.add(frozenset((pair.first, pair.second)))
        return found

    def match(self, first: int, second: int) -> MatchedPair | None:
        """The verified matches of two frames, None where there are too few.

        Nearest neighbours in both directions that pass the ratio test and lie near the epipolar
        lines that fit most of them.
        """
        features = [self._features_of(index) for index in (first, second)]
        if any(len(one.points_n2) < _MIN_FEATURES for one in features):
            return None
        rows_first, rows_second = _mutual_neighbours(features[0].descriptors_nd,
                                                     features[1].descriptors_nd)
        if len(rows_first) < _MIN_MATCHES:
            return None
        points_first_n2 = features[0].points_n2[rows_first]
        points_second_n2 = features[1].points_n2[rows_second]
        try:
            F_33, inliers = cv2.findFundamentalMat(
                points_first_n2, points_second_n2, cv2.USAC_MAGSAC,
                _MAX_FIT_ERROR * features[0].longest_side_px, 0.999, 2000)
        except cv2.error:  # an assertion of OpenCV's where no sample of the matches fits
            return None
        if F_33 is None or F_33.shape != (3, 3) or int(inliers.sum()) < _MIN_MATCHES:
            return None
        kept = inliers.ravel().astype(bool)
        points_first_n2, points_second_n2 = points_first_n2[kept], points_second_n2[kept]
        moved_n = np.linalg.norm(points_first_n2 - points_second_n2, axis=1)
        free_n = sampson_errors_px(F_33, points_first_n2, points_second_n2)
        return MatchedPair(first, second, points_first_n2, points_second_n2,
                           float(np.median(moved_n)), float(np.median(free_n)))

    def _pair_of(self, anchor: int, failures: Counter[str],
                 known: set[frozenset[int]]) -> MatchedPair | None:
        if len(self._features_of(anchor).points_n2) < _MIN_FEATURES:
            failures[self._unreadable.get(anchor, TOO_FEW_FEATURES)] += 1
            return None
        longest_px = self._features_of(anchor).longest_side_px
        best: MatchedPair | None = None
        still = False
        gap = self._gap
        tried: set[int] = set()
        # Farther neighbours as long as they move too little, nearer ones where matches are lost.
        for _ in range(_ATTEMPTS):
            other = self._neighbour(anchor, gap)
            if other is None or other in tried or frozenset((anchor, other)) in known:
                break
            tried.add(other)
            pair = self.match(anchor, other)
            index = _GAPS.index(gap)
            if pair is None:
                if best is not None or index == 0:
                    break
                gap = _GAPS[index - 1]
                continue
            still |= pair.displacement_px < _LEAST_DISPLACEMENT * longest_px
            if best is None or pair.displacement_px > best.displacement_px:
                best, self._gap = pair, gap
            if (pair.displacement_px >= _WANTED_DISPLACEMENT * longest_px
                    or index + 1 == len(_GAPS)):
                break
            gap = _GAPS[index + 1]
        if best is None:
            candidates = (other for other in self._look_alikes(anchor) if other not in tried
                          and frozenset((anchor, other)) not in known)
            best = next((pair for pair in (self.match(anchor, other) for other in candidates)
                         if pair is not None), None)
        if best is not None and best.displacement_px >= _LEAST_DISPLACEMENT * longest_px:
            return best
        failures[TOO_LITTLE_MOTION if best is not None or still else TOO_FEW_MATCHES] += 1
        return None

    def _neighbour(self, anchor: int, gap: int) -> int | None:
        """The frame `gap` later in the same sequence, or earlier where it ends."""
        for other in (anchor + gap, anchor - gap):
            if (0 <= other < len(self._frames)
                    and self._frames[other].sequence == self._frames[anchor].sequence):
                return other
        return None

    def _look_alikes(self, anchor: int) -> Iterator[int]:
        """Frames that may see the same where the order of the frames does not help.

        The angle between two attitudes does not depend on the poses' convention; the distance
        does, so that the nearest is offered of either reading.
        """
        T_n44 = np.stack([frame.T_world_camera for frame in self._frames])
        traces_n = np.einsum('ij,nij->n', T_n44[anchor, :3, :3], T_n44[:, :3, :3])
        turns_deg_n = np.degrees(np.arccos(np.clip((traces_n - 1) / 2, -1.0, 1.0)))
        for positions_n3 in (T_n44[:, :3, 3], np.linalg.inv(T_n44)[:, :3, 3]):
            distances_n = np.linalg.norm(positions_n3 - positions_n3[anchor], axis=1)
            distances_n[turns_deg_n > _LARGEST_TURN_DEG] = np.inf
            distances_n[anchor] = np.inf
            nearest = int(distances_n.argmin())
            if np.isfinite(distances_n[nearest]):
                yield nearest

    def _features_of(self, index: int) -> _Features:
        if index not in self._features:
            try:
                image_hw3 = read_frame_image(self._frames[index]).numpy()
            except SceneError as error:
                self._unreadable[index] = str(error)
                image_hw3 = np.zeros((2, 2, 3), np.uint8)
            self._features[index] = self._detect(image_hw3)
        return self._features[index]

    def _detect(self, image_hw3: np.ndarray) -> _Features:
        grey = cv2.cvtColor(image_hw3, cv2.COLOR_RGB2GRAY)
        longest_px = max(grey.shape)
        scale = min(1.0, _LONGEST_SIDE_PX / longest_px)
        if scale < 1.0:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        keypoints, descriptors = self._sift.detectAndCompute(grey, None)
        points_n2 = np.array([point.pt for point in keypoints], np.float64).reshape(-1, 2)
        if descriptors is None:
            descriptors = np.zeros((0, 128), np.float32)
        return _Features((points_n2 + 0.5) / scale - 0.5, descriptors, float(longest_px))


def _mutual_neighbours(first_nd: np.ndarray, second_nd: np.ndarray,
                       ) -> tuple[np.ndarray, np.ndarray]:
    """Rows of descriptors that are nearest to each other and pass the ratio test both ways."""
    squares_nm = (np.sum(first_nd ** 2, axis=1)[:, None] + np.sum(second_nd ** 2, axis=1)
                  - 2.0 * first_nd @ second_nd.T)
    forward_n, backward_m = squares_nm.argmin(axis=1), squares_nm.argmin(axis=0)
    rows_n = np.arange(len(first_nd))
    mutual_n = backward_m[forward_n] == rows_n
    best_n = squares_nm[rows_n, forward_n]
    second_in_row_n = np.partition(squares_nm, 1, axis=1)[:, 1]
    second_in_column_n = np.partition(squares_nm, 1, axis=0)[1][forward_n]
    limit_n = _NEAREST_RATIO ** 2 * np.minimum(second_in_row_n, second_in_column_n)
    kept_n = mutual_n & (best_n < limit_n)
    return rows_n[kept_n], forward_n[kept_n]
