# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Ways of a wheeled robot round the furniture, and the two drives that map a place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import (
    correlate1d,
    distance_transform_edt,
    gaussian_filter1d,
    map_coordinates,
)

from implicit_relocalizer.data.frames import Float64Array, SceneError

logger = logging.getLogger(__name__)

GRID_M = 0.02
CLEARANCE_M = 0.3
COMFORT_M = 0.5
MAPPING_SPEED_M_S = 0.3
CAMERA_HEIGHT_M = 1.0
PITCH_DEG = -4.0
LOOP_ATTEMPTS = 100
TURNING_RADIUS_M = 0.25


@dataclass(frozen=True, eq=False)
class Drive:
    """One recording: its name, camera poses (n, 4, 4) in the world and times (n,) in seconds."""

    name: str
    T_world_camera_n44: Float64Array
    stamp_s_n: Float64Array


class FreeSpace:
    """Signed distance in metres to the nearest obstacle or wall, negative inside."""

    def __init__(self, size_m: tuple[float, float, float],
                 obstacles: Sequence[Float64Array]) -> None:
        columns, rows = (int(np.ceil(length / GRID_M)) + 1 for length in size_m[:2])
        drawing = Image.new('L', (columns, rows), 0)
        pen = ImageDraw.Draw(drawing)
        for outline in obstacles:
            pen.polygon([tuple(corner) for corner in (outline / GRID_M).tolist()], fill=1)
        occupied = np.pad(np.asarray(drawing).astype(bool), 1, constant_values=True)
        distance = distance_transform_edt(~occupied) - distance_transform_edt(occupied)
        self._distance = distance[1:-1, 1:-1] * GRID_M
        lack = np.maximum(0, COMFORT_M - self._distance)
        slope_y, slope_x = np.gradient(self._distance, GRID_M)
        self._push = 0.3 * lack[..., None] * np.stack([slope_x, slope_y], axis=2)
        self.size_m = size_m

    def clearance(self, points_n2: Float64Array) -> Float64Array:
        """Distance to the nearest obstacle at points (x, y)."""
        return map_coordinates(self._distance, points_n2.T[::-1] / GRID_M, order=1,
                               mode='nearest')

    def pushed(self, points_n2: Float64Array) -> Float64Array:
        """Points that are closer than comfortable, shifted a little away from the obstacle."""
        rows, columns = self._distance.shape
        x, y = np.minimum(np.maximum(points_n2 / GRID_M, 0), [columns - 1, rows - 1]).astype(int).T
        return points_n2 + self._push[y, x]


def plan_mapping(free: FreeSpace, frames: int, rng: np.random.Generator) -> list[Drive]:
    """Two mapping drives: a loop round the room, and a figure eight the other way round.

    Raises:
        SceneError: the furniture leaves no way through.
    """
    first, second = (frames + 1) // 2, frames // 2
    return [
        _mapping_drive('drive1', _loop(free, rng), first, 40.0, 3.5, free, rng, 0.0),
        _mapping_drive('drive2', _figure_eight(free, rng), second, 55.0, 3.0, free, rng, 300.0)]


def _loop(free: FreeSpace, rng: np.random.Generator) -> Float64Array:
    """A closed way round the room, counter-clockwise."""
    width, depth, _ = free.size_m
    t = np.linspace(0, 2 * np.pi, 300, endpoint=False) + rng.uniform(0, 2 * np.pi)
    round_corner = 0.75
    c, s = (np.sign(wave) * np.abs(wave) ** round_corner for wave in (np.cos(t), np.sin(t)))
    for attempt in range(LOOP_ATTEMPTS):
        loose = 0.5 * attempt / LOOP_ATTEMPTS
        left, right, low, high = 1.2 + rng.uniform(-0.3 * loose, loose, 4)
        half = np.array([width - left - right, depth - low - high]) / 2
        way = detoured(free, np.array([left, low]) + half + half * np.stack([c, s], axis=1),
                       closed=True)
        if _is_drivable(free, way):
            return way
    raise SceneError('no loop fits between the furniture of this place; use another seed')


def _figure_eight(free: FreeSpace, rng: np.random.Generator) -> Float64Array:
    """A closed way that crosses itself in the middle of the room."""
    width, depth, _ = free.size_m
    t = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    for _ in range(LOOP_ATTEMPTS):
        a, b = rng.uniform(1.6, 2.3), rng.uniform(0.8, 1.4)
        middle = np.array([width / 2, depth / 2]) + rng.uniform(-0.4, 0.4, 2)
        way = detoured(free, middle + np.stack([a * np.sin(t), b * np.sin(2 * t)], axis=1),
                       closed=True)
        if _is_drivable(free, way):
            return way
    raise SceneError('no figure eight fits between the furniture of this place; use another seed')


