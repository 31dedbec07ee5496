# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""What a builder of furniture returns, and small things that lie about on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from implicit_relocalizer.data.synthetic.artwork import Canvas, palette, words
from implicit_relocalizer.data.synthetic.lighting import PointLight
from implicit_relocalizer.data.synthetic.patches import (
    Material,
    Patch,
    Picture,
    box,
    cylinder,
    lathe,
    moved,
    quad,
    sheet,
)
from implicit_relocalizer.data.synthetic.textures import Kit, Rgb, hsv

DARK: Rgb = (0.12, 0.12, 0.13)
STEEL: Rgb = (0.6, 0.61, 0.63)
WHITE: Rgb = (0.92, 0.91, 0.88)


@dataclass
class Item:
    """A piece of furniture: x to the right and y towards the wall behind it, which is at 0.

    Attributes:
        patches: Its surfaces.
        width_m: Extent along x, middle at 0.
        depth_m: Extent along -y.
        height_m: Height above the floor; what hangs above must stay clear of it.
        lights: Its lamps.
    """

    patches: list[Patch]
    width_m: float
    depth_m: float
    height_m: float
    lights: list[PointLight] = field(default_factory=list)

    def placed(self, offset: Sequence[float], yaw: float) -> Item:
        """The item turned about z and shifted."""
        c, s = np.cos(yaw), np.sin(yaw)
        R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        lights = [replace(light, position=R @ light.position + np.asarray(offset),
                          normal=None if light.normal is None else R @ light.normal)
                  for light in self.lights]
        return replace(self, patches=moved(self.patches, offset, yaw=yaw), lights=lights)


def bulb(position: Sequence[float], brightness: float, warmth: float = 0.5) -> PointLight:
    """A lamp shining all round; warmth from 0 (daylight) to 1 (candle)."""
    color = np.array([1.0, 1.0 - 0.25 * warmth, 1.0 - 0.6 * warmth])
    return PointLight(np.asarray(position, dtype=np.float64), brightness * color)


def cloth_color(kit: Kit, low: float = 0.3, high: float = 0.65) -> Rgb:
    """A muted colour for upholstery, curtains and carpets."""
    return hsv(kit.uniform(0, 1), kit.uniform(0.2, 0.55), kit.uniform(low, high))


def wood_color(kit: Kit) -> Rgb:
    """One of the usual woods, from birch to walnut."""
    woods: list[Rgb] = [(0.82, 0.69, 0.5), (0.72, 0.53, 0.34), (0.58, 0.4, 0.25),
                        (0.42, 0.28, 0.18), (0.86, 0.78, 0.64)]
    return woods[kit.integer(0, len(woods) - 1)]


def spine(kit: Kit, color: Rgb) -> Material:
    """The back of a book: its title along it, bands across."""
    kit = kit.child()
    title, ink = words(kit, kit.integer(1, 3)).title(), WHITE if sum(color) < 1.7 else DARK
    style, band = kit.integer(0, 3), hsv(kit.uniform(0, 1), 0.6, 0.6)

    def paint(width_m: float, height_m: float) -> Picture:
        # Drawn lying, read from the top downwards, then stood up.
        canvas = Canvas(kit, height_m, width_m, color, 1.3)
        if style in (1, 2):
            canvas.rectangle(0.0, 0, 0.12 * canvas.aspect, 1, band)
        if style in (2, 3):
            canvas.rectangle(0.85 * canvas.aspect, 0, 0.9 * canvas.aspect, 1, ink)
        canvas.text(0.18 * canvas.aspect, 0.2, title, 0.55, ink)
        return np.rot90(canvas.picture(), -1).copy()
    return paint


def row_of_books(kit: Kit, width_m: float, room_m: float, depth_m: float) -> list[Patch]:
    """Books standing on z = 0 from x = 0 on, backs at y = 0 looking along -y."""
    patches: list[Patch] = []
    x = 0.0
    series = kit.chance(0.25)
    color, tall = hsv(kit.uniform(0, 1), 0.6, 0.5), kit.uniform(0.6, 0.9) * room_m
    while x < width_m - 0.06:
        if not series or kit.chance(0.12):
            series = kit.chance(0.15)
            color = hsv(kit.uniform(0, 1), kit.uniform(0.1, 0.75), kit.uniform(0.25, 0.9))
            tall = kit.uniform(0.6, 0.92) * room_m
        thick = kit.uniform(0.022, 0.055)
        deep = kit.uniform(0.6, 0.85) * depth_m
        inset = kit.uniform(0.0, 0.04)
        patches += box([x, inset, 0], [x + thick, deep, tall], kit.plain(color),
                       faces={'front': spine(kit, color), 'top': kit.plain(WHITE)},
                       omit=('back', 'bottom'))
        x += thick + 0.0015
        if kit.chance(0.05):
            x += kit.uniform(0.03, 0.12)
    return patches


def pile_of_books(kit: Kit) -> list[Patch]:
    """A few books lying on each other about the origin."""
    patches: list[Patch] = []
    z = 0.0
    for _ in range(kit.integer(2, 5)):
        color = hsv(kit.uniform(0, 1), kit.uniform(0.2, 0.7), kit.uniform(0.3, 0.85))
        wide, deep, thick = (kit.uniform(*b) for b in ((0.2, 0.28), (0.14, 0.2), (0.02, 0.045)))
        book = box([-wide / 2, -deep / 2, z], [wide / 2, deep / 2, z + thick], kit.plain(color),
                   faces={'front': _lying(spine(kit, color)),
                          'top': _cover(kit, color)}, omit=('bottom',))
        patches += moved(book, yaw=kit.uniform(-0.3, 0.3))
        z += thick
    return patches


