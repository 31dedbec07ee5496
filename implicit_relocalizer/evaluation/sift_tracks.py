# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""From features of posed images to points in space: pairs, tracks, triangulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from implicit_relocalizer.data.frames import Frame
from implicit_relocalizer.evaluation.epipolar import fundamental_matrix, sampson_errors_px
from implicit_relocalizer.evaluation.metrics import Float64Array
from implicit_relocalizer.evaluation.sift_features import (
    Features,
    IntArray,
    match_mutually,
    root_descriptors,
)

MATCH_RATIO = 0.85
EPIPOLAR_LIMIT_PX = 1.4
REPROJECTION_LIMIT_PX = 3.0
LEAST_IMAGES = 2
LEAST_ANGLE_DEG = 1.5
# Pairs look for other views of the same things: near, turned little, but not from the same spot.
_LARGEST_TURN_DEG = 60.0
_LEAST_BASELINE_M = 0.02
_DEGREES_WORTH_A_METRE = 30.0
_ROBUST_PX = 1.5
_ROUNDS = 12


@dataclass(frozen=True)
class Observations:
    """o sightings of p points.

    Attributes:
        point_o: Which point, ascending.
        feature_o: Which feature, counted through all images.
        points_world_p3: Metres.
    """

    point_o: IntArray
    feature_o: IntArray
    points_world_p3: Float64Array


def choose_pairs(frames: Sequence[Frame], neighbours: int) -> list[tuple[int, int]]:
    """Pairs of frames, each with its nearest in position and direction (30 degrees = 1 m)."""
    T_n44 = np.stack([frame.T_world_camera for frame in frames])
    rotations = Rotation.from_matrix(T_n44[:, :3, :3])
    pairs = set()
    for index in range(len(frames)):
        baseline_m = np.linalg.norm(T_n44[:, :3, 3] - T_n44[index, :3, 3], axis=1)
        turn_deg = np.degrees((rotations[index].inv() * rotations).magnitude())
        cost = baseline_m + turn_deg / _DEGREES_WORTH_A_METRE
        cost[(baseline_m < _LEAST_BASELINE_M) | (turn_deg > _LARGEST_TURN_DEG)] = np.inf
        for other in np.argsort(cost, kind='stable')[:neighbours]:
            if np.isfinite(cost[other]):
                pairs.add((min(index, int(other)), max(index, int(other))))
    return sorted(pairs)


def match_pairs(frames: Sequence[Frame], features: Sequence[Features],
                pairs: Sequence[tuple[int, int]],
                progress: Callable[[int], object] = lambda done: None) -> IntArray:
    """Matches (k, 2) of features, counted through all images, that agree with the poses."""
    first_of = feature_offsets(features)
    roots = [root_descriptors(image.descriptors_n128) for image in features]
    found = [np.zeros((0, 2), np.int64)]
    for done, (a, b) in enumerate(pairs):
        matches = match_mutually(roots[a], roots[b], MATCH_RATIO)
        errors_px = epipolar_errors(frames[a], frames[b], features[a].pixels_n2[matches[:, 0]],
                                    features[b].pixels_n2[matches[:, 1]])
        found.append(matches[errors_px <= EPIPOLAR_LIMIT_PX] + [first_of[a], first_of[b]])
        progress(done + 1)
    return np.concatenate(found)


def epipolar_errors(first: Frame, second: Frame, pixels_first_n2: Float64Array,
                    pixels_second_n2: Float64Array) -> Float64Array:
    """Sampson errors (n,) in pixels of matches under the frames' own poses."""
    F_33 = fundamental_matrix(first.K_33, second.K_33,
                              np.linalg.inv(second.T_world_camera) @ first.T_world_camera)
    return sampson_errors_px(F_33, pixels_first_n2, pixels_second_n2)


def feature_offsets(features: Sequence[Features]) -> IntArray:
    """The number of each image's first feature, and last the number of all."""
    return np.cumsum([0] + [len(image.pixels_n2) for image in features])


def triangulate(frames: Sequence[Frame], features: Sequence[Features],
                matches_k2: IntArray) -> Observations:
    """Points that chains of matches see.

    A point minimises the robust (Cauchy) sum of squared angles to its rays, by iteratively
    reweighted least squares on the distances to the rays over their depths. Sightings that
    reproject too far off are dropped, then points that too few images see or from too small
    an angle.
    """
    offsets = feature_offsets(features)
    count = int(offsets[-1])
    links = coo_array((np.ones(len(matches_k2)), tuple(matches_k2.T)), shape=(count, count))
    _, track_of = connected_components(links, directed=False)
    feature_o = np.flatnonzero(np.bincount(track_of)[track_of] >= LEAST_IMAGES)
    _, point_o = np.unique(track_of[feature_o], return_inverse=True)
    order = np.argsort(point_o, kind='stable')
    feature_o, point_o = feature_o[order], point_o[order]
    image_o = np.searchsorted(offsets, feature_o, side='right') - 1
    rays = _Rays(frames, features, feature_o, image_o)
    points_p3, errors_px_o = rays.intersect(point_o)
    kept_o = errors_px_o <= REPROJECTION_LIMIT_PX
    for _ in range(2):
        kept_o &= rays.well_seen(point_o, points_p3, kept_o)[point_o]
        feature_o, point_o = feature_o[kept_o], point_o[kept_o]
        _, point_o = np.unique(point_o, return_inverse=True)
        rays = rays.only(kept_o)
        points_p3, errors_px_o = rays.intersect(point_o)
        kept_o = errors_px_o <= REPROJECTION_LIMIT_PX
    kept_o &= rays.well_seen(point_o, points_p3, kept_o)[point_o]
    kept_p, point_o = np.unique(point_o[kept_o], return_inverse=True)
    return Observations(point_o, feature_o[kept_o], points_p3[kept_p])


