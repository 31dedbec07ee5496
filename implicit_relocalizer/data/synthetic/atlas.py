# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Turns lit patches into few textured meshes, with colour and light baked into pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from implicit_relocalizer.data.synthetic.lighting import grid_triangles
from implicit_relocalizer.data.synthetic.patches import Patch, Picture, size_of_sheet
from implicit_relocalizer.data.synthetic.rendering import Mesh

SHEET_WIDTH = 4096
MARGIN = 8
# Surfaces that would not fit the sheet, or that waste it, get a texture of their own.
OWN_TEXTURE_PIXELS = 500_000
GAMMA = 2.2
WHITE_POINT = 3.2


def exposure_for(patches: Sequence[Patch], light: Sequence[NDArray[np.float32] | None],
                 middle_gray: float = 0.19) -> float:
    """The gain that brings the median lit surface, weighted by area, to `middle_gray`."""
    values, areas = [], []
    for patch, irradiance in zip(patches, light, strict=True):
        if irradiance is not None:
            albedo = float(((patch.picture[::7, ::7] / 255.0) ** GAMMA).mean())
            values.append(albedo * float(np.median(irradiance)))
            areas.append(np.prod(size_of_sheet(patch.points)))
    order = np.argsort(values)
    half = np.searchsorted(np.cumsum(np.array(areas)[order]), 0.5 * np.sum(areas))
    return middle_gray / max(values[order[half]], 1e-9)


def develop(patch: Patch, irradiance: NDArray[np.float32] | None, exposure: float) -> Picture:
    """The sRGB picture of a patch: colour times light, through a soft shoulder."""
    if irradiance is None:
        return patch.picture
    rows, columns = patch.picture.shape[:2]
    channels = [np.asarray(Image.fromarray(np.ascontiguousarray(irradiance[..., c])).resize(
        (columns, rows), Image.Resampling.BILINEAR)) for c in range(3)]
    light = np.stack(channels, axis=2) * np.float32(exposure)
    table = ((np.arange(256) / 255.0) ** GAMMA).astype(np.float32)
    linear = table[patch.picture] * light
    shown = linear * (1 + linear / WHITE_POINT ** 2) / (1 + linear) * 1.25
    return (np.clip(shown, 0, 1) ** (1 / GAMMA) * 255 + 0.5).astype(np.uint8)


def build_meshes(patches: Sequence[Patch], light: Sequence[NDArray[np.float32] | None],
                 exposure: float) -> list[Mesh]:
    """Textured meshes of all patches: big ones apart, the rest together on one sheet."""
    pictures = [develop(patch, irradiance, exposure)
                for patch, irradiance in zip(patches, light, strict=True)]
    meshes, small = [], []
    for index, picture in enumerate(pictures):
        if picture.shape[0] * picture.shape[1] > OWN_TEXTURE_PIXELS:
            points = patches[index].points
            meshes.append(Mesh(points.reshape(-1, 3), grid_triangles(*points.shape[:2]),
                               _grid_uv(points.shape[:2], (0.0, 0.0, 1.0, 1.0)), picture))
        else:
            small.append(index)
    if small:
        meshes.append(_sheet_mesh([patches[i] for i in small], [pictures[i] for i in small]))
    return meshes


def _grid_uv(shape: tuple[int, ...], area: tuple[float, float, float, float]) -> NDArray:
    left, top, right, bottom = area
    u, v = np.meshgrid(np.linspace(left, right, shape[1]), np.linspace(top, bottom, shape[0]))
    return np.stack([u, 1 - v], axis=2).reshape(-1, 2)


def _sheet_mesh(patches: Sequence[Patch], pictures: Sequence[Picture]) -> Mesh:
    corners, height = _pack([picture.shape[:2] for picture in pictures])
    sheet = np.zeros((height, SHEET_WIDTH, 3), np.uint8)
    vertices, triangles, uvs, count = [], [], [], 0
    for patch, picture, (top, left) in zip(patches, pictures, corners, strict=True):
        rows, columns = picture.shape[:2]
        sheet[top - MARGIN:top + rows + MARGIN, left - MARGIN:left + columns + MARGIN] = np.pad(
            picture, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode='edge')
        vertices.append(patch.points.reshape(-1, 3))
        triangles.append(grid_triangles(*patch.points.shape[:2]) + count)
        count += len(vertices[-1])
        uvs.append(_grid_uv(patch.points.shape[:2], (
            left / SHEET_WIDTH, top / height, (left + columns) / SHEET_WIDTH,
            (top + rows) / height)))
    return Mesh(np.concatenate(vertices), np.concatenate(triangles), np.concatenate(uvs), sheet)


def _pack(shapes: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, int]], int]:
    """Shelves of pictures in order of height; returns upper left corners and the sheet's height.

    Corners keep to multiples of the margin so that coarser levels of the texture do not mix
    neighbours.
    """
    corners: list[tuple[int, int]] = [(0, 0)] * len(shapes)
    left = top = shelf = 0
    for index in sorted(range(len(shapes)), key=lambda i: (-shapes[i][0], -shapes[i][1], i)):
        rows, columns = (_round_up(n) + 2 * MARGIN for n in shapes[index])
        if left + columns > SHEET_WIDTH:
            left, top, shelf = 0, top + shelf, 0
        shelf = max(shelf, rows)
        corners[index] = (top + MARGIN, left + MARGIN)
        left += columns
    return corners, top + shelf


def _round_up(length: int) -> int:
    return -(-length // MARGIN) * MARGIN
