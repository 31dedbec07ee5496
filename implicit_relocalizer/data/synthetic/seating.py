# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Furniture to sit and work at: sofa, chairs, tables, a desk, lamps."""

from __future__ import annotations

import numpy as np

from implicit_relocalizer.data.synthetic.artwork import Canvas, words
from implicit_relocalizer.data.synthetic.items import (
    DARK,
    STEEL,
    WHITE,
    Item,
    bulb,
    cloth_color,
    mug,
    papers,
    pile_of_books,
    vase,
    wood_color,
)
from implicit_relocalizer.data.synthetic.patches import (
    Material,
    Patch,
    Picture,
    box,
    cushion,
    cylinder,
    lathe,
    moved,
    quad,
    soft_box,
    tube,
)
from implicit_relocalizer.data.synthetic.textures import Kit, hsv, shaded


def sofa(kit: Kit) -> Item:
    """A sofa of two or three seats with patterned cushions."""
    seats = kit.integer(2, 3)
    arm, seat, depth = 0.18, kit.uniform(0.6, 0.68), kit.uniform(0.82, 0.92)
    width = seats * seat + 2 * arm
    color = cloth_color(kit)
    cloth, x0, height = kit.cloth(color), -width / 2, kit.uniform(0.76, 0.86)
    patches = soft_box([x0, -depth, 0.08], [-x0, -0.04, 0.3], 0.03, cloth)
    patches += soft_box([x0 + arm, -0.26, 0.25], [-x0 - arm, -0.03, height], 0.08, cloth)
    for left in (x0, -x0 - arm):
        patches += soft_box([left, -depth, 0.08], [left + arm, -0.03, 0.6], 0.06, cloth)
    for i in range(seats):
        left = x0 + arm + i * seat
        patches += soft_box([left + 0.006, -depth - 0.01, 0.29],
                            [left + seat - 0.006, -0.24, 0.45], 0.05, kit.cloth(color))
    for x in (x0 + 0.1, -x0 - 0.1):
        for y in (-depth + 0.1, -0.15):
            patches += cylinder((x, y, 0), 0.02, 0.09, kit.plain(DARK), segments=8)
    for i in range(seats + 1):
        x = x0 + arm + 0.2 + i * (width - 2 * arm - 0.4) / seats + kit.uniform(-0.05, 0.05)
        colors = [cloth_color(kit, 0.4, 0.9), WHITE, cloth_color(kit, 0.2, 0.8)]
        size = kit.uniform(0.36, 0.44)
        pillow = moved(cushion((size, size, 0.16), kit.patterned_cloth(colors)), tilt=0.3)
        patches += moved(pillow, (x, -0.38, 0.45 + 0.45 * size), yaw=kit.uniform(-0.35, 0.35))
    return Item(patches, width, depth + 0.02, height)


def armchair(kit: Kit) -> Item:
    """An upholstered chair with a cushion."""
    cloth, w = kit.cloth(cloth_color(kit, 0.35, 0.75)), 0.38
    patches = soft_box([-w, -0.75, 0.12], [w, -0.08, 0.42], 0.06, cloth)
    patches += soft_box([-w, -0.24, 0.3], [w, -0.06, 0.92], 0.07, cloth)
    for left in (-w - 0.03, w - 0.09):
        patches += soft_box([left, -0.73, 0.14], [left + 0.12, -0.1, 0.6], 0.05, cloth)
    for x in (-0.3, 0.3):
        for y in (-0.68, -0.15):
            patches += cylinder((x, y, 0), 0.018, 0.13, kit.wood(wood_color(kit)), segments=8)
    colors = [cloth_color(kit, 0.4, 0.9), WHITE, cloth_color(kit, 0.2, 0.5)]
    pillow = moved(cushion((0.4, 0.4, 0.15), kit.patterned_cloth(colors)), tilt=0.3)
    patches += moved(pillow, (0, -0.36, 0.6))
    return Item(patches, 0.84, 0.78, 0.92)


