# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The one kind of surface of the synthetic place, and the shapes that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from implicit_relocalizer.data.frames import Float64Array

Picture = NDArray[np.uint8]
# Paints a surface of the given width and height in metres.
Material = Callable[[float, float], Picture]


@dataclass(frozen=True, eq=False)
class Patch:
    """A sheet of (rows x columns) four-cornered facets with one picture spread over it.

    Attributes:
        points: (rows + 1, columns + 1, 3) in metres; columns run to the picture's right and rows
            downwards, as seen from the side that it faces.
        picture: uint8 (height, width, 3) sRGB: the colour of the surface.
        glows: Shows its picture as it is, whatever the light.
        two_sided: Lit from either side, like a leaf.
        casts_shadow: Stops light.
    """

    points: Float64Array
    picture: Picture
    glows: bool = False
    two_sided: bool = False
    casts_shadow: bool = True


def size_of_sheet(points: Float64Array) -> tuple[float, float]:
    """Mean width and height in metres of a patch's grid of points."""
    across = np.linalg.norm(np.diff(points, axis=1), axis=2).sum(axis=1).mean()
    down = np.linalg.norm(np.diff(points, axis=0), axis=2).sum(axis=0).mean()
    return float(across), float(down)


def sheet(points: ArrayLike, material: Material, **flags: bool) -> Patch:
    """A patch over a grid of points, painted at its size."""
    points = np.asarray(points, dtype=np.float64)
    return Patch(points, material(*size_of_sheet(points)), **flags)


def quad(top_left: ArrayLike, right: ArrayLike, down: ArrayLike, material: Material,
         **flags: bool) -> Patch:
    """A parallelogram from its corner and two edges."""
    corner, right, down = (np.asarray(v, dtype=np.float64) for v in (top_left, right, down))
    return sheet([[corner, corner + right], [corner + down, corner + right + down]], material,
                 **flags)


def _box_faces(low: Float64Array, high: Float64Array) -> dict[
        str, tuple[list[float], list[float], list[float]]]:
    (x0, y0, z0), (x1, y1, z1) = low, high
    dx, dy, dz = high - low
    return {'front': ([x0, y0, z1], [dx, 0, 0], [0, 0, -dz]),
            'back': ([x1, y1, z1], [-dx, 0, 0], [0, 0, -dz]),
            'left': ([x0, y1, z1], [0, -dy, 0], [0, 0, -dz]),
            'right': ([x1, y0, z1], [0, dy, 0], [0, 0, -dz]),
            'top': ([x0, y1, z1], [dx, 0, 0], [0, -dy, 0]),
            'bottom': ([x0, y0, z0], [dx, 0, 0], [0, dy, 0])}


def box(low: ArrayLike, high: ArrayLike, material: Material, *,
        faces: Mapping[str, Material] | None = None, omit: Iterable[str] = ()) -> list[Patch]:
    """An upright box between two corners; `faces` paints some sides differently.

    The front is the side of low y, seen when looking along +y.
    """
    corners = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    skip = set(omit)
    return [quad(corner, right, down, (faces or {}).get(name, material))
            for name, (corner, right, down) in _box_faces(*corners).items() if name not in skip]


def soft_box(low: ArrayLike, high: ArrayLike, radius: float, material: Material, *,
             omit: Iterable[str] = ('bottom',)) -> list[Patch]:
    """A box with rounded edges, for upholstery."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    radius = min(radius, 0.499 * float((high - low).min()))
    skip = set(omit)
    patches = []
    for name, (corner, right, down) in _box_faces(low, high).items():
        if name in skip:
            continue
        u, v = (_rounding_steps(float(np.linalg.norm(edge)), radius) for edge in (right, down))
        points = (np.asarray(corner) + u[None, :, None] * np.asarray(right)
                  + v[:, None, None] * np.asarray(down))
        core = np.clip(points, low + radius, high - radius)
        offset = points - core
        points = core + radius * offset / np.linalg.norm(offset, axis=2, keepdims=True)
        patches.append(sheet(points, material))
    return patches


def _rounding_steps(length: float, radius: float) -> Float64Array:
    rim = radius / length * np.array([0.0, 0.18, 0.5, 1.0])
    return np.concatenate([rim, 1 - rim[::-1]])


def lathe(profile: Sequence[tuple[float, float]], material: Material, *,
          center: Sequence[float] = (0.0, 0.0, 0.0), segments: int = 20,
          **flags: bool) -> Patch:
    """A turned body from its (radius, height) profile, listed from the top downwards."""
    angles = np.linspace(-np.pi, np.pi, segments + 1) + np.pi / 2
    radius, height = np.asarray(profile, dtype=np.float64).T
    points = np.stack([radius[:, None] * np.cos(angles), radius[:, None] * np.sin(angles),
                       np.broadcast_to(height[:, None], (len(height), len(angles)))], axis=2)
    return sheet(points + np.asarray(center), material, **flags)


def cylinder(base: Sequence[float], radius: float, height: float, material: Material, *,
             top: Material | None = None, segments: int = 16) -> list[Patch]:
    """An upright cylinder with a lid."""
    side = lathe([(radius, height), (radius, 0.0)], material, center=base, segments=segments)
    lid = lathe([(1e-4, height), (radius, height)], top or material, center=base,
                segments=segments)
    return [side, lid]


def tube(path: ArrayLike, radius: float, material: Material, *, segments: int = 6) -> Patch:
    """A round bar or cable along a line of points."""
    path = np.asarray(path, dtype=np.float64)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    helper = np.array([0.0, 0.0, 1.0]) if abs(along[:, 2]).mean() < 0.8 else np.array([1.0, 0, 0])
    side = np.cross(along, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    ring = np.cos(angles)[None, :, None] * side[:, None] + np.sin(angles)[None, :, None] \
        * up[:, None]
    return sheet(path[:, None] + radius * ring, material)


def cushion(size: tuple[float, float, float], material: Material, steps: int = 10) -> list[Patch]:
    """A pillow of (width, height, thickness), standing upright, middle at the origin."""
    width, height, thickness = size
    t = np.sin(np.linspace(-np.pi / 2, np.pi / 2, steps + 1))
    u, v = np.meshgrid(t, t)
    bulge = 0.5 * thickness * np.sqrt((1 - u ** 4) * (1 - v ** 4))
    pinch = 1 - 0.06 * (1 - u ** 2) * np.abs(v) ** 3 - 0.06 * (1 - v ** 2) * np.abs(u) ** 3
    x, z = 0.5 * width * u * pinch, -0.5 * height * v * pinch
    front = np.stack([x, -bulge, z], axis=2)
    back = np.stack([-x, bulge, z], axis=2)
    return [sheet(front, material), sheet(back, material)]


def shadowless(patches: Iterable[Patch]) -> list[Patch]:
    """The same patches, not stopping light: for thin things, whose shadows cells cannot show."""
    return [replace(patch, casts_shadow=False) for patch in patches]


def moved(patches: Iterable[Patch], offset: Sequence[float] = (0.0, 0.0, 0.0), *,
          yaw: float = 0.0, tilt: float = 0.0) -> list[Patch]:
    """Tilt backwards about x, turn by `yaw` about z (radians), then shift."""
    c, s = np.cos(yaw), np.sin(yaw)
    ct, st = np.cos(tilt), np.sin(tilt)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, ct, st], [0, -st, ct]])
    return [replace(patch, points=patch.points @ turn.T + np.asarray(offset))
            for patch in patches]
