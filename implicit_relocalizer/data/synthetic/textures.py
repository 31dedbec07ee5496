# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Procedural materials: wood, plaster, brick, tiles, cloth."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from implicit_relocalizer.data.synthetic.patches import Material, Picture

Rgb = tuple[float, float, float]
Floats = NDArray[np.float32]
# Paint on less than this, like the side of a book, shows no wear.
PLAIN_PIXELS = 700


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """A colour from hue, saturation and value, all in [0, 1]; the hue wraps."""
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def shaded(color: Rgb, factor: float) -> Rgb:
    """A colour made darker or brighter."""
    red, green, blue = (min(1.0, factor * c) for c in color)
    return red, green, blue


def smooth_noise(shape: tuple[int, int], scale_px: tuple[float, float],
                 rng: np.random.Generator, octaves: int = 3) -> Floats:
    """Cloudy noise of about zero mean and unit deviation; `scale_px` is (down, across)."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cells = [max(2, int(np.ceil(n / max(s / 2 ** octave, 1.0))) + 2)
                 for n, s in zip(shape, scale_px, strict=True)]
        grid = rng.standard_normal(cells).astype(np.float32)
        grown = Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
        total += np.asarray(grown) * 0.6 ** octave
    return total / max(float(total.std()), 1e-6)


def to_picture(values: ArrayLike) -> Picture:
    """Floats in [0, 1] as an 8-bit picture."""
    return (np.clip(np.asarray(values), 0, 1) * 255 + 0.5).astype(np.uint8)


@dataclass
class Kit:
    """What a builder of furniture works with.

    Attributes:
        rng: Decides shapes and colours. Pictures draw from generators of their own, so that the
            same seed gives the same place at every texture density.
        density_px_m: Pixels of a detailed picture per metre of surface.
    """

    rng: np.random.Generator
    density_px_m: float

    def uniform(self, low: float, high: float) -> float:
        """A number between two bounds."""
        return float(self.rng.uniform(low, high))

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def child(self) -> Kit:
        """A kit with a generator of its own."""
        return Kit(np.random.default_rng(self.rng.integers(2 ** 62)), self.density_px_m)

    def shape_px(self, width_m: float, height_m: float, scale: float = 1.0) -> tuple[int, int]:
        """Rows and columns of a picture of that size, `scale` times the usual density."""
        density = self.density_px_m * scale
        return max(4, round(height_m * density)), max(4, round(width_m * density))

    def plain(self, color: Rgb, grain: float = 0.02) -> Material:
        """Paint of one colour with faint wear."""
        rng = self.child().rng

        def paint(width_m: float, height_m: float) -> Picture:
            shape = self.shape_px(width_m, height_m, 0.3)
            if shape[0] * shape[1] < PLAIN_PIXELS:
                return to_picture(np.full((*shape, 3), color) * (1 + grain * rng.normal()))
            wear = smooth_noise(shape, (0.08 * self.density_px_m,) * 2, rng)
            return to_picture(np.asarray(color) * (1 + grain * wear[..., None]))
        return paint

    def wood(self, color: Rgb, contrast: float = 1.0, upright: bool | None = None) -> Material:
        """Veneer with grain along the longer side, or as told."""
        rng = self.child().rng

        def paint(width_m: float, height_m: float) -> Picture:
            vertical = height_m > width_m if upright is None else upright
            shape = self.shape_px(width_m, height_m, 0.75)
            return to_picture(_wood(shape[::-1] if vertical else shape, color, contrast,
                                    0.75 * self.density_px_m, rng, vertical))
        return paint

    def floor_boards(self, color: Rgb, board_m: float) -> Material:
        """Staggered boards, each of its own tone, with dark joints."""
        rng = self.child().rng

        def paint(width_m: float, height_m: float) -> Picture:
            rows, columns = self.shape_px(width_m, height_m)
            picture = np.empty((rows, columns, 3), np.float32)
            count = round(height_m / board_m)
            edges = np.linspace(0, rows, count + 1).round().astype(int)
            for top, bottom in pairwise(edges):
                start = -rng.uniform(0, 1.4) * self.density_px_m
                while start < columns:
                    stop = start + rng.uniform(0.9, 1.7) * self.density_px_m
                    left, right = max(0, round(start)), min(columns, round(stop))
                    start = stop
                    if right <= left:
                        continue
                    tone = np.asarray(color) * rng.uniform(0.74, 1.16) * rng.uniform(
                        0.96, 1.04, 3)
                    board = _wood((bottom - top, right - left), tone, 1.3, self.density_px_m, rng)
                    board[:1] *= 0.55
                    board[:, :1] *= 0.5
                    picture[top:bottom, left:right] = board
            return to_picture(picture)
        return paint

    def tiles(self, colors: Sequence[Rgb], tile_m: float, joint: Rgb,
              mottle: float = 0.05) -> Material:
        """Square tiles in random order of colours, clouded like stone."""
        rng = self.child().rng

        def paint(width_m: float, height_m: float) -> Picture:
            rows, columns = self.shape_px(width_m, height_m)
            counts = max(1, round(height_m / tile_m)), max(1, round(width_m / tile_m))
            y = np.linspace(0, counts[0], rows, endpoint=False)
            x = np.linspace(0, counts[1], columns, endpoint=False)
            palette = np.asarray(colors)
            choice = palette[rng.integers(len(palette), size=counts)] * rng.uniform(
                0.9, 1.08, (*counts, 1))
            picture = choice[y.astype(int)[:, None], x.astype(int)[None]]
            clouds = smooth_noise((rows, columns), (0.12 * self.density_px_m,) * 2, rng, 5)
            picture = picture * (1 + mottle * clouds[..., None])
            width = 0.004 / tile_m
            lines = ((y % 1) < width)[:, None] | ((x % 1) < width)[None]
            picture[lines] = joint
            return to_picture(picture)
        return paint

    def plaster(self, color: Rgb, roughness: float = 0.02, stains: float = 0.03) -> Material:
        """A painted wall: roller texture and broad, faint stains."""
        rng = self.child().rng

        def paint(width_m: float, height_m: float) -> Picture:
            shape = self.shape_px(width_m, height_m)
            fine = smooth_noise(shape, (0.018 * self.density_px_m,) * 2, rng, 2)
            broad = smooth_noise(shape, (0.5 * self.density_px_m,) * 2, rng, 4)
            return to_picture(np.asarray(color)
                              * (1 + roughness * fine + stains * broad)[..., None])
        return paint

    def brick(self, color: Rgb, mortar: Rgb) -> Material:
        """Running bond of 22 x 7 cm bricks of varied tone."""
        rng = self.child().rng

        def paint(width_m: float, height_m: float) -> Picture:
            rows, columns = self.shape_px(width_m, height_m)
            y = np.arange(rows)[:, None] / self.density_px_m / 0.075
            course = y.astype(int)
            x = np.arange(columns)[None] / self.density_px_m / 0.23 + 0.5 * (course % 2)
            brick = x.astype(int)
            tones = np.asarray(color) * rng.uniform(0.62, 1.25, (
                int(course.max()) + 1, int(brick.max()) + 1, 1)) * rng.uniform(
                0.93, 1.07, (int(course.max()) + 1, int(brick.max()) + 1, 3))
            rough = smooth_noise((rows, columns), (0.03 * self.density_px_m,) * 2, rng, 4)
            picture = tones[np.broadcast_to(course, brick.shape), brick] * (
                1 + 0.09 * rough[..., None])
            joints = ((y % 1) < 0.13) | ((x % 1) < 0.045)
            picture[joints] = np.asarray(mortar) * (1 + 0.05 * rough[joints][:, None])
            return to_picture(picture)
        return paint

    def cloth(self, color: Rgb, weave: float = 0.06) -> Material:
        """Upholstery: a soft weave and uneven dye."""
        rng = self.child().rng

        def paint(width_m: float, height_m: float) -> Picture:
            shape = self.shape_px(width_m, height_m, 0.8)
            d = 0.8 * self.density_px_m
            threads = smooth_noise(shape, (0.006 * d, 0.05 * d), rng, 2) + smooth_noise(
                shape, (0.05 * d, 0.006 * d), rng, 2)
            dye = smooth_noise(shape, (0.15 * d,) * 2, rng, 3)
            return to_picture(np.asarray(color)
                              * (1 + weave * threads + 0.05 * dye)[..., None])
        return paint

    def patterned_cloth(self, colors: Sequence[Rgb]) -> Material:
        """Cushion cloth: stripes, checks, zigzag, dots or rings."""
        kit = self.child()
        kind, period = kit.integer(0, 4), kit.uniform(0.05, 0.13)

        def paint(width_m: float, height_m: float) -> Picture:
            rows, columns = self.shape_px(width_m, height_m)
            y, x = np.meshgrid(np.linspace(0, height_m, rows), np.linspace(0, width_m, columns),
                               indexing='ij')
            u, v = x / period, y / period
            middle = np.hypot(u - u.mean(), v - v.mean())
            index = [np.floor(u * 2), np.floor(u) + np.floor(v),
                     np.floor(v * 1.5 + np.abs((u % 1) - 0.5) * 1.5),
                     (np.hypot((u % 1) - 0.5, (v % 1) - 0.5) < 0.32)
                     * (1 + np.floor(u) + 3 * np.floor(v)),
                     np.floor(middle * 2)][kind].astype(int)
            weave = smooth_noise((rows, columns), (2, 2), kit.rng, 1)
            return to_picture(np.asarray(colors)[index % len(colors)]
                              * (1 + 0.05 * weave[..., None]))
        return paint


def _wood(shape: tuple[int, int], color: ArrayLike, contrast: float, density_px_m: float,
          rng: np.random.Generator, vertical: bool = False) -> Floats:
    """Grain along the columns; transposed at the end where it shall run upright."""
    y = np.arange(shape[0], dtype=np.float32)[:, None] / density_px_m
    warp = smooth_noise(shape, (0.06 * density_px_m, 0.7 * density_px_m), rng, 2)
    rings = np.sin(2 * np.pi * (y / 0.022 + 1.1 * warp + rng.uniform(0, 9)))
    fibres = smooth_noise(shape, (0.006 * density_px_m, 0.2 * density_px_m), rng, 2)
    knots = smooth_noise(shape, (0.1 * density_px_m, 0.5 * density_px_m), rng, 2)
    shade = 1 + contrast * (0.055 * rings + 0.05 * fibres + 0.045 * knots)
    picture = np.asarray(color, np.float32) * shade[..., None]
    return picture.transpose(1, 0, 2) if vertical else picture