def chair(kit: Kit, wood: Material, cloth: Material) -> list[Patch]:
    """A chair whose sitter looks along -y; middle of the seat at the origin."""
    patches: list[Patch] = []
    for x in (-0.2, 0.175):
        patches += box([x, -0.2, 0], [x + 0.028, -0.172, 0.44], wood, omit=('bottom',))
        patches += box([x, 0.172, 0], [x + 0.028, 0.2, 0.88], wood, omit=('bottom',))
    patches += soft_box([-0.21, -0.21, 0.43], [0.21, 0.2, 0.475], 0.02, cloth, omit=())
    for low in (0.56, 0.68, 0.8):
        patches += box([-0.175, 0.178, low], [0.178, 0.194, low + 0.06], wood)
    return patches


def table_group(kit: Kit) -> Item:
    """A dining table with chairs, laid with things; middle of the table at the origin."""
    width, depth, height = kit.uniform(1.15, 1.35), kit.uniform(0.75, 0.85), 0.74
    color = wood_color(kit)
    wood, x0, y0 = kit.wood(color, 1.1), -width / 2, -depth / 2
    patches = box([x0, y0, height - 0.035], [-x0, -y0, height], wood)
    for x in (x0 + 0.04, -x0 - 0.1):
        for y in (y0 + 0.04, -y0 - 0.1):
            patches += box([x, y, 0], [x + 0.06, y + 0.06, height - 0.035], wood,
                           omit=('bottom', 'top'))
    runner = kit.patterned_cloth([cloth_color(kit, 0.5, 0.9), WHITE, cloth_color(kit)])
    patches.append(quad([x0 + 0.1, 0.16, height + 0.003], [width - 0.2, 0, 0], [0, -0.32, 0],
                        runner))
    patches += moved(vase(kit, 0.26), (kit.uniform(-0.2, 0.2), 0, height))
    patches += moved(mug(kit), (x0 + 0.25, -0.22, height))
    patches += moved(papers(kit, 3), (-x0 - 0.35, kit.uniform(-0.1, 0.1), height))
    patches += moved(pile_of_books(kit), (x0 + 0.3, 0.2, height))
    seat_cloth = kit.cloth(cloth_color(kit))
    seat_wood = kit.wood(wood_color(kit))
    for x in (-0.27, 0.27):
        for side in (-1, 1):
            y = side * (depth / 2 + kit.uniform(0.0, 0.12))
            turn = (0.0 if side > 0 else np.pi) + kit.uniform(-0.2, 0.2)
            patches += moved(chair(kit, seat_wood, seat_cloth),
                             (x + kit.uniform(-0.03, 0.03), y, 0), yaw=turn)
    return Item(patches, width, depth + 0.64, 0.9)


def coffee_table(kit: Kit) -> Item:
    """A low round table with things on it, middle at the origin."""
    radius, height = kit.uniform(0.3, 0.36), kit.uniform(0.4, 0.46)
    wood = kit.wood(wood_color(kit), 1.1)
    patches = [lathe([(radius, height), (radius, height - 0.03), (1e-3, height - 0.03)], wood,
                     segments=28), *_round_top(kit, radius, height)]
    for angle in np.arange(3) * 2.09:
        top = 0.7 * radius * np.array([np.cos(angle), np.sin(angle)])
        patches.append(tube([[*(1.25 * top), 0], [*top, height - 0.03]], 0.018, wood))
    patches += moved(mug(kit), (0.12, 0.1, height))
    patches += moved(pile_of_books(kit), (-0.08, -0.05, height))
    return Item(patches, 2 * radius, 2 * radius, height)


def _round_top(kit: Kit, radius: float, height: float) -> list[Patch]:
    """The top as a square of wood squeezed into a disc, so that the grain runs straight."""
    u, v = np.meshgrid(np.linspace(-1, 1, 17), np.linspace(1, -1, 17))
    x = u * np.sqrt(1 - v ** 2 / 2) * radius
    y = v * np.sqrt(1 - u ** 2 / 2) * radius
    points = np.stack([x, y, np.full_like(x, height)], axis=2)
    wood = kit.wood(wood_color(kit), 1.2)
    return [Patch(points, wood(2 * radius, 2 * radius))]