class _Rays:
    """The rays of o sightings in the world frame, relative to the cameras' mean position."""

    def __init__(self, frames: Sequence[Frame], features: Sequence[Features],
                 feature_o: IntArray, image_o: IntArray) -> None:
        T_n44 = np.stack([frame.T_world_camera for frame in frames])
        self._origin_3 = T_n44[:, :3, 3].mean(axis=0)
        pixels_o2 = np.concatenate([image.pixels_n2 for image in features])[feature_o]
        K_inverse_n33 = np.linalg.inv(np.stack([frame.K_33 for frame in frames]))
        rays_o3 = np.einsum('oij,oj->oi', K_inverse_n33[image_o],
                            np.column_stack([pixels_o2, np.ones(len(pixels_o2))]))
        rays_o3 = np.einsum('oij,oj->oi', T_n44[image_o, :3, :3], rays_o3)
        self._directions_o3 = rays_o3 / np.linalg.norm(rays_o3, axis=1, keepdims=True)
        self._centres_o3 = T_n44[image_o, :3, 3] - self._origin_3
        self._focal_px_o = np.array([frame.K_33[0, 0] for frame in frames])[image_o]
        self._image_o = image_o

    def only(self, kept_o: np.ndarray) -> _Rays:
        """The rays of some of the sightings."""
        chosen = object.__new__(_Rays)
        chosen._origin_3 = self._origin_3
        for name in ('_directions_o3', '_centres_o3', '_focal_px_o', '_image_o'):
            setattr(chosen, name, getattr(self, name)[kept_o])
        return chosen

    def intersect(self, point_o: IntArray) -> tuple[Float64Array, Float64Array]:
        """Points (p, 3) in the world frame, and by how many pixels each ray misses its own."""
        d_o3, c_o3 = self._directions_o3, self._centres_o3
        across_o33 = np.eye(3) - d_o3[:, :, None] * d_o3[:, None, :]
        weights_o = np.ones(len(point_o))
        starts = np.flatnonzero(np.diff(point_o, prepend=-1))
        for _ in range(_ROUNDS):
            A_p33 = np.add.reduceat(weights_o[:, None, None] * across_o33, starts)
            b_p3 = np.add.reduceat(
                weights_o[:, None] * np.einsum('oij,oj->oi', across_o33, c_o3), starts)
            # a breath of damping: parallel rays meet nowhere
            damping = 1e-9 * np.trace(A_p33, axis1=1, axis2=2)[:, None, None] * np.eye(3)
            points_p3 = np.linalg.solve(A_p33 + damping, b_p3[..., None])[..., 0]
            depth_o, miss_px_o = self._misses(points_p3[point_o])
            weights_o = 1.0 / (1.0 + (miss_px_o / _ROBUST_PX) ** 2) / np.maximum(depth_o, 0.1) ** 2
        return points_p3 + self._origin_3, miss_px_o

    def _misses(self, points_o3: Float64Array) -> tuple[Float64Array, Float64Array]:
        offset_o3 = points_o3 - self._centres_o3
        depth_o = (offset_o3 * self._directions_o3).sum(axis=1)
        across_o = np.linalg.norm(offset_o3 - depth_o[:, None] * self._directions_o3, axis=1)
        behind_o = depth_o < 0.05
        return depth_o, np.where(behind_o, 1e6, self._focal_px_o * across_o
                                 / np.where(behind_o, 1.0, depth_o))

    def well_seen(self, point_o: IntArray, points_world_p3: Float64Array,
                  kept_o: np.ndarray) -> np.ndarray:
        """Which points (p,) enough images see from far enough apart, of the sightings kept."""
        count = len(points_world_p3)
        towards_o3 = self._centres_o3 - (points_world_p3 - self._origin_3)[point_o]
        towards_o3 = towards_o3 / np.maximum(np.linalg.norm(towards_o3, axis=1, keepdims=True),
                                             1e-9)
        kept_images = np.unique(np.column_stack([point_o, self._image_o])[kept_o], axis=0)
        images_p = np.bincount(kept_images[:, 0], minlength=count)
        mean_p3 = np.zeros((count, 3))
        np.add.at(mean_p3, point_o[kept_o], towards_o3[kept_o])
        mean_p3 /= np.maximum(np.linalg.norm(mean_p3, axis=1, keepdims=True), 1e-9)
        cosine_o = np.where(kept_o, (towards_o3 * mean_p3[point_o]).sum(axis=1), 1.0)
        least_p = np.ones(count)
        np.minimum.at(least_p, point_o, cosine_o)
        # the widest ray lies about half of the whole angle from the mean
        return ((images_p >= LEAST_IMAGES)
                & (np.degrees(np.arccos(least_p.clip(-1, 1))) >= 0.5 * LEAST_ANGLE_DEG))
