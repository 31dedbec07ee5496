# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""The empty room: floor, walls with windows and door, ceiling with its lamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from implicit_relocalizer.data.synthetic.artwork import view_outside, words
from implicit_relocalizer.data.synthetic.items import (
    DARK,
    STEEL,
    WHITE,
    Item,
    cloth_color,
    lettering,
    wood_color,
)
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
    shadowless,
    sheet,
)
from implicit_relocalizer.data.synthetic.textures import Kit, hsv, shaded

WINDOW_BOTTOM_M, WINDOW_TOP_M, REVEAL_M = 0.88, 2.25, 0.16
LED_PANEL_M = 0.6
OVERLAP_M = 0.02


@dataclass
class Wall:
    """A wall seen from inside: x to the right along it, y outwards through it, z up.

    Attributes:
        center: Its middle on the floor.
        yaw: Turn about z from wall axes to room axes, radians.
        length_m: Its length.
        taken: (left, right, top) of what stands or hangs on it, in wall axes.
        openings: (left, right) of windows.
    """

    center: tuple[float, float, float]
    yaw: float
    length_m: float
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    openings: list[tuple[float, float]] = field(default_factory=list)

    def place(self, item: Item, x: float) -> Item:
        """Stand an item against the wall."""
        self.taken.append((x - item.width_m / 2, x + item.width_m / 2, item.height_m))
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        offset = (self.center[0] + c * x, self.center[1] + s * x, 0.0)
        return item.placed(offset, self.yaw)

    def attach(self, patches: Sequence[Patch]) -> list[Patch]:
        """Patches in wall axes, in room axes."""
        return moved(patches, self.center, yaw=self.yaw)


def four_walls(width: float, depth: float) -> list[Wall]:
    """North, east, south and west walls of a room with one corner at the origin."""
    return [Wall((width / 2, depth, 0), 0.0, width),
            Wall((width, depth / 2, 0), -np.pi / 2, depth),
            Wall((width / 2, 0, 0), np.pi, width),
            Wall((0, depth / 2, 0), np.pi / 2, depth)]


def wall_material(kit: Kit, style: int) -> Material:
    """Painted plaster in one of several tones, or brick."""
    if style == 0:
        return kit.brick(hsv(kit.uniform(0.01, 0.06), 0.5, 0.68), (0.75, 0.72, 0.68))
    if style == 1:
        return kit.plaster(hsv(kit.uniform(0, 1), kit.uniform(0.25, 0.4), 0.72), 0.022, 0.035)
    return kit.plaster(hsv(kit.uniform(0.05, 0.2), kit.uniform(0.04, 0.12), 0.87), 0.022, 0.03)


def wall_surface(wall: Wall, height: float, material: Material) -> list[Patch]:
    """The wall itself, with holes where its windows are, and its skirting and cornice."""
    # Reaching past the corners leaves no cracks between the walls.
    half = wall.length_m / 2 + OVERLAP_M
    picture = material(2 * half, height)
    columns = sorted({-half, half, *(edge for opening in wall.openings for edge in opening)})
    patches = []
    for left, right in pairwise(columns):
        spans = [(-OVERLAP_M, height)]
        if (left, right) in wall.openings:
            spans = [(-OVERLAP_M, WINDOW_BOTTOM_M), (WINDOW_TOP_M, height)]
        for low, high in spans:
            patches.append(quad([left, 0, high], [right - left, 0, 0], [0, 0, low - high],
                                _cropped(picture, 2 * half, height, left + half,
                                         height - high)))
    return patches


def _cropped(picture: Picture, width_m: float, height_m: float, left_m: float,
             top_m: float) -> Material:
    rows, columns = picture.shape[:2]

    def paint(part_width_m: float, part_height_m: float) -> Picture:
        x0, x1 = (round(v * columns / width_m) for v in (left_m, left_m + part_width_m))
        y0, y1 = (round(v * rows / height_m) for v in (top_m, top_m + part_height_m))
        return picture[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)]
    return paint


def edging(kit: Kit, wall: Wall, height: float) -> list[Patch]:
    """Skirting board and cornice."""
    half = wall.length_m / 2
    paint = kit.plain(WHITE)
    return shadowless([
        *box([-half, -0.014, 0], [half, 0, 0.09], paint, omit=('back', 'bottom')),
        *box([-half, -0.04, height - 0.05], [half, 0, height], paint, omit=('back', 'top'))])


