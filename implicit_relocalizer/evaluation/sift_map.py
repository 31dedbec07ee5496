# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The rival: a map of SIFT features with known positions, and PnP-RANSAC against it.

Classical structure-based localization at its best circumstances: the training poses are known, so
features are only matched between neighbours, checked against their epipolar lines and
triangulated. Everything is kept: one descriptor for every sighting of a point.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from implicit_relocalizer.data.frames import Frame, SceneError
from implicit_relocalizer.data.images import read_frame_image
from implicit_relocalizer.evaluation.locating import LocatedFrame
from implicit_relocalizer.evaluation.metrics import Float64Array
from implicit_relocalizer.evaluation.perspective import PerspectivePose, pose_from_points
from implicit_relocalizer.evaluation.sift_features import (
    FeatureDetector,
    Features,
    IntArray,
    root_descriptors,
)
from implicit_relocalizer.evaluation.sift_tracks import choose_pairs, match_pairs, triangulate

logger = logging.getLogger(__name__)

QUERY_RATIO = 0.85
RANSAC_LIMIT_PX = 5.0
FINAL_LIMIT_PX = 3.0
LEAST_INLIERS = 12
_KD_TREES, _KD_CHECKS, _NEIGHBOURS = 4, 256, 6
_FLANN_KD_TREE = 1


@dataclass(frozen=True)
class SiftMap:
    """p points in the world, and d descriptors of how they look.

    Attributes:
        points_world_p3: Metres.
        descriptors_d128: SIFT of every sighting.
        point_d: The point that each descriptor shows.
    """

    points_world_p3: Float64Array
    descriptors_d128: NDArray[np.uint8]
    point_d: IntArray

    @property
    def size_bytes(self) -> int:
        """What must be stored: positions in single precision, bytes, 32-bit indices."""
        return (12 * len(self.points_world_p3) + self.descriptors_d128.size
                + 4 * len(self.point_d))


def build_sift_map(frames: Sequence[Frame], detector: FeatureDetector, neighbours: int = 12,
                   show_progress: bool = True) -> SiftMap:
    """Match training images to their neighbours, and triangulate what they share.

    Raises:
        SceneError: nothing could be triangulated.
    """
    hide = not show_progress
    features = [detector.detect(read_frame_image(frame).numpy())
                for frame in tqdm(frames, desc='features', unit='image', disable=hide)]
    pairs = choose_pairs(frames, neighbours)
    with tqdm(total=len(pairs), desc='matching', unit='pair', disable=hide) as bar:
        matches_k2 = match_pairs(frames, features, pairs, lambda done: bar.update(done - bar.n))
    if not len(matches_k2):
        raise SceneError(f'no feature of the {len(frames)} training images matches another in '
                         f'accordance with the poses; check their convention with `inspect`')
    seen = triangulate(frames, features, matches_k2)
    if not len(seen.points_world_p3):
        raise SceneError(f'no point could be triangulated from {len(matches_k2)} matches; the '
                         f'cameras of the training images stand too close together')
    descriptors = np.concatenate([image.descriptors_n128 for image in features])
    logger.info('%d points with %d descriptors from %d pairs of images',
                len(seen.points_world_p3), len(seen.feature_o), len(pairs))
    return SiftMap(seen.points_world_p3, descriptors[seen.feature_o], seen.point_o)


class SiftLocalizer:
    """Finds images in a map: approximate nearest neighbours, ratio test, PnP-RANSAC, LM."""

    def __init__(self, sift_map: SiftMap, detector: FeatureDetector) -> None:
        cv2.setRNGSeed(0)  # the trees are random; the same map gives the same answers
        self._map = sift_map
        self._detector = detector
        self._roots = root_descriptors(sift_map.descriptors_d128)
        self._index = cv2.flann_Index(  # type: ignore[attr-defined]
            self._roots, {'algorithm': _FLANN_KD_TREE, 'trees': _KD_TREES})

    def locate(self, image_hw3: NDArray[np.uint8], K_33: Float64Array) -> PerspectivePose | None:
        """The pose of an RGB image; None where too few points agree on one."""
        features = self._detector.detect(image_hw3)
        if len(features.pixels_n2) < LEAST_INLIERS:
            return None
        feature_m, point_m = self._match(features)
        return pose_from_points(
            self._map.points_world_p3[point_m], features.pixels_n2[feature_m], K_33,
            RANSAC_LIMIT_PX, LEAST_INLIERS, FINAL_LIMIT_PX)

    def locate_frames(self, frames: Iterable[Frame]) -> list[LocatedFrame]:
        """Localize frames one by one; confidence is the number of inliers."""
        located = []
        for frame in frames:
            image_hw3 = read_frame_image(frame).numpy()
            start_s = time.perf_counter()
            pose = self.locate(image_hw3, frame.K_33)
            duration_ms = 1e3 * (time.perf_counter() - start_s)
            located.append(LocatedFrame(
                frame, None if pose is None else pose.T_world_camera,
                0.0 if pose is None else float(len(pose.inliers)), duration_ms))
        return located

    def _match(self, features: Features) -> tuple[IntArray, IntArray]:
        """Features and the points they show: nearest of all, by the ratio to another point."""
        queries = root_descriptors(features.descriptors_n128)
        count = min(_NEIGHBOURS, len(self._roots))
        index_nk, squared_nk = self._index.knnSearch(queries, count, params={'checks': _KD_CHECKS})
        point_nk = self._map.point_d[index_nk]
        other_nk = point_nk != point_nk[:, :1]
        # Where all neighbours show one point, another is at least as far as the last of them.
        rival_n = np.where(other_nk.any(axis=1), other_nk.argmax(axis=1), count - 1)
        rows = np.arange(len(queries))
        good_n = squared_nk[:, 0] <= QUERY_RATIO ** 2 * squared_nk[rows, rival_n]
        good_n |= ~other_nk.any(axis=1)
        return np.flatnonzero(good_n), point_nk[good_n, 0]
