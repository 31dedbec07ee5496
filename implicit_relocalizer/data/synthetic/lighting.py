# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Computes once how light falls on every patch: lamps, windows, sun, and light bounced between.

Shadows come from depth pictures drawn at each light. Bounced light is that of a few hundred
virtual point lights on lit surfaces (Keller, Instant Radiosity, SIGGRAPH 1997), whose missing
short range is what darkens corners and the floor under furniture.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from implicit_relocalizer.data.frames import Float64Array
from implicit_relocalizer.data.synthetic.patches import Patch, size_of_sheet
from implicit_relocalizer.data.synthetic.rendering import Mesh, MeshRenderer

logger = logging.getLogger(__name__)

Float32Array = NDArray[np.float32]
BOUNCE_CLAMP_M = 0.7
MULTI_BOUNCE_GAIN = 1.5
SHADOW_OFFSET_M = 0.012
SMOOTHED_CELLS = 12
SUN_DISTANCE_M, SUN_VIEW_M = 45.0, 10.0
# Rows: right, down and forward of a camera that looks along +x, -x, +y, -y, +z, -z.
CUBE_FACES = [np.array(face, dtype=np.float64) for face in (
    [[0, 0, 1], [0, -1, 0], [1, 0, 0]], [[0, 0, -1], [0, -1, 0], [-1, 0, 0]],
    [[1, 0, 0], [0, 0, -1], [0, 1, 0]], [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[-1, 0, 0], [0, 1, 0], [0, 0, -1]])]


@dataclass(frozen=True, eq=False)
class PointLight:
    """A small light of `flux_3` linear RGB; with a normal it shines into a half-space only."""

    position: Float64Array
    flux_3: Float64Array
    normal: Float64Array | None = None


@dataclass(frozen=True, eq=False)
class Sun:
    """Parallel light travelling along `direction`, with linear RGB irradiance."""

    direction: Float64Array
    irradiance_3: Float64Array


@dataclass(frozen=True, eq=False)
class Cells:
    """The small areas for which light is computed, those of all patches in one list."""

    points_n3: Float32Array
    normals_n3: Float32Array
    areas_n: Float32Array
    albedo_n3: Float32Array
    two_sided_n: NDArray[np.bool_]
    shapes: list[tuple[int, int]]
    starts: NDArray[np.int64]


def light_patches(patches: Sequence[Patch], lights: Sequence[PointLight], sun: Sun | None, *,
                  cell_m: float, bounce_lights: int, shadow_size: int,
                  rng: np.random.Generator) -> list[Float32Array | None]:
    """Irradiance of every patch as a (rows, columns, 3) linear picture; None where it glows."""
    cells = _make_cells(patches, cell_m)
    blockers = [_blocker_mesh(patches)]
    cube = MeshRenderer(blockers, _right_angle_intrinsics(shadow_size), (shadow_size,) * 2)
    direct = np.zeros_like(cells.points_n3)
    for light in lights:
        direct += _from_point(cells, light, cube, shadow_size, clamp_m=0.05)
    if sun is not None:
        direct += _from_sun(cells, sun, blockers, 8 * shadow_size)
    bounced = np.zeros_like(direct)
    for light in _virtual_lights(cells, direct, bounce_lights, rng):
        bounced += _from_point(cells, light, cube, shadow_size, clamp_m=BOUNCE_CLAMP_M)
    cube.close()
    logger.debug('lit %d cells with %d lights and %d bounces', len(direct), len(lights),
                 bounce_lights)
    pictures: list[Float32Array | None] = []
    for patch, start, shape in zip(patches, cells.starts, cells.shapes, strict=True):
        part = slice(start, start + shape[0] * shape[1])
        picture = MULTI_BOUNCE_GAIN * bounced[part].reshape(*shape, 3)
        if min(shape) >= SMOOTHED_CELLS:
            # So few lights cast outlines of shadows that light from everywhere would not.
            picture = gaussian_filter(picture, (2.5, 2.5, 0), mode='nearest')
        pictures.append(None if patch.glows else picture + direct[part].reshape(*shape, 3))
    return pictures