def window(kit: Kit, left: float, right: float, daylight: float) -> tuple[
        list[Patch], list[PointLight]]:
    """Reveals, sill, frame and curtains of an opening, and the daylight through it."""
    low, high, d = WINDOW_BOTTOM_M, WINDOW_TOP_M, REVEAL_M
    w, h = right - left, high - low
    white = kit.plain(WHITE)
    patches = [quad([left, 0, high], [0, d, 0], [0, 0, -h], white),
               quad([right, d, high], [0, -d, 0], [0, 0, -h], white),
               quad([left, 0, high], [w, 0, 0], [0, d, 0], white)]
    patches += box([left - 0.05, -0.12, low - 0.03], [right + 0.05, d, low], white,
                   omit=('back',))
    bar = 0.05
    for x in (left, (left + right - bar) / 2, right - bar):
        patches += box([x, d - 0.04, low], [x + bar, d, high], white, omit=('top', 'bottom'))
    for z in (low, low + 0.68 * h, high - bar):
        patches += box([left, d - 0.04, z], [right, d, z + bar], white, omit=('left', 'right'))
    patches += _curtains(kit, left, right)
    lights = [PointLight(np.array([left + (i + 0.5) * w / 3, -0.02, low + (j + 0.5) * h / 2]),
                         daylight * w * h / 6 * np.array([0.93, 0.98, 1.08]),
                         np.array([0.0, -1.0, 0.0])) for i in range(3) for j in range(2)]
    return patches, lights


def _curtains(kit: Kit, left: float, right: float) -> list[Patch]:
    colors = [cloth_color(kit, 0.5, 0.8), cloth_color(kit, 0.6, 0.9), WHITE]
    cloth = kit.patterned_cloth(colors) if kit.chance(0.6) else kit.cloth(colors[0])
    patches = []
    for low, high in ((left - 0.3, left + 0.08), (right - 0.08, right + 0.3)):
        x = np.linspace(low, high, 25)
        y = -0.1 + 0.03 * np.sin((x - low) * 2 * np.pi / 0.095)
        top = np.stack([x, y, np.full_like(x, 2.4)], axis=1)
        bottom = np.stack([x, 1.15 * (y + 0.1) - 0.1, np.full_like(x, 0.62)], axis=1)
        patches.append(sheet(np.stack([top, bottom]), cloth, two_sided=True))
    rod = kit.plain(DARK)
    patches += box([left - 0.4, -0.115, 2.4], [right + 0.4, -0.095, 2.42], rod)
    return patches


def outdoors(kit: Kit) -> Patch:
    """A great picture of the surroundings, seven metres behind the window wall."""
    return quad([-17.0, 7.0, 9.5], [34.0, 0, 0], [0, 0, -13.5], view_outside(kit), glows=True,
                casts_shadow=False)


def door(kit: Kit) -> Item:
    """A closed door with its frame, a handle and a sign."""
    w, h = 0.45, 2.05
    color = wood_color(kit) if kit.chance(0.5) else hsv(kit.uniform(0, 1), 0.25, 0.7)
    leaf, frame = kit.wood(color, 0.8, upright=True), kit.plain(WHITE)
    patches = box([-w - 0.08, -0.05, 0], [-w, 0, h + 0.08], frame, omit=('back',))
    patches += box([w, -0.05, 0], [w + 0.08, 0, h + 0.08], frame, omit=('back',))
    patches += box([-w, -0.05, h], [w, 0, h + 0.08], frame, omit=('back',))
    patches.append(quad([-w, -0.012, h], [2 * w, 0, 0], [0, 0, -h], leaf))
    for x in (-0.36, 0.04):
        for low, high in ((0.15, 0.85), (1.05, 1.9)):
            patches += box([x, -0.022, low], [x + 0.32, -0.012, high],
                           kit.wood(shaded(color, 0.85), 0.8), omit=('back',))
    patches += box([0.36, -0.07, 1.0], [0.4, -0.012, 1.03], kit.plain(STEEL))
    patches += box([0.27, -0.075, 1.005], [0.4, -0.06, 1.025], kit.plain(STEEL))
    label = lettering(kit, words(kit, 1).upper(), WHITE, hsv(kit.uniform(0, 1), 0.6, 0.4), 1.4)
    patches.append(quad([-0.16, -0.024, 1.66], [0.32, 0, 0], [0, 0, -0.1], label))
    patches += box([w + 0.16, -0.012, 1.05], [w + 0.24, 0, 1.13], frame, omit=('back',))
    return Item(shadowless(patches), 2 * w + 0.5, 0.08, h + 0.1)


