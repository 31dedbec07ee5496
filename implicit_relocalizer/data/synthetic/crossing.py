# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The held-out drive: across the mapped region, beside the ways of the mapping drives."""

from __future__ import annotations

import logging

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.distance import cdist

from implicit_relocalizer.data.frames import Float64Array, SceneError
from implicit_relocalizer.data.synthetic.drives import (
    CLEARANCE_M,
    COMFORT_M,
    Drive,
    FreeSpace,
    detoured,
    evenly_spaced,
    headings_rad,
    path_length_m,
    wobbling_poses,
)

logger = logging.getLogger(__name__)

RATE_HZ = 10.0
SPEED_M_S = 0.4
TURN_LIMIT_DEG_S = 42.0
START_S = 600.0
WAYS, LOOKS_PER_WAY, TRIES = 300, 8, 6000
# How far the nearest mapping view shall typically be: distance and angle in these units add up
# to about the number below.
TYPICAL_DISTANCE_M, TYPICAL_ANGLE_DEG = 0.3, 12.5
TYPICAL_UNLIKENESS = 0.8
# How far it runs from where the mapping drives ran: half of it at least, nearly all at most.
ASIDE_M, FARTHEST_ASIDE_M = 0.05, 0.25
# Closer things fill the image, and views of them change too fast to be told from afar.
VIEW_AHEAD_M = np.array([0.5, 0.8, 1.1, 1.4])


def plan_crossing(free: FreeSpace, count: int, mapped_m44: Float64Array,
                  rng: np.random.Generator) -> Drive:
    """Of many smooth ways, that whose views are as far from the mapped ones as wanted.

    Raises:
        SceneError: the furniture leaves no way through.
    """
    seconds_n = np.arange(count) / RATE_HZ
    best, best_score, ways = None, np.inf, 0
    for _ in range(TRIES):
        way = _random_way(free, count, rng)
        if way is None:
            continue
        ways += 1
        points_n2, heading_n = way
        for offset_deg in rng.permutation(np.linspace(-75, 75, LOOKS_PER_WAY)):
            yaw_n = _looking(heading_n, offset_deg, seconds_n, rng)
            if yaw_n is not None:
                poses = wobbling_poses(points_n2, yaw_n, seconds_n, rng)
                score = _unfitness(free, poses, mapped_m44)
                if score < best_score:
                    best, best_score = poses, score
        if ways >= WAYS:
            break
    if best is None:
        raise SceneError('no held-out drive fits between the furniture of this place; '
                         'use another seed')
    distance_m, angle_deg = nearest_views(best, mapped_m44)
    logger.debug('best of %d ways across (%.2f): nearest mapping view at a median of %.2f m and '
                 '%.1f degrees', ways, best_score, np.median(distance_m), np.median(angle_deg))
    return Drive('drive3', best, START_S + np.round(seconds_n, 3))


def nearest_views(poses_n44: Float64Array, others_m44: Float64Array
                  ) -> tuple[Float64Array, Float64Array]:
    """Distance in metres and angle in degrees to the most similar of other views.

    Most similar is the least sum of distance and angle in units of the typical ones.
    """
    distance = cdist(poses_n44[:, :3, 3], others_m44[:, :3, 3])
    # The trace of R_n^T R_m is the product of the two as lists of nine numbers.
    trace = poses_n44[:, :3, :3].reshape(-1, 9) @ others_m44[:, :3, :3].reshape(-1, 9).T
    angle = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    choice = (distance / TYPICAL_DISTANCE_M + angle / TYPICAL_ANGLE_DEG).argmin(axis=1)
    rows = np.arange(len(poses_n44))
    return distance[rows, choice], angle[rows, choice]