def evaluate_sheet(points: Float64Array, rows: int, columns: int) -> Float64Array:
    """Bilinear points of a patch at the middles of (rows x columns) equal cells."""
    v = (np.arange(rows) + 0.5) / rows * (points.shape[0] - 1)
    u = (np.arange(columns) + 0.5) / columns * (points.shape[1] - 1)
    i, j = v.astype(int), u.astype(int)
    fv, fu = (v - i)[:, None, None], (u - j)[None, :, None]
    top = points[i][:, j] * (1 - fu) + points[i][:, j + 1] * fu
    bottom = points[i + 1][:, j] * (1 - fu) + points[i + 1][:, j + 1] * fu
    return top * (1 - fv) + bottom * fv


def _make_cells(patches: Sequence[Patch], cell_m: float) -> Cells:
    points, normals, areas, albedos, sides, shapes, starts = [], [], [], [], [], [], [0]
    for patch in patches:
        width, height = size_of_sheet(patch.points)
        rows, columns = (2 if patch.glows else max(2, round(length / cell_m))
                         for length in (height, width))
        grid = evaluate_sheet(patch.points, 3 * rows, 3 * columns)
        across = grid[1::3, 2::3] - grid[1::3, 0::3]
        down = grid[2::3, 1::3] - grid[0::3, 1::3]
        normal = np.cross(down, across)
        norm = np.linalg.norm(normal, axis=2, keepdims=True)
        small = Image.fromarray(patch.picture).resize((columns, rows), Image.Resampling.BOX)
        points.append(grid[1::3, 1::3].reshape(-1, 3))
        normals.append((normal / np.maximum(norm, 1e-12)).reshape(-1, 3))
        areas.append(norm.ravel() * 2.25)  # the differences span two thirds of a cell
        albedos.append((np.asarray(small).reshape(-1, 3) / 255.0) ** 2.2
                       * (0.0 if patch.glows else 1.0))
        sides.append(np.full(rows * columns, patch.two_sided))
        shapes.append((rows, columns))
        starts.append(starts[-1] + rows * columns)
    return Cells(np.concatenate(points).astype(np.float32),
                 np.concatenate(normals).astype(np.float32),
                 np.concatenate(areas).astype(np.float32),
                 np.concatenate(albedos).astype(np.float32),
                 np.concatenate(sides), shapes, np.array(starts[:-1]))


def _blocker_mesh(patches: Sequence[Patch]) -> Mesh:
    vertices, triangles, count = [], [], 0
    for patch in patches:
        if patch.casts_shadow:
            vertices.append(patch.points.reshape(-1, 3))
            triangles.append(grid_triangles(*patch.points.shape[:2]) + count)
            count += len(vertices[-1])
    return Mesh(np.concatenate(vertices), np.concatenate(triangles))