def floor_surface(kit: Kit, width: float, depth: float) -> Patch:
    """Boards, stone tiles or carpet tiles."""
    style = kit.integer(0, 2)
    if style == 0:
        material = kit.floor_boards(wood_color(kit), kit.uniform(0.11, 0.17))
    elif style == 1:
        hue, value = kit.uniform(0.03, 0.6), kit.uniform(0.5, 0.72)
        material = kit.tiles([hsv(hue, 0.12, value), hsv(hue, 0.16, 0.85 * value),
                              hsv(hue + 0.04, 0.1, 1.08 * value)], kit.uniform(0.3, 0.45),
                             (0.35, 0.34, 0.33), 0.07)
    else:
        tone = cloth_color(kit, 0.35, 0.5)
        material = kit.tiles([tone, shaded(tone, 0.85), shaded(tone, 1.2),
                              cloth_color(kit, 0.35, 0.55)], 0.5, shaded(tone, 0.7), 0.09)
    return quad([-OVERLAP_M, depth + OVERLAP_M, 0], [width + 2 * OVERLAP_M, 0, 0],
                [0, -depth - 2 * OVERLAP_M, 0], material)


def ceiling(kit: Kit, width: float, depth: float, height: float) -> tuple[
        list[Patch], list[PointLight]]:
    """Acoustic tiles with light panels, or plaster between wooden beams with round lamps."""
    if kit.chance(0.5):
        material = kit.tiles([(0.9, 0.9, 0.88), (0.86, 0.86, 0.85), (0.93, 0.92, 0.9)], 0.6,
                             (0.62, 0.62, 0.62), 0.05)
        beams: list[Patch] = []
    else:
        material = kit.plaster((0.9, 0.89, 0.86), 0.025, 0.035)
        wood = kit.wood(wood_color(kit), 1.2)
        beams = [patch for x in np.arange(0.55, width - 0.3, 1.05) for patch in box(
            [x - 0.06, 0, height - 0.13], [x + 0.06, depth, height], wood,
            omit=('top', 'front', 'back'))]
    patches = [quad([-OVERLAP_M, -OVERLAP_M, height], [width + 2 * OVERLAP_M, 0, 0],
                    [0, depth + 2 * OVERLAP_M, 0], material), *beams]
    lights = []
    for i in range(3):
        for j in range(2):
            x, y = width * (i + 0.5) / 3, depth * (j + 0.5) / 2
            if beams:
                x = 1.05 * round((x - 0.55 - 0.525) / 1.05) + 0.55 + 0.525
            lamp, spots = _ceiling_lamp(kit, x, y, height, bool(beams))
            patches += lamp
            lights += spots
    for _ in range(3):
        spot = (kit.uniform(0.2, 0.8) * width, kit.uniform(0.2, 0.8) * depth, height - 0.04)
        patches += [lathe([(0.06, 0.04), (0.06, 0.01), (1e-3, 0.0)], kit.plain(WHITE),
                          center=spot)]
    return patches, lights


def _ceiling_lamp(kit: Kit, x: float, y: float, height: float, is_round: bool) -> tuple[
        list[Patch], list[PointLight]]:
    glow = kit.plain((1.0, 0.98, 0.94), 0.0)
    if is_round:
        patches = [lathe([(0.16, height), (0.16, height - 0.05)], kit.plain(STEEL),
                         center=(x, y, 0)),
                   lathe([(0.16, height - 0.05), (1e-3, height - 0.05)], glow,
                         center=(x, y, 0), glows=True)]
        spread = 0.08
    else:
        h = LED_PANEL_M / 2
        patches = box([x - h, y - h, height - 0.02], [x + h, y + h, height], kit.plain(STEEL),
                      omit=('top', 'bottom'))
        patches.append(quad([x - h, y - h, height - 0.02], [2 * h, 0, 0], [0, 2 * h, 0],
                            kit.plain(STEEL)))
        patches.append(quad([x - h + 0.03, y - h + 0.03, height - 0.021], [2 * h - 0.06, 0, 0],
                            [0, 2 * h - 0.06, 0], glow, glows=True))
        spread = 0.18
    color = np.array([1.0, 0.93, 0.82]) * 2.2
    return patches, [PointLight(np.array([x + a, y + b, height - 0.07]), color,
                                np.array([0.0, 0.0, -1.0]))
                     for a, b in ((-spread, spread), (spread, -spread))]


def radiator(kit: Kit) -> Item:
    """A ribbed radiator."""
    width, patches = kit.uniform(0.9, 1.2), []
    white = kit.plain((0.9, 0.9, 0.88))
    for x in np.arange(-width / 2, width / 2 - 0.03, 0.055):
        patches += box([x, -0.11, 0.12], [x + 0.04, -0.03, 0.68], white, omit=('back',))
    patches += box([-width / 2, -0.06, 0.16], [width / 2, -0.05, 0.64], kit.plain(STEEL))
    patches += cylinder((width / 2 + 0.03, -0.07, 0.0), 0.012, 0.2, white, segments=8)
    return Item(patches, width + 0.1, 0.12, 0.7)