def _unfitness(free: FreeSpace, poses_n44: Float64Array, mapped_m44: Float64Array) -> float:
    """How far a drive is from what is wanted, as a sum of relative misses."""
    distance_m, angle_deg = nearest_views(poses_n44, mapped_m44)
    unlike = distance_m / TYPICAL_DISTANCE_M + angle_deg / TYPICAL_ANGLE_DEG
    aside_m = cdist(poses_n44[:, :2, 3], mapped_m44[:, :2, 3]).min(axis=1)
    steps = VIEW_AHEAD_M[:, None, None] * poses_n44[None, :, :2, 2]
    ahead = (poses_n44[None, :, :2, 3] + steps).reshape(-1, 2)
    blocked = (free.clearance(ahead) < 0.05).reshape(len(VIEW_AHEAD_M), -1).any(axis=0)
    return float(abs(np.median(unlike) - TYPICAL_UNLIKENESS)
                 + 2 * max(0.0, np.percentile(unlike, 95) - 1.7 * TYPICAL_UNLIKENESS)
                 + 4 * max(0.0, 1 - np.median(aside_m) / ASIDE_M)
                 + 4 * max(0.0, np.percentile(aside_m, 95) / FARTHEST_ASIDE_M - 1)
                 + 6 * blocked.mean())


def _random_way(free: FreeSpace, count: int, rng: np.random.Generator
                ) -> tuple[Float64Array, Float64Array] | None:
    """Positions and directions of travel of one try, or None where it touches something."""
    wanted_m = max(0.3, SPEED_M_S * count / RATE_HZ)
    corners = _random_corners(free, 1 + int(np.ceil(wanted_m / 1.4)), rng)
    if corners is None:
        return None
    line = CubicSpline(np.arange(len(corners)), corners)(
        np.linspace(0, len(corners) - 1, 40 * len(corners)))
    way = evenly_spaced(detoured(free, line, closed=False), 400 * len(corners), closed=False)
    arc_m = path_length_m(way)
    if arc_m < wanted_m:
        return None
    way = evenly_spaced(way[:int(len(way) * wanted_m / arc_m)], max(count, 400), closed=False)
    if free.clearance(way).min() < CLEARANCE_M:
        return None
    s, dense = np.linspace(0, 1, count), np.linspace(0, 1, len(way))
    heading_n = np.interp(s, dense, headings_rad(way, closed=False))
    return np.stack([np.interp(s, dense, way[:, i]) for i in (0, 1)], axis=1), heading_n


def _looking(heading_n: Float64Array, offset_deg: float, seconds_n: Float64Array,
             rng: np.random.Generator) -> Float64Array | None:
    """Yaw of a camera that looks to one side and sweeps a little; None where it turns too fast."""
    sweep = np.radians(rng.uniform(5, 20)) * np.sin(2 * np.pi * (seconds_n / 6 + rng.uniform()))
    yaw_n = heading_n + np.radians(offset_deg) + sweep
    turn_deg_s = np.degrees(np.abs(np.diff(yaw_n))) * RATE_HZ
    return yaw_n if (turn_deg_s < TURN_LIMIT_DEG_S).all() else None


def _random_corners(free: FreeSpace, count: int, rng: np.random.Generator
                    ) -> Float64Array | None:
    """Free points, one to two metres from each other, without sharp turns between them."""
    width, depth, _ = free.size_m
    pool = rng.uniform([0.5, 0.5], [width - 0.5, depth - 0.5], (60, 2))
    pool = pool[free.clearance(pool) > COMFORT_M]
    if len(pool) == 0:
        return None
    corners, heading = [pool[0]], None
    while len(corners) < count:
        step = pool - corners[-1]
        distance = np.maximum(np.linalg.norm(step, axis=1), 1e-9)
        fits = (distance > 1.0) & (distance < 2.0)
        if heading is not None:
            fits &= step @ heading / distance > 0.35
        if not fits.any():
            return None
        choice = rng.choice(np.flatnonzero(fits))
        heading = step[choice] / distance[choice]
        corners.append(pool[choice])
    return np.array(corners)