def desk(kit: Kit) -> Item:
    """A desk with a screen, keyboard, lamp and papers, and an office chair before it."""
    width, depth, height = kit.uniform(1.35, 1.6), kit.uniform(0.66, 0.74), 0.73
    wood, x0 = kit.wood(wood_color(kit)), -width / 2
    patches = box([x0, -depth, height - 0.03], [-x0, 0, height], wood)
    patches += box([x0 + 0.02, -depth + 0.05, 0], [x0 + 0.05, -0.03, height - 0.03], wood)
    patches += box([-x0 - 0.42, -depth + 0.05, 0.03], [-x0 - 0.02, -0.03, height - 0.03], wood)
    for i in range(3):
        low = 0.06 + 0.21 * i
        patches += box([-x0 - 0.41, -depth + 0.03, low], [-x0 - 0.03, -depth + 0.05, low + 0.2],
                       kit.wood(wood_color(kit) if i == 1 else WHITE, 0.5))
        patches += box([-x0 - 0.28, -depth + 0.015, low + 0.14],
                       [-x0 - 0.16, -depth + 0.03, low + 0.155], kit.plain(DARK))
    patches += moved(monitor(kit), (-0.12, -0.2, height), yaw=kit.uniform(-0.15, 0.15))
    patches += box([-0.34, -0.55, height], [0.1, -0.41, height + 0.018], kit.plain(DARK),
                   faces={'top': _keyboard(kit)}, omit=('bottom',))
    patches += box([0.17, -0.52, height], [0.23, -0.42, height + 0.025], kit.plain(DARK))
    patches += moved(papers(kit, 3), (0.42, -0.4, height))
    patches += moved(mug(kit), (x0 + 0.2, -0.5, height))
    patches += moved(pile_of_books(kit), (x0 + 0.2, -0.18, height))
    lamp_patches, position = _desk_lamp(kit)
    patches += moved(lamp_patches, (-x0 - 0.25, -0.15, height))
    patches += moved(office_chair(kit), (kit.uniform(-0.2, 0.1), -depth - 0.12, 0),
                     yaw=np.pi + kit.uniform(-0.5, 0.5))
    cable = np.linspace(0, 1, 12)
    patches.append(tube(np.stack([0.1 + 0.3 * cable, -0.05 + 0.02 * np.sin(9 * cable),
                                  0.72 - 0.65 * np.sin(np.pi * cable / 2)], axis=1), 0.006,
                        kit.plain(DARK)))
    light = bulb(position + np.array([-x0 - 0.25, -0.15, height]), 2.0, 0.5)
    return Item(patches, width, depth + 0.42, height + 0.5, [light])


def monitor(kit: Kit) -> list[Patch]:
    """A computer screen with windows of text, standing on z = 0."""
    w, h = 0.29, 0.34
    patches = box([-0.12, -0.09, 0], [0.12, 0.09, 0.015], kit.plain(DARK))
    patches += box([-0.025, 0.0, 0], [0.025, 0.03, 0.2], kit.plain(DARK))
    patches += box([-w, -0.03, 0.12], [w, 0.005, 0.12 + h], kit.plain(DARK))
    patches.append(quad([-w + 0.01, -0.0315, 0.11 + h], [2 * w - 0.02, 0, 0], [0, 0, -h + 0.03],
                        _screen(kit), glows=True))
    return patches


def _screen(kit: Kit) -> Material:
    kit = kit.child()

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, hsv(kit.uniform(0.5, 0.7), 0.5, 0.4), 1.4)
        for left, color in ((0.06, (0.1, 0.11, 0.14)), (0.9, WHITE)):
            canvas.rectangle(left, 0.08, left + 0.75, 0.9, color)
            canvas.rectangle(left, 0.08, left + 0.75, 0.13, (0.6, 0.6, 0.65))
            for i in range(15):
                ink = hsv(kit.uniform(0, 1), 0.5, 0.9 if left < 0.5 else 0.3)
                indent = left + 0.04 + 0.06 * kit.integer(0, 3)
                canvas.text(indent, 0.15 + 0.048 * i, words(kit, 2), 0.042, ink)
        return canvas.picture()
    return paint


