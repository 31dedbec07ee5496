# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""Furniture that holds things: shelves, sideboards, wardrobes, boxes."""

from __future__ import annotations

import numpy as np

from implicit_relocalizer.data.synthetic.artwork import Canvas, art, words
from implicit_relocalizer.data.synthetic.decor import picture_frame
from implicit_relocalizer.data.synthetic.items import (
    DARK,
    STEEL,
    WHITE,
    Item,
    foliage,
    lettering,
    mug,
    pile_of_books,
    row_of_books,
    vase,
    wood_color,
)
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
)
from implicit_relocalizer.data.synthetic.textures import Kit, hsv, shaded


def bookshelf(kit: Kit) -> Item:
    """An open bookcase of four to six boards, full of books and things."""
    width, depth = kit.uniform(0.8, 1.05), kit.uniform(0.28, 0.34)
    height, boards = kit.uniform(1.75, 2.1), kit.integer(4, 5)
    wood = kit.wood(wood_color(kit), 0.8)
    x0, x1, t = -width / 2, width / 2, 0.022
    patches = box([x0, -depth, 0], [x0 + t, 0, height], wood)
    patches += box([x1 - t, -depth, 0], [x1, 0, height], wood)
    patches.append(quad([x0, -0.012, height], [width, 0, 0], [0, 0, -height], wood))
    gap = (height - 0.08) / boards
    for i in range(boards + 1):
        z = 0.06 + i * gap
        patches += box([x0 + t, -depth, z - t], [x1 - t, -0.012, z], wood,
                       omit=('left', 'right', 'back'))
        if i < boards:
            patches += moved(_shelf_content(kit, width - 2 * t, gap - 0.04, depth),
                             (x0 + t, -depth + 0.02, z))
    if kit.chance(0.6):
        patches += moved(pile_of_books(kit), (0.2 * width, -depth / 2, height))
    return Item(patches, width, depth, height + 0.15)


def _shelf_content(kit: Kit, width: float, room: float, depth: float) -> list[Patch]:
    kind = kit.integer(0, 5)
    if kind <= 2:
        return row_of_books(kit, width, room, depth)
    if kind == 3:
        books = row_of_books(kit, 0.55 * width, room, depth)
        return books + moved(vase(kit, 0.8 * room), (0.72 * width, depth / 2 - 0.03, 0)) + moved(
            mug(kit), (0.9 * width, 0.07, 0))
    if kind == 4:
        patches: list[Patch] = []
        for i in range(3):
            color = hsv(kit.uniform(0, 1), 0.4, kit.uniform(0.4, 0.8))
            x = (i + 0.08) * width / 3
            label = lettering(kit, words(kit, 1).title(), DARK, WHITE)
            patches += box([x, 0.01, 0], [x + 0.28 * width, depth - 0.06, 0.7 * room],
                           kit.cloth(color), omit=('bottom', 'back'))
            patches.append(quad([x + 0.06 * width, 0.008, 0.5 * room], [0.15 * width, 0, 0],
                                [0, 0, -0.18 * room], label))
        return patches
    framed = picture_frame(kit, 0.75 * room, 0.9 * room)
    return moved(framed, (0.22 * width, 0.12, 0.47 * room), tilt=0.15) + moved(
        pile_of_books(kit), (0.66 * width, 0.12, 0))


def sideboard(kit: Kit) -> Item:
    """A low cabinet with drawers or doors and things on top."""
    width, depth, height = kit.uniform(1.3, 1.7), kit.uniform(0.4, 0.46), kit.uniform(0.66, 0.85)
    color = wood_color(kit)
    body, front = kit.wood(color, 0.9), kit.wood(color if kit.chance(0.5) else WHITE, 0.6)
    x0 = -width / 2
    patches = box([x0, -depth, 0.1], [-x0, 0, height], body, omit=('back',))
    for x in (x0 + 0.06, -x0 - 0.06):
        for y in (-depth + 0.06, -0.06):
            patches += cylinder((x, y, 0), 0.018, 0.1, kit.plain(DARK), segments=8)
    columns, rows = kit.integer(2, 4), kit.integer(1, 3)
    w, h = width / columns, (height - 0.16) / rows
    for i in range(columns):
        for j in range(rows):
            left, low = x0 + i * w + 0.012, 0.13 + j * h + 0.006
            patches += box([left, -depth - 0.018, low],
                           [left + w - 0.024, -depth, low + h - 0.012], front, omit=('back',))
            patches += box([left + w / 2 - 0.07, -depth - 0.035, low + h - 0.06],
                           [left + w / 2 + 0.05, -depth - 0.018, low + h - 0.045],
                           kit.plain(DARK), omit=('back',))
    top = height
    patches += moved(pile_of_books(kit), (x0 + 0.25, -depth / 2, top))
    patches += moved(vase(kit, kit.uniform(0.25, 0.36)), (x0 + 0.62, -depth / 2, top))
    if kit.chance(0.7):
        patches += moved(picture_frame(kit, 0.26, 0.34), (0.3, -0.1, top + 0.17), tilt=0.2)
    patches += moved(potted_plant(kit, 0.38).patches, (-x0 - 0.22, -depth / 2 + 0.18, top))
    return Item(patches, width, depth + 0.04, height + 0.4)