def grid_triangles(rows: int, columns: int) -> NDArray[np.int64]:
    """Triangles over a grid of (rows x columns) vertices in row order."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.stack([np.stack([a, d, b], axis=2), np.stack([b, d, c], axis=2)],
                    axis=2).reshape(-1, 3)


def _right_angle_intrinsics(size: int) -> Float64Array:
    return np.array([[size / 2, 0, (size - 1) / 2], [0, size / 2, (size - 1) / 2], [0, 0, 1]])


def _from_point(cells: Cells, light: PointLight, cube: MeshRenderer, size: int,
                clamp_m: float) -> Float32Array:
    """Irradiance from one light: flux / (pi or 4 pi) * cosines / distance^2, where visible."""
    to_cell = cells.points_n3 - light.position.astype(np.float32)
    facing = -np.einsum('ij,ij->i', to_cell, cells.normals_n3)
    candidates = (facing > 0) | cells.two_sided_n
    if light.normal is not None:
        ahead = to_cell @ light.normal.astype(np.float32)
        candidates &= ahead > 0
    lit = np.flatnonzero(candidates)
    to_cell, facing, thin = to_cell[lit], facing[lit], cells.two_sided_n[lit]
    square = np.maximum(np.einsum('ij,ij->i', to_cell, to_cell), 1e-6)
    weight = np.where(thin, 0.8 * np.abs(facing), facing) / np.sqrt(square) / np.maximum(
        square, clamp_m ** 2)
    if light.normal is None:
        weight /= 4 * np.pi
    else:
        weight *= ahead[lit] / np.sqrt(square) / np.pi
    # Cells look from a little above their surface, more so from afar where shadow pixels are big.
    lift = np.where(thin, 0, SHADOW_OFFSET_M + 1.5 * np.sqrt(square) / size).astype(np.float32)
    visible = _visible(to_cell + cells.normals_n3[lit] * lift[:, None],
                       np.where(thin, 0.03, 0.006).astype(np.float32), light, cube, size)
    out = np.zeros_like(cells.points_n3)
    out[lit] = (weight * visible)[:, None] * light.flux_3.astype(np.float32)
    return out


def _visible(seen_n3: Float32Array, slack_n: Float32Array, light: PointLight,
             cube: MeshRenderer, size: int) -> NDArray[np.bool_]:
    """Which points, given relative to the light, no surface hides: one depth picture a side."""
    visible = np.zeros(len(seen_n3), bool)
    axis = np.abs(seen_n3).argmax(axis=1)
    side = 2 * axis + (seen_n3[np.arange(len(axis)), axis] < 0)
    for number, R_face_light in enumerate(CUBE_FACES):
        chosen = np.flatnonzero(side == number)
        if len(chosen):
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = R_face_light.T, light.position
            depth = cube.depth(T)
            local = seen_n3[chosen] @ R_face_light.T.astype(np.float32)
            pixel = (local[:, :2] / local[:, 2:] + 1) * (size / 2)
            x, y = np.clip(pixel.astype(np.int32), 0, size - 1).T
            visible[chosen] = local[:, 2] <= depth[y, x] + slack_n[chosen]
    return visible


def _from_sun(cells: Cells, sun: Sun, blockers: list[Mesh], size: int) -> Float32Array:
    """Sunlight, with shadows drawn by a distant pinhole of long focal length."""
    direction = sun.direction / np.linalg.norm(sun.direction)
    at_cell = -(cells.normals_n3 @ direction.astype(np.float32))
    at_cell = np.where(cells.two_sided_n, np.abs(at_cell), np.maximum(at_cell, 0))
    lit = np.flatnonzero(at_cell)
    right = np.cross(direction, [0, 0, 1])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(direction, right), direction], axis=1)
    T[:3, 3] = cells.points_n3.mean(axis=0) - SUN_DISTANCE_M * direction
    focal = size * SUN_DISTANCE_M / SUN_VIEW_M
    K = np.array([[focal, 0, (size - 1) / 2], [0, focal, (size - 1) / 2], [0, 0, 1]])
    camera = MeshRenderer(blockers, K, (size, size))
    depth = camera.depth(T)
    camera.close()
    local = (cells.points_n3[lit] + 0.02 * cells.normals_n3[lit] - T[:3, 3]) @ T[:3, :3]
    pixel = local[:, :2] / local[:, 2:] * focal + size / 2
    share = np.zeros(len(lit), np.float32)
    # Several samples a cell soften the steps that cells would make of the edge.
    steps = np.array([-1.5, 0.0, 1.5]) * size / 2048
    for dx in steps:
        for dy in steps:
            x, y = np.clip((pixel + np.array([dx, dy])).astype(np.int32), 0, size - 1).T
            share += (local[:, 2] <= depth[y, x] + 0.03) / 9
    out = np.zeros_like(cells.points_n3)
    out[lit] = (at_cell[lit] * share)[:, None] * sun.irradiance_3.astype(np.float32)
    return out


def _virtual_lights(cells: Cells, direct: Float32Array, count: int,
                    rng: np.random.Generator) -> list[PointLight]:
    """Lights of equal brightness on lit surfaces, spread by systematic sampling."""
    flux = direct * cells.albedo_n3 * cells.areas_n[:, None]
    # A leaf, lit from either side, would send out twice what it gets.
    power = np.where(cells.two_sided_n, 0, flux.mean(axis=1)).astype(np.float64)
    edges = np.cumsum(power)
    if count == 0 or edges[-1] <= 0:
        return []
    picks = np.searchsorted(edges, (np.arange(count) + rng.uniform(0, 1, count)) / count
                            * edges[-1])
    picks = np.minimum(picks, len(edges) - 1)
    share = edges[-1] / count
    return [PointLight(
        position=(cells.points_n3[i] + 0.02 * cells.normals_n3[i]).astype(np.float64),
        flux_3=flux[i].astype(np.float64) / power[i] * share,
        normal=cells.normals_n3[i].astype(np.float64)) for i in picks]