def _keyboard(kit: Kit) -> Material:
    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, DARK, 1.3)
        for row in range(5):
            for column in range(14):
                x, y = 0.05 + column * (canvas.aspect - 0.08) / 14, 0.06 + 0.18 * row
                canvas.rectangle(x, y, x + 0.16, y + 0.14, (0.35, 0.35, 0.37))
        return canvas.picture()
    return paint


def _desk_lamp(kit: Kit) -> tuple[list[Patch], np.ndarray]:
    color = kit.plain(hsv(kit.uniform(0, 1), 0.6, 0.6))
    path = np.array([[0, 0, 0.02], [0.03, 0, 0.22], [-0.02, -0.02, 0.36], [-0.18, -0.06, 0.42]])
    patches = [*cylinder((0, 0, 0), 0.08, 0.02, color), tube(path, 0.009, color)]
    head = [lathe([(0.025, 0.06), (0.07, -0.05)], color, two_sided=True, casts_shadow=False)]
    patches += moved(head, path[-1])
    return patches, path[-1] + np.array([0, 0, -0.03])


def office_chair(kit: Kit) -> list[Patch]:
    """A swivel chair on five feet; its sitter looks along -y."""
    cloth, dark = kit.cloth(cloth_color(kit, 0.2, 0.6), 0.1), kit.plain(DARK)
    patches = soft_box([-0.24, -0.24, 0.42], [0.24, 0.24, 0.5], 0.035, cloth, omit=())
    patches += moved(soft_box([-0.22, -0.03, 0], [0.22, 0.04, 0.5], 0.03, cloth, omit=()),
                     (0, 0.24, 0.56), tilt=0.1)
    patches += box([-0.03, 0.2, 0.4], [0.03, 0.26, 0.7], dark)
    patches += cylinder((0, 0, 0.08), 0.03, 0.35, kit.plain(STEEL), segments=10)
    for angle in np.arange(5) * 2 * np.pi / 5:
        tip = 0.28 * np.array([np.cos(angle), np.sin(angle)])
        patches.append(tube([[0, 0, 0.1], [*tip, 0.06]], 0.02, dark))
        patches += cylinder((*tip, 0), 0.028, 0.055, dark, segments=8)
    return patches


def floor_lamp(kit: Kit) -> Item:
    """A standing lamp with a lit shade."""
    height, shade = kit.uniform(1.45, 1.65), kit.uniform(0.17, 0.22)
    dark = kit.plain(DARK)
    patches = [*cylinder((0, 0, 0), 0.14, 0.025, dark), *cylinder((0, 0, 0), 0.012, height, dark),
               lathe([(0.72 * shade, height + 0.12), (shade, height - 0.14)], _shade(kit),
                     glows=True, casts_shadow=False)]
    light = bulb([0, -0.24, height], 5.5, 0.55)
    return Item(moved(patches, (0, -0.24, 0)), 0.46, 0.46, height + 0.15, [light])


def pendant(kit: Kit, ceiling_m: float, drop_m: float) -> Item:
    """A lamp hanging from the ceiling over the origin."""
    z, radius = ceiling_m - drop_m, kit.uniform(0.18, 0.24)
    patches = [tube([[0, 0, ceiling_m], [0, 0, z + 0.1]], 0.006, kit.plain(DARK)),
               lathe([(0.03, z + 0.14), (0.6 * radius, z + 0.1), (radius, z - 0.06)], _shade(kit),
                     glows=True, casts_shadow=False)]
    return Item(patches, 0.4, 0.4, ceiling_m, [bulb([0, 0, z - 0.08], 8.0, 0.45)])


def _shade(kit: Kit) -> Material:
    kit = kit.child()
    tint = hsv(kit.uniform(0.03, 0.16), kit.uniform(0.15, 0.45), 1.0)

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, tint)
        for x in np.arange(0, canvas.aspect, 0.35):
            canvas.line([(x, 0), (x, 1)], 0.05, shaded(tint, 0.82))
        canvas.rectangle(0, 0, canvas.aspect, 0.07, shaded(tint, 0.6))
        return canvas.picture()
    return paint