def television(kit: Kit) -> Item:
    """A bench with a television set that shows a picture."""
    width, depth, height = kit.uniform(1.4, 1.7), 0.42, kit.uniform(0.4, 0.5)
    wood, x0 = kit.wood(wood_color(kit)), -width / 2
    patches = box([x0, -depth, height - 0.03], [-x0, 0, height], wood)
    patches += box([x0, -depth, 0.05], [-x0, 0, 0.08], wood)
    for x in (x0, -0.012, -x0 - 0.025):
        patches += box([x, -depth, 0.0], [x + 0.025, 0, height - 0.03], wood)
    patches += moved(row_of_books(kit, 0.4 * width, height - 0.17, 0.3),
                     (x0 + 0.04, -depth + 0.05, 0.08))
    patches += box([0.1, -depth + 0.06, 0.08], [0.52, -0.06, 0.16], kit.plain(DARK),
                   faces={'front': lettering(kit, ' 20:45  ||', (0.3, 0.9, 0.5), DARK)})
    w, h, z = kit.uniform(0.5, 0.58), 0.31, height + 0.09
    patches += box([-0.2, -0.3, height], [0.2, -0.12, height + 0.015], kit.plain(DARK))
    patches += box([-0.04, -0.2, height], [0.04, -0.17, z], kit.plain(DARK))
    patches += box([-w, -0.22, z], [w, -0.18, z + 2 * h], kit.plain(DARK))
    patches.append(quad([-w + 0.02, -0.2215, z + 2 * h - 0.02], [2 * w - 0.04, 0, 0],
                        [0, 0, -2 * h + 0.045], art(kit, [1, 6, 3][kit.integer(0, 2)]),
                        glows=True))
    return Item(patches, width, depth, z + 2 * h)


def wardrobe(kit: Kit) -> Item:
    """A tall cabinet with two doors and a suitcase on top."""
    width, depth, height = kit.uniform(0.95, 1.2), kit.uniform(0.5, 0.58), kit.uniform(1.85, 2.0)
    color = wood_color(kit) if kit.chance(0.6) else hsv(kit.uniform(0, 1), 0.2, 0.75)
    wood, x0 = kit.wood(color), -width / 2
    patches = box([x0, -depth, 0.0], [-x0, 0, height], wood, omit=('back', 'bottom'))
    for side in (0, 1):
        left = x0 + side * width / 2 + 0.01
        patches += box([left, -depth - 0.02, 0.09],
                       [left + width / 2 - 0.02, -depth, height - 0.03], kit.wood(color),
                       omit=('back',))
        for low, high in ((0.2, 0.9), (1.0, height - 0.15)):
            patches += shadowless(box([left + 0.08, -depth - 0.026, low],
                                      [left + width / 2 - 0.1, -depth - 0.02, high],
                                      kit.wood(shaded(color, 0.8)), omit=('back',)))
        knob = left + (width / 2 - 0.05 if side == 0 else 0.03)
        patches += box([knob, -depth - 0.05, 0.85], [knob + 0.015, -depth - 0.02, 1.0],
                       kit.plain(STEEL))
    case = hsv(kit.uniform(0, 1), 0.6, 0.45)
    patches += box([x0 + 0.1, -depth + 0.05, height], [x0 + 0.72, -0.1, height + 0.24],
                   kit.cloth(case))
    patches += box([x0 + 0.3, -depth + 0.04, height + 0.08],
                   [x0 + 0.5, -depth + 0.05, height + 0.16],
                   lettering(kit, words(kit, 1).upper(), WHITE, DARK))
    return Item(patches, width, depth + 0.05, height + 0.25)