def _is_drivable(free: FreeSpace, way_n2: Float64Array) -> bool:
    """Whether a closed line keeps clear of everything and has no sharp turn."""
    step_m = path_length_m(way_n2) / len(way_n2)
    turn = np.abs(np.diff(headings_rad(way_n2, closed=True))).max() / step_m
    return bool(free.clearance(way_n2).min() >= CLEARANCE_M and turn < 1 / TURNING_RADIUS_M)


def detoured(free: FreeSpace, points_n2: Float64Array, closed: bool) -> Float64Array:
    """Push a line away from obstacles by smooth detours; evenly spaced at the end."""
    mode = 'wrap' if closed else 'nearest'
    way = points_n2
    # What gaussian_filter1d does, less the preparation, which here takes longer than the work.
    bell = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    bell /= bell.sum()
    for _ in range(100):
        way = points_n2 + correlate1d(free.pushed(way) - points_n2, bell, axis=0, mode=mode)
    return evenly_spaced(gaussian_filter1d(way, 4.0, axis=0, mode=mode), len(way), closed)


def evenly_spaced(points_n2: Float64Array, count: int, closed: bool) -> Float64Array:
    """Resample a line at equal distances by a cubic spline."""
    if closed:
        points_n2 = np.concatenate([points_n2, points_n2[:1]])
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points_n2, axis=0), axis=1))])
    spline = CubicSpline(arc, points_n2, bc_type='periodic' if closed else 'not-a-knot')
    return spline(np.linspace(0, arc[-1], count, endpoint=not closed))


def path_length_m(points_n2: Float64Array) -> float:
    return float(np.linalg.norm(np.diff(points_n2, axis=0), axis=1).sum())


def headings_rad(points_n2: Float64Array, closed: bool) -> Float64Array:
    """Direction of travel in radians, unwrapped and slightly smoothed."""
    step = (np.roll(points_n2, -1, axis=0) - np.roll(points_n2, 1, axis=0) if closed
            else np.gradient(points_n2, axis=0))
    return np.unwrap(np.arctan2(step[:, 1], step[:, 0]))


def _mapping_drive(name: str, way_n2: Float64Array, count: int, sweep_deg: float,
                   wavelength_m: float, free: FreeSpace, rng: np.random.Generator,
                   start_s: float) -> Drive:
    """Drive once along a closed way while the camera sweeps to either side."""
    if name == 'drive2':
        way_n2 = way_n2[::-1].copy()
    points = evenly_spaced(way_n2, count, closed=True)
    dense = evenly_spaced(way_n2, 2000, closed=True)
    s = np.arange(count) / count
    heading = np.interp(s, np.arange(2000) / 2000, headings_rad(dense, closed=True))
    length = path_length_m(dense)
    cycles = max(1, round(length / wavelength_m))
    yaw = heading + np.radians(sweep_deg) * np.sin(2 * np.pi * (cycles * s + rng.uniform()))
    poses = wobbling_poses(points, yaw, length / MAPPING_SPEED_M_S * s, rng)
    logger.debug('%s: %.1f m, clearance %.2f m', name, length, free.clearance(points).min())
    return Drive(name, poses, start_s + np.round(length / MAPPING_SPEED_M_S * s, 3))


def wobbling_poses(points_n2: Float64Array, yaw_n: Float64Array, seconds_n: Float64Array,
                    rng: np.random.Generator) -> Float64Array:
    """Camera-to-world poses of a mast that shakes by a centimetre and a degree or so."""
    waves = [sum(a * np.sin(2 * np.pi * f * seconds_n + rng.uniform(0, 6.28))
                 for a, f in ((0.6, 0.31), (0.4, 0.83))) for _ in range(3)]
    height = CAMERA_HEIGHT_M + 0.008 * waves[0]
    pitch, roll = np.radians(PITCH_DEG + 0.9 * waves[1]), np.radians(0.8 * waves[2])
    forward = np.stack([np.cos(yaw_n) * np.cos(pitch), np.sin(yaw_n) * np.cos(pitch),
                        np.sin(pitch)], axis=1)
    level = np.stack([np.sin(yaw_n), -np.cos(yaw_n), np.zeros_like(yaw_n)], axis=1)
    below = np.cross(forward, level)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    T = np.tile(np.eye(4), (len(yaw_n), 1, 1))
    T[:, :3, 0], T[:, :3, 1], T[:, :3, 2] = c * level + s * below, c * below - s * level, forward
    T[:, :2, 3], T[:, 2, 3] = points_n2, height
    return T