def _lying(upright: Material) -> Material:
    def paint(width_m: float, height_m: float) -> Picture:
        return np.rot90(upright(height_m, width_m)).copy()
    return paint


def _cover(kit: Kit, color: Rgb) -> Material:
    kit = kit.child()

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, color)
        colors = palette(kit)
        canvas.circle(0.7 * canvas.aspect, 0.6, 0.25, colors[2])
        canvas.text(0.08, 0.08, words(kit, 1).title(), 0.22, colors[0])
        return canvas.picture()
    return paint


def vase(kit: Kit, height_m: float) -> list[Patch]:
    """A turned vase about the origin."""
    belly, neck = kit.uniform(0.22, 0.36) * height_m, kit.uniform(0.08, 0.16) * height_m
    profile = [(neck * 1.4, 1.0), (neck, 0.85), (belly, 0.45), (belly * 0.9, 0.25),
               (0.5 * belly, 0.0)]
    color = hsv(kit.uniform(0, 1), kit.uniform(0.2, 0.6), kit.uniform(0.4, 0.85))
    material = kit.patterned_cloth([color, WHITE]) if kit.chance(0.4) else kit.plain(color, 0.06)
    return [lathe([(r, z * height_m) for r, z in profile], material)]


def mug(kit: Kit) -> list[Patch]:
    """A mug about the origin."""
    color = hsv(kit.uniform(0, 1), kit.uniform(0.1, 0.7), kit.uniform(0.5, 0.9))
    return cylinder((0, 0, 0), 0.04, 0.095, kit.patterned_cloth([color, WHITE]),
                    top=kit.plain((0.2, 0.12, 0.08)), segments=14)


def printed_sheet(kit: Kit, color: Rgb = WHITE) -> Material:
    """A page of print with a heading and perhaps a figure."""
    kit = kit.child()

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, color, 1.2)
        canvas.text(0.08, 0.06, words(kit, 2).title(), 0.08, DARK)
        figure = kit.chance(0.6)
        if figure:
            canvas.rectangle(0.08, 0.6, canvas.aspect - 0.08, 0.93,
                             hsv(kit.uniform(0, 1), 0.4, 0.8))
            canvas.line([(0.1 + i * (canvas.aspect - 0.2) / 6, kit.uniform(0.63, 0.9))
                         for i in range(7)], 0.015, DARK)
        for i in range(9 if figure else 17):
            canvas.line([(0.08, 0.2 + 0.043 * i),
                         (canvas.aspect * kit.uniform(0.7, 0.92), 0.2 + 0.043 * i)], 0.012,
                        (0.45, 0.45, 0.47))
        return canvas.picture()
    return paint


def papers(kit: Kit, count: int) -> list[Patch]:
    """Loose sheets lying about the origin."""
    patches: list[Patch] = []
    for i in range(count):
        page = [quad([-0.105, 0.148, 0.002 + 0.002 * i], [0.21, 0, 0], [0, -0.297, 0],
                     printed_sheet(kit))]
        patches += moved(page, (kit.uniform(-0.12, 0.12), kit.uniform(-0.08, 0.08), 0),
                         yaw=kit.uniform(-0.7, 0.7))
    return patches


def foliage(kit: Kit, count: int, reach_m: float, height_m: float) -> list[Patch]:
    """Arching leaves that grow from the origin."""
    hue, patches = kit.uniform(0.22, 0.38), []
    for i in range(count):
        heading = 2.4 * i + kit.uniform(-0.4, 0.4)
        length, rise = kit.uniform(0.6, 1.0) * reach_m, kit.uniform(0.5, 1.0) * height_m
        broad = kit.uniform(0.10, 0.17) * (reach_m + height_m)
        t = np.linspace(0.0, 1.0, 7)
        x = length * t ** 1.3
        z = rise * (1.9 * t - 1.05 * t ** 2)
        half = 0.5 * broad * np.sin(np.pi * (0.06 + 0.92 * t ** 0.8))
        c, s = np.cos(heading), np.sin(heading)
        rib = np.stack([c * x, s * x, z], axis=1)
        side = half[:, None] * np.array([-s, c, 0.25])
        middle = rib - np.array([0, 0, 1]) * 0.25 * half[:, None]
        patches.append(sheet(np.stack([rib + side, middle, rib - side], axis=1),
                             _leaf(kit, hsv(hue + kit.uniform(-0.03, 0.03), 0.6,
                                            kit.uniform(0.3, 0.6))), two_sided=True))
    return patches


def _leaf(kit: Kit, color: Rgb) -> Material:
    kit = kit.child()
    bright: Rgb = (min(1.0, color[0] + 0.25), min(1.0, color[1] + 0.25), color[2] + 0.12)

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, color, 0.8)
        a = canvas.aspect
        canvas.line([(a / 2, 0), (a / 2, 1)], 0.02, bright)
        for y in np.arange(0.1, 1.0, 0.13):
            canvas.line([(0, y + 0.12), (a / 2, y), (a, y + 0.12)], 0.01, bright)
        return canvas.picture()
    return paint


def lettering(kit: Kit, text: str, color: Rgb, ground: Rgb, scale: float = 1.0) -> Material:
    """A label."""
    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, ground, scale)
        canvas.text(0.1, 0.15, text, 0.6, color)
        return canvas.picture()
    return paint