def cartons(kit: Kit) -> Item:
    """A stack of printed cardboard boxes."""
    patches: list[Patch] = []
    z = 0.0
    for i in range(kit.integer(2, 3)):
        w, d, h = (kit.uniform(*b) for b in ((0.38, 0.5), (0.3, 0.38), (0.22, 0.36)))
        sides = {name: _carton_print(kit) for name in ('front', 'left', 'right', 'top')}
        patches += moved(box([-w / 2, -d / 2, z], [w / 2, d / 2, z + h],
                             kit.plain((0.72, 0.56, 0.38)), faces=sides, omit=('bottom',)),
                         (kit.uniform(-0.03, 0.03), -0.25, 0), yaw=kit.uniform(-0.15, 0.15))
        z += h
        if i == 0 and kit.chance(0.4):
            break
    return Item(patches, 0.56, 0.48, z)


def _carton_print(kit: Kit) -> Material:
    kit = kit.child()

    def paint(width_m: float, height_m: float) -> Picture:
        canvas = Canvas(kit, width_m, height_m, (0.74, 0.58, 0.4))
        a, ink = canvas.aspect, (0.3, 0.2, 0.14)
        canvas.rectangle(a * 0.44, 0, a * 0.56, 1, (0.8, 0.68, 0.5))
        canvas.text(0.1, 0.12, words(kit, 1).upper(), 0.2, ink)
        canvas.text(0.1, 0.75, f'NO. {kit.integer(100, 9999)}', 0.12, ink)
        canvas.polygon([(a - 0.3, 0.9), (a - 0.2, 0.65), (a - 0.1, 0.9)], ink)
        canvas.rectangle(0.1, 0.45, 0.1 + 0.4 * a, 0.65, WHITE)
        canvas.text(0.12, 0.48, words(kit, 2), 0.1, DARK)
        return canvas.picture(0.04, kit.rng)
    return paint


def potted_plant(kit: Kit, size_m: float) -> Item:
    """A plant of about that height in a pot."""
    pot, radius = 0.34 * size_m, 0.2 * size_m
    color = hsv(kit.uniform(0, 1), kit.uniform(0.1, 0.6), kit.uniform(0.5, 0.85))
    material = kit.patterned_cloth([color, WHITE]) if kit.chance(0.5) else kit.plain(color, 0.06)
    patches = [lathe([(radius, pot), (0.72 * radius, 0)], material, segments=18),
               lathe([(1e-3, 0.93 * pot), (radius, 0.93 * pot)], kit.plain((0.2, 0.14, 0.1), 0.2))]
    patches += moved(foliage(kit, kit.integer(13, 18), 0.42 * size_m, 0.62 * size_m),
                     (0, 0, 0.9 * pot))
    reach = 0.45 * size_m
    return Item(moved(patches, (0, -reach, 0)), 1.7 * reach, 1.8 * reach, size_m)


def waste_bin(kit: Kit) -> Item:
    """A small bin."""
    color = hsv(kit.uniform(0, 1), 0.3, kit.uniform(0.25, 0.6))
    patches = [lathe([(0.14, 0.32), (0.11, 0.0)], kit.patterned_cloth([color, DARK])),
               lathe([(1e-3, 0.24), (0.13, 0.24)], kit.plain(WHITE, 0.3))]
    return Item(moved(patches, (0, -0.17, 0)), 0.3, 0.32, 0.32)


def wall_shelf(kit: Kit, width: float) -> list[Patch]:
    """A board on the wall with books and a plant, from z = 0 upwards."""
    wood = kit.wood(wood_color(kit))
    patches = box([-width / 2, -0.2, 0], [width / 2, 0, 0.025], wood, omit=('back',))
    patches += moved(row_of_books(kit, 0.62 * width, 0.26, 0.18),
                     (-width / 2 + 0.03, -0.19, 0.025))
    patches += moved(vase(kit, 0.2), (0.36 * width, -0.1, 0.025))
    for x in np.array([-0.4, 0.4]) * width:
        patches += box([x, -0.16, -0.12], [x + 0.015, 0, 0.0], kit.plain(DARK), omit=('back',))
    return patches
